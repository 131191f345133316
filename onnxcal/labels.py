"""The door for a user's labels: from class indices, one-hot, soft or 0/1 labels of any layout to one row a sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onnxcal.errors import DataError
from onnxcal.logits import LabelArray, Task, as_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

SOFT_LABEL_TOLERANCE = 1e-3
"""How far the sum of a soft label may be from 1: float16 and rounded decimals are; it is then brought to 1."""


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
