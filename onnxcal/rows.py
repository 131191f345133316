"""The door for a user's logits and labels: from arrays of any layout to rows, checked once.

What comes out can be trusted inside: any class axis, dense heads, one-hot and soft labels have become one row a sample.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.errors import DataError
from onnxcal.logits import (
    FloatArray,
    LabelArray,
    Labels,
    Logits,
    Sample,
    Task,
    all_finite,
    as_array,
    take_rows,
    value_chunks,
)

SOFT_LABEL_TOLERANCE = 1e-3
"""How far the sum of a soft label may be from 1: float16 and rounded decimals are; it is then brought to 1."""
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


def as_rows(array: NDArray[Any], task: Task, axis: int, *, flatten: bool = False) -> NDArray[Any]:
    """An array of the logits' shape in the order of `logit_rows`, whatever it holds."""
    if task == "binary":
        return array.reshape(-1)
    if flatten:
        return array.reshape(int(np.prod(array.shape[:axis])), -1)
    return np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])


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


def label_rows(
    labels: NDArray[Any], shape: tuple[int, ...], task: Task, axis: int, *, flatten: bool = False
) -> LabelArray:
    """Labels for logits of `shape` as rows: int64 (N,), or float64 of the logit rows' shape.

    Raises
    ------
    DataError
        The labels are not integers, or their shape does not fit.
    """
    return label_values(arranged_labels(labels, shape, task, axis, flatten=flatten), task)


def arranged_labels(
    labels: NDArray[Any], shape: tuple[int, ...], task: Task, axis: int, *, flatten: bool = False
) -> NDArray[Any]:
    """Labels for logits of `shape` in the order of their rows, as they are: (N,), or one number a class.

    Raises
    ------
    DataError
        Their shape does not fit.
    """
    if task == "binary":
        return _fit(labels, shape, shape).reshape(-1)
    if task == "multilabel":
        return as_rows(_fit(labels, shape, shape), task, axis)
    sample_shape = shape[:axis] if flatten else shape[:axis] + shape[axis + 1 :]
    if labels.shape == shape and labels.shape != sample_shape:
        return as_rows(labels, task, axis, flatten=flatten)
    return _fit(labels, sample_shape, shape, axis=axis).reshape(-1)


def label_values(arranged: NDArray[Any], task: Task) -> LabelArray:
    """Labels that stand in the order of the rows as class indices, one-hot rows too; or as float64.

    Raises
    ------
    DataError
        They are no numbers of that kind.
    """
    if task != "multiclass":
        return _as_numbers(arranged)
    return _as_indices(arranged) if arranged.ndim == 1 else _from_one_hot(_as_numbers(arranged))


def kept_rows(labels: LabelArray, ignore_index: int) -> NDArray[np.bool_]:
    """Which rows `--ignore-index` leaves.

    Raises
    ------
    DataError
        The labels are soft or multilabel: no single label to compare.
    """
    if labels.ndim != 1:
        raise DataError(
            "--ignore-index needs one label a sample, but the labels are soft or multilabel",
            hint="drop --ignore-index, or leave those samples out of the data",
        )
    keep: NDArray[np.bool_] = labels != ignore_index
    return keep


def check_label_values(labels: LabelArray, task: Task, rows_shape: tuple[int, ...]) -> None:
    """Class indices in [0, K); soft labels ≥ 0 that sum to 1; flags of binary and multilabel in [0, 1].

    Raises
    ------
    DataError
        With the first offending label and its position.
    """
    if labels.size == 0:
        return
    if labels.dtype == np.int64:
        num_classes = rows_shape[1]
        if labels.min() < 0 or labels.max() >= num_classes:
            bad = (labels < 0) | (labels >= num_classes)
            first = int(np.argmax(bad))
            raise DataError(
                f"label {int(labels[first])} of sample {first} is outside 0…{num_classes - 1} ({num_classes} classes)",
                hint=_range_hint(labels.astype(np.int64), num_classes),
            )
        return
    bad = ~((labels >= 0) & (labels <= 1))
    if bad.any():
        position = tuple(int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            f"label {float(labels[position]):g} of sample {position[0]} is not between 0 and 1",
            hint=f"{task} labels are 0 or 1, or probabilities"
            + ("" if labels.ndim > 1 else "; use --ignore-index to drop a marker value"),
        )
    if task == "multiclass":
        sums = labels.sum(axis=1)
        off = np.abs(sums - 1) > SOFT_LABEL_TOLERANCE
        if off.any():
            first = int(np.argmax(off))
            raise DataError(
                f"the soft label of sample {first} sums to {sums[first]:.6g}, expected 1",
                hint="pass class indices, one-hot rows or probabilities; or --task multilabel for independent labels",
            )


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


