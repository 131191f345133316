"""The door for a user's logits and labels: from arrays of any layout to rows, checked once.

What comes out can be trusted inside: any class axis, dense heads, one-hot and soft labels have become one row a sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onnxcal.errors import DataError
from onnxcal.labels import SOFT_LABEL_TOLERANCE, check_label_values, kept_rows, label_rows
from onnxcal.logits import (
    FloatArray,
    LabelArray,
    Labels,
    Logits,
    Sample,
    Task,
    all_finite,
    as_array,
    as_rows,
    take_rows,
    value_chunks,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

GRID_TOLERANCE, GRID_SUM_TOLERANCE = 1e-3, 0.05
"""Of 8-bit probabilities: how far from a step, in steps; and their sum from 1."""
PASS_LOGITS = "pass their logarithm: np.log(p) are logits of the same softmax"
_MANY = 50
"""Samples from which on logits that are all between 0 and 1 are no accident."""


def labelled(
    logits: Any,
    labels: Any,
    *,
    task: Task | None = None,
    axis: int | None = None,
    ignore_index: int | None = None,
    weight: Any = None,
    part: bool = False,
) -> Sample:
    """Check a user's logits and labels and bring them to rows.

    Parameters
    ----------
    logits : array_like of shape (N, K), (N, K, d1, …), (N,) or (N, 1), float16, float32 or float64.
    labels : array_like of class indices (N,) or (N, d1, …); or one-hot, soft or 0/1 labels of the logits' shape.
    task : default binary for (N,) and (N, 1), else multiclass.
    axis : the class axis, default 1.
    ignore_index : samples with this label are dropped.
    weight : array_like (N,), ≥ 0, how much each sample counts, None for 1.
    part : whether this is one batch of several: it may be empty, and its rows may sum to 1 by chance.

    Raises
    ------
    DataError
        Shapes that do not fit, labels out of range, NaN or infinite logits, an empty set.
    """
    values = as_array(logits, "logits")
    task = task or task_of_shape(values.shape)
    axis = default_axis(values.ndim) if axis is None else axis + values.ndim * (axis < 0)
    rows = logit_rows(values, task, axis)
    truth = label_rows(as_array(labels, "labels"), values.shape, task, axis)
    first = 1 if axis == 0 and values.ndim > 1 else 0  # the axis of samples
    positions = len(rows) // max(1, values.shape[first])
    group = np.repeat(np.arange(values.shape[first]), positions) if positions > 1 else None
    weights = None if weight is None else np.repeat(_sample_weights(weight, values.shape[first]), positions)
    if ignore_index is not None:
        keep = kept_rows(truth, ignore_index)
        if not keep.all():
            rows, truth = take_rows(rows, np.flatnonzero(keep)), truth[keep]
        group = None if group is None else group[keep]
        weights = None if weights is None else weights[keep]
    check_label_values(truth, task, rows.shape)
    check_logits(rows, truth, task)
    if not part and (len(rows) == 0 or (weights is not None and not weights.any())):
        raise DataError("there are no labelled samples", hint="pass at least one sample whose label is not ignored")
    made = Logits(rows, task)
    if not part:
        refuse_probabilities(made, "the array of logits", PASS_LOGITS)
    return Sample(made, Labels(truth), weights, group)


def _sample_weights(weight: Any, n_samples: int) -> NDArray[np.float64]:
    weights = as_array(weight, "sample weights").astype(np.float64)
    if weights.shape != (n_samples,):
        raise DataError(
            f"sample weights of shape {weights.shape} do not fit {n_samples:,} samples", hint="pass one number a sample"
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise DataError("sample weights must be finite and not negative", hint="drop the samples that must not count")
    return weights


def task_of_shape(shape: tuple[int, ...]) -> Task:
    """Binary where there is one logit a sample, else multiclass."""
    return "binary" if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1) else "multiclass"


def default_axis(ndim: int) -> int:
    """The class axis of (N, K, d1, …), or 0 where there is only one axis."""
    return min(1, ndim - 1)


def logit_rows(values: NDArray[Any], task: Task, axis: int, *, flatten: bool = False) -> FloatArray:
    """Logits of a whole batch as rows: (N, K), or (N,) for binary; the class axis last, the others flattened in order.

    With `flatten`, all axes from `axis` on are one class axis (Softmax below opset 13).
    """
    if values.dtype.name == "bfloat16":
        values = values.astype(np.float32)
    if values.dtype.kind != "f":
        raise DataError(
            f"logits have dtype {values.dtype}, expected float16, float32 or float64", hint="convert them to float32"
        )
    if values.ndim == 0:
        raise DataError("logits are a single number, expected one row a sample", hint="pass an array of shape (N, K)")
    if task == "binary":
        return as_rows(values, task, axis)
    if not 0 <= axis < values.ndim:
        raise DataError(
            f"logits of shape {values.shape} have no class axis {axis}",
            hint="pass --task binary for one logit a sample, or another --axis",
        )
    if values.shape[axis] == 0:
        raise DataError(f"logits of shape {values.shape} have no classes on axis {axis}", hint="pass the right --axis")
    if values.shape[axis] < 2 and task == "multiclass" and not flatten:
        raise DataError(
            f"logits of shape {values.shape} have one class on axis {axis}: a softmax over it is always 1",
            hint="pass --task binary if it is one logit of a sigmoid, or the right --axis",
        )
    return as_rows(values, task, axis, flatten=flatten)


def refuse_probabilities(logits: Logits, where: str, hint: str) -> None:
    """Raise DataError if multiclass logits are probabilities.

    A softmax over probabilities has a temperature too, but one that says nothing (a double softmax).
    """
    kind = probabilities_kind(logits) if logits.task == "multiclass" else None
    if kind is not None:
        raise DataError(
            f"{where} holds {kind}, not logits: all {logits.n_samples:,} rows are ≥ 0 and have one sum", hint=hint
        )


def are_probabilities(logits: Logits) -> bool:
    """Whether multiclass logits are probabilities."""
    return logits.task == "multiclass" and probabilities_kind(logits) is not None


def probabilities_kind(logits: Logits) -> str | None:
    """What logits are if they are probabilities, by their values; None if they can be logits.

    Rows of a multiclass head that are ≥ 0 and sum to 1; or, after 8-bit quantisation, multiples of 1/255 or 1/256 that
    sum to almost 1; or either of them times 255 or 256, as 8-bit numbers are read back as integers. Of other heads,
    values in [0, 1] that are no integers, over many samples.
    """
    if not (logits.values[:8] >= 0).all():  # most logits are seen not to be at once
        return None
    exact, grid, unit = logits.task == "multiclass", logits.task == "multiclass", logits.task != "multiclass"
    unit = unit and logits.n_samples >= _MANY
    integers, scaled, whole = True, exact, exact
    for z in value_chunks(logits):
        if not (z >= 0).all():
            return None
        if logits.task == "multiclass":
            sums = z.sum(axis=1)
            exact = exact and bool((np.abs(sums - 1) <= SOFT_LABEL_TOLERANCE).all())
            steps = [np.abs(z * n - np.rint(z * n)).max() <= GRID_TOLERANCE for n in (255, 256)]
            grid = grid and any(steps) and bool((np.abs(sums - 1) <= GRID_SUM_TOLERANCE).all())
            off = np.minimum(np.abs(sums / 255 - 1), np.abs(sums / 256 - 1)).max()
            scaled = scaled and bool(off <= SOFT_LABEL_TOLERANCE)
            whole = whole and bool(off <= GRID_SUM_TOLERANCE and (z == np.rint(z)).all())
        else:
            unit = unit and bool((z <= 1).all())
            integers = integers and bool((z == np.rint(z)).all())
        if not (exact or grid or scaled or whole or unit):
            return None
    if exact or grid:
        return "probabilities" if exact else "probabilities in steps of 1/256"
    if scaled or whole:
        return "probabilities times 255"
    return None if integers else "probabilities"


def check_logits(rows: FloatArray, labels: LabelArray, task: Task) -> None:
    """No NaN, no +inf; −inf only where it masks a class that is not the label's.

    Raises
    ------
    DataError
        With the first offending logit and its position.
    """
    if all_finite(rows):
        return
    first_bad, count, first_label, step = None, 0, None, max(1, (1 << 20) // max(1, rows[:1].size))
    for start in range(0, len(rows), step):  # masks as large as the array would be copies of it
        part, y = rows[start : start + step], labels[start : start + step]
        bad = ~np.isfinite(part)
        if task == "multiclass":
            bad &= ~np.isneginf(part)
        if bad.any():
            count += int(bad.sum())
            position = np.argwhere(bad)[0]
            first_bad = first_bad or (start + int(position[0]), *map(int, position[1:]))
        elif first_label is None and task == "multiclass":
            wanted = part[np.arange(len(part)), y] if y.ndim == 1 else np.where(y > 0, part, 0.0).min(axis=1)
            if np.isneginf(wanted).any():
                first_label = start + int(np.argmax(np.isneginf(wanted)))
    if first_bad is not None:
        raise DataError(
            f"the logit at {first_bad} is {float(rows[first_bad])}; {count:,} of {rows.size:,} are not finite",
            hint="look for a division by zero or an overflow in the model, or for bad values in its inputs",
        )
    if first_label is not None:
        raise DataError(
            f"sample {first_label} is labelled with a class whose logit is -inf: its likelihood is 0 at any T",
            hint="drop that sample, or label it with a class that is not masked",
        )
