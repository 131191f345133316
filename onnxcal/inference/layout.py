"""How an output shows its logits: which place of it belongs to which row of them, and which class to which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.errors import DataError
from onnxcal.graph.head import Complemented, Head, Selected, Transposed
from onnxcal.inference.expected import output_array, shown_elements
from onnxcal.inference.samples import samples_first
from onnxcal.logits import as_rows


@dataclass(frozen=True)
class Layout:
    """Where an output shows the rows of its logits; axes of length 1 behind the first are left out."""

    rows: NDArray[np.int64]
    """(N, d1, …): the row of the logits that each place of the output shows; samples first."""
    shape: tuple[int, ...]
    """(N, d1, …) with the class axis where it is: that of labels with a number for each class."""
    axis: int
    """The class axis in `shape`."""
    order: tuple[int, ...] | None
    """The class of the logits that each class of the output is; None if they are the same, or the output has one."""
    output: tuple[int, ...]
    """The output's own shape."""


def moves_places(head: Head) -> bool:
    """Whether an output may show its logits in another order, or some of them."""
    return any(isinstance(step, (Transposed, Selected, Complemented)) for step in head.trail)


def layout_of(
    logits: NDArray[Any], head: Head, tensors: Mapping[str, Any], batch_axis: int, n_samples: int
) -> Layout | None:
    """The layout of an output, followed element by element from the logits through the trail.

    Parameters
    ----------
    logits : the tensor of logits, of which the shape counts.
    tensors : the output, and what `shown_elements` needs, by name.
    batch_axis : the axis of the logits that counts samples.
    n_samples : samples in the tensor.

    Returns
    -------
    Layout, or None where classes and places share an axis: then all is there in the order of the logits.

    Raises
    ------
    DataError
        Labels cannot say what the output shows.
    """
    source, negated = shown_elements(logits.shape, head, tensors)
    output = output_array(tensors[head.output], head)
    if output.size == source.size:  # else the recognition says so
        source, negated = source.reshape(output.shape), negated.reshape(output.shape)
    row, index, n_rows, n_classes = _rows_and_classes(logits.shape, head, batch_axis)
    row, index = row[source], index[source]
    if head.task == "binary":
        index, n_classes = np.where(negated, 0, 1), 2
    row, index = np.squeeze(row), np.squeeze(index)
    class_axes = [axis for axis in range(row.ndim) if _is_same(row, axis)]
    places = [axis for axis in range(row.ndim) if axis not in class_axes]
    if not all(_is_same(index, axis) for axis in places):
        if not (_in_order(row, n_rows) and all(_in_order(index[row == r], n_classes) for r in (0, n_rows - 1))):
            raise DataError(
                f"'{head.output}' shows places and classes on one axis, and not in the order of its logits",
                hint="calibrate an output with an axis for classes, or pass a known --temperature to onnxcal patch",
            )
        return None
    first = tuple(0 if axis in places else slice(None) for axis in range(row.ndim))
    order = _shown_classes(index[first].reshape(-1), n_classes, head)
    rows = row[tuple(0 if axis in class_axes else slice(None) for axis in range(row.ndim))]
    per_sample = n_rows // n_samples
    ahead = _sample_axis(rows // per_sample, n_samples)
    if ahead is None:  # samples share an axis with other places
        rows = rows.reshape(-1)[np.argsort(rows.reshape(-1) // per_sample, kind="stable")]
        rows = rows.reshape(n_samples, -1) if rows.size % n_samples == 0 else rows
    else:
        rows = rows[None] if n_samples == 1 else np.moveaxis(rows, ahead, 0)
    if len(rows) != n_samples or not (rows.reshape(n_samples, -1).T // per_sample == np.arange(n_samples)).all():
        raise DataError(
            f"'{head.output}' shows only some of its samples, or in another order",
            hint="calibrate an output with one entry a sample, or pass a known --temperature to onnxcal patch",
        )
    if len(class_axes) != 1 or ahead is None:
        return Layout(rows, (*rows.shape, n_classes), rows.ndim, order, output.shape)
    behind = sum(axis < class_axes[0] for axis in places if n_samples == 1 or axis != places[ahead])
    shape = list(rows.shape)
    shape.insert(1 + behind, row.shape[class_axes[0]])
    return Layout(rows, tuple(shape), 1 + behind, order, output.shape)


def _rows_and_classes(
    shape: tuple[int, ...], head: Head, batch_axis: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int, int]:
    """Row and class of each element of the logits, counted through; and how many of each there are."""
    positions, turned = samples_first(np.arange(int(np.prod(shape))).reshape(shape), head, batch_axis)
    rows = as_rows(positions, head.task, turned.axis, flatten=head.flatten)
    rows = rows.reshape(len(rows), -1)
    row, index = np.empty(rows.size, np.int64), np.empty(rows.size, np.int64)
    row[rows] = np.arange(rows.shape[0])[:, None]
    index[rows] = np.arange(rows.shape[1])
    return row, index, rows.shape[0], rows.shape[1]


def _is_same(array: NDArray[Any], axis: int) -> bool:
    """Whether nothing changes along an axis."""
    return bool((array == array.take([0], axis=axis)).all())


def _in_order(numbers: NDArray[Any], count: int) -> bool:
    """Whether all numbers below a count first come in their order."""
    found, first = np.unique(numbers.reshape(-1), return_index=True)
    return len(found) == count and bool((np.diff(first) > 0).all())


def _sample_axis(sample: NDArray[Any], n_samples: int) -> int | None:
    """The axis along which the sample changes, and along no other; None if there is none."""
    changing = [axis for axis in range(sample.ndim) if not _is_same(sample, axis)]
    if n_samples == 1:
        return 0
    return changing[0] if len(changing) == 1 and sample.shape[changing[0]] == n_samples else None


def _shown_classes(shown: NDArray[Any], n_classes: int, head: Head) -> tuple[int, ...] | None:
    order = tuple(int(number) for number in shown)
    if len(order) == 1:  # of one class alone, labels mean the classes of the whole
        return None
    if sorted(order) == list(range(n_classes)):
        return None if order == tuple(range(n_classes)) else order
    raise DataError(
        f"'{head.output}' shows only some of its {n_classes} classes, or some twice: labels could mean either",
        hint="calibrate an output with all classes, or pass a known --temperature to onnxcal patch",
    )