def _fit(
    labels: NDArray[Any], wanted: tuple[int, ...], logits: tuple[int, ...], axis: int | None = None
) -> NDArray[Any]:
    """`labels` in the shape `wanted`, where they differ only in axes of length 1 or in being flattened."""
    if labels.shape == wanted:
        return labels
    if len(wanted) == 1 and labels.ndim > 1 and labels.size == wanted[0]:  # logits flattened in the labels' order
        return labels.reshape(wanted)
    if labels.ndim == 0:
        raise DataError("labels are a single number, expected one a sample", hint="pass an array of labels")
    squeezed = tuple(d for d in labels.shape if d != 1)
    if squeezed == tuple(d for d in wanted if d != 1) or (labels.ndim == 1 and labels.size == int(np.prod(wanted))):
        return labels.reshape(wanted)
    hint = "labels are class indices, one a sample; or one-hot, soft or 0/1 labels in the logits' own shape"
    if len(logits) > 1 and len(labels) != logits[0] and labels.ndim == len(wanted):
        hint = f"there must be one label a sample: {len(labels):,} labels for {logits[0]:,} rows"
    elif axis is not None:
        other = [a for a in range(1, len(logits)) if a != axis and logits[:a] + logits[a + 1 :] == labels.shape]
        if other:
            hint = f"they would fit the class axis {other[0]}: pass --axis {other[0]}"
    raise DataError(f"labels of shape {labels.shape} do not fit logits of shape {logits}, expected {wanted}", hint=hint)


def _as_numbers(labels: NDArray[Any]) -> NDArray[np.float64]:
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise DataError("labels contain NaN or infinity", hint="drop those samples")
    return labels.astype(np.float64)


def _as_indices(labels: NDArray[Any]) -> NDArray[np.int64]:
    if labels.dtype.kind == "f":
        whole = labels == np.floor(labels)  # False for NaN; infinities are out of range
        if not (whole & np.isfinite(labels)).all():
            first = int(np.argmin(whole & np.isfinite(labels)))
            raise DataError(
                f"label {float(labels[first])} of sample {first} is not a class index",
                hint="labels are integers from 0; probabilities need the logits' own shape (N, K)",
            )
    if labels.dtype == np.uint64 and labels.size and int(labels.max()) > np.iinfo(np.int64).max:
        raise DataError("labels are too large for class indices", hint="labels are integers from 0 to K - 1")
    return labels.astype(np.int64)


def _from_one_hot(rows: NDArray[np.float64]) -> LabelArray:
    one_hot = bool(((rows == 0) | (rows == 1)).all() and (rows.sum(axis=1) == 1).all())
    if one_hot:
        return np.asarray(rows.argmax(axis=1), np.int64)
    sums = rows.sum(axis=1, keepdims=True)
    almost_one = np.abs(sums - 1) <= SOFT_LABEL_TOLERANCE
    return rows / np.where(almost_one, sums, 1.0)


def _range_hint(labels: NDArray[np.int64], num_classes: int) -> str:
    outside = np.unique(labels[(labels < 0) | (labels >= num_classes)])
    if labels.min() == 1 and labels.max() == num_classes:
        return "the labels count from 1: subtract 1"
    if len(outside) == 1:
        return f"pass --ignore-index {int(outside[0])} if {int(outside[0])} marks samples to leave out"
    return "check that the labels belong to this model's classes"
