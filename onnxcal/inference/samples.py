"""Which part of a tensor of logits belongs to which sample, and what its label is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.errors import DataError
from onnxcal.graph.head import Complemented, Head, Selected
from onnxcal.inference.expected import logits_of
from onnxcal.inference.feeds import Feed
from onnxcal.inference.session import Session
from onnxcal.logits import FloatArray, LabelArray
from onnxcal.rows import label_rows, logit_rows


def rows_of(tensor: NDArray[Any], head: Head, labels: NDArray[Any]) -> tuple[FloatArray, LabelArray]:
    """One batch of logits and labels as rows.

    Raises
    ------
    DataError
        The head is not what it was taken for, or the labels do not fit its shape.
    """
    rows = logit_rows(tensor, head.task, head.axis, flatten=head.flatten)
    return rows, label_rows(labels, tensor.shape, head.task, head.axis, flatten=head.flatten)


def named_classes(labels: NDArray[Any], head: Head) -> NDArray[Any]:
    """Labels that are the names of the model's classes as indices; numbers as they are.

    Raises
    ------
    DataError
        One is none of the model's classes.
    """
    if labels.dtype.kind not in "USO":
        return labels
    classes = head.classes or ()
    known = {str(name): index for index, name in enumerate(classes)}
    stranger = next((str(label) for label in labels.reshape(-1) if str(label) not in known), None)
    if stranger is None:
        return np.array([known[str(label)] for label in labels.reshape(-1)], np.int64).reshape(labels.shape)
    listed = ", ".join(str(name) for name in classes[:8])
    raise DataError(
        f"label '{stranger}' is none of the classes of '{head.output}'",
        hint=f"its classes are {listed}" if classes else "the model does not name its classes: pass indices from 0",
    )


def numbered_classes(head: Head) -> dict[int, int] | None:
    """Index by number, where the model numbers its classes otherwise than from 0; None where it does not."""
    if head.classes is None or any(isinstance(name, str) for name in head.classes):
        return None
    known = {int(number): index for index, number in enumerate(head.classes)}
    return None if known == {i: i for i in range(len(known))} else known


def class_indices(labels: LabelArray, head: Head) -> tuple[LabelArray, tuple[str, ...]]:
    """Labels of all samples as indices, where they may be numbers that the model gives its classes; and what was done.

    One reading holds for all: indices, unless only the model's own numbers fit.
    """
    known = numbered_classes(head)
    if known is None or labels.ndim != 1 or labels.dtype != np.int64 or len(labels) == 0:
        return labels, ()
    found = {int(label) for label in np.unique(labels)}
    numbers = ", ".join(str(name) for name in known)
    if found <= set(range(len(known))):
        if not found <= set(known):
            return labels, ()
        return labels, (f"labels are taken for class indices from 0, not for the model's class numbers ({numbers})",)
    if not found <= set(known):
        return labels, ()
    return np.array([known[int(label)] for label in labels], np.int64), ()


def shown_classes(head: Head) -> tuple[int, ...] | None:
    """Which class of the logits each class of the output is, where that differs; None where it is the same.

    Raises
    ------
    DataError
        The output shows some classes only, or some twice.
    """
    if any(isinstance(step, Complemented) and step.reverse for step in head.trail):
        return (1, 0)
    picks = [step for step in head.trail if isinstance(step, Selected)]
    if not picks or head.num_classes is None or all(len(step.indices) == 1 for step in picks):
        return None  # of one class alone, labels mean the classes of the whole
    order = tuple(index % head.num_classes for index in picks[0].indices)
    if len(picks) == 1 and sorted(order) == list(range(head.num_classes)):
        return None if order == tuple(range(head.num_classes)) else order
    raise DataError(
        f"'{head.output}' shows only some of its {head.num_classes} classes, or some twice: labels could mean either",
        hint="calibrate an output with all classes, or pass a known --temperature to onnxcal patch",
    )


def whole_samples(tensor: Any, feed: Feed, head: Head, batch_axis: int) -> NDArray[Any]:
    """The part of a head's tensor that belongs to samples that count, without those that fill up the batch.

    Raises
    ------
    DataError
        The tensor's size is not a multiple of the batch's.
    """
    if not isinstance(tensor, np.ndarray) or tensor.ndim == 0:
        raise DataError(
            f"output '{head.output}' is no tensor with one row a sample", hint="choose another output with --head"
        )
    flattened = tensor.ndim == 2 and head.axis == 1  # (N·T, K): T rows a sample
    if tensor.shape[batch_axis] % feed.padded_size or not (flattened or tensor.shape[batch_axis] == feed.padded_size):
        raise DataError(
            f"{feed.padded_size} samples give logits of shape {tensor.shape}: axis {batch_axis} does not count samples",
            hint="check that the first axis of the inputs counts samples; or pass --batch-size 1",
        )
    if feed.size == feed.padded_size:
        return tensor
    keep = tensor.shape[batch_axis] // feed.padded_size * feed.size
    return tensor[(slice(None),) * batch_axis + (slice(keep),)]


def find_batch_axis(session: Session, logits: str, tensor: Any, feed: Feed, head: Head) -> int:
    """Which axis of the logits counts samples; where sizes alone could mislead, the batch is run in reverse order.

    The first, or the second where the first counts classes; time-major models have it behind the time axis.

    Raises
    ------
    DataError
        Logits are flattened with the samples behind another axis.
    """
    usual = 1 if head.axis == 0 and getattr(tensor, "ndim", 0) > 1 and head.task != "binary" else 0
    if not isinstance(tensor, np.ndarray) or tensor.ndim == 0 or head.flatten:
        return usual
    size = feed.padded_size
    flattened = tensor.ndim <= 2 and usual == 0 and tensor.shape[0] != size and tensor.shape[0] % size == 0
    if size == 1 or (tensor.ndim <= 2 and not flattened):
        fitting = [a for a in range(tensor.ndim) if tensor.shape[a] == size and a != head.axis]
        return fitting[0] if tensor.ndim > 2 and usual not in fitting and len(fitting) == 1 else usual
    reverse = session.run({name: array[::-1].copy() for name, array in feed.arrays.items()}, [logits])[0]
    reverse = np.asarray(logits_of(reverse, head))
    if reverse.shape != tensor.shape:
        return usual
    if flattened:
        per = tensor.shape[0] // size
        ours, theirs = ((size, per, *tensor.shape[1:]), (per, size, *tensor.shape[1:]))
        in_front = _distance(tensor.reshape(ours), reverse.reshape(ours)[::-1])
        behind = _distance(tensor.reshape(theirs), reverse.reshape(theirs)[:, ::-1])
        if behind < in_front:
            raise DataError(
                f"the logits of '{head.output}' are flattened so that samples change fastest: shape {tensor.shape}",
                hint="export the model with the batch in front before it flattens",
            )
        return usual
    fitting = [a for a in range(tensor.ndim) if tensor.shape[a] == size and (a != head.axis or head.task == "binary")]
    if not fitting:
        return usual
    distances = {a: _distance(tensor, np.flip(reverse, a)) for a in fitting}
    best = min(distances.values())
    return usual if distances.get(usual, np.inf) <= best else min(distances, key=distances.__getitem__)


def _distance(one: NDArray[Any], other: NDArray[Any]) -> float:
    with np.errstate(invalid="ignore"):
        return float(np.nanmax(np.abs(one.astype(np.float64) - other.astype(np.float64)), initial=0.0))


def samples_first(tensor: NDArray[Any], head: Head, batch_axis: int) -> tuple[NDArray[Any], Head]:
    """Logits of a time-major model with the axis of samples in front, and the head as it is then."""
    if batch_axis == 0 or (batch_axis == 1 and head.axis == 0):
        return tensor, head
    axis = head.axis + 1 if head.axis < batch_axis else head.axis
    return np.moveaxis(tensor, batch_axis, 0), replace(head, axis=axis)
