"""Which part of a tensor of logits belongs to which sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.errors import DataError
from onnxcal.graph.head import Head
from onnxcal.inference.expected import logits_of
from onnxcal.inference.feeds import Feed
from onnxcal.inference.session import Session


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
        Logits are flattened with the samples behind another axis, or samples follow the axis taken for the classes.
    """
    usual = 1 if head.axis == 0 and getattr(tensor, "ndim", 0) > 1 and head.task != "binary" else 0
    if not isinstance(tensor, np.ndarray) or tensor.ndim == 0 or head.flatten:
        return usual
    size = feed.padded_size
    flattened = tensor.ndim <= 2 and usual == 0 and tensor.shape[0] != size and tensor.shape[0] % size == 0
    fitting = [axis for axis in range(tensor.ndim) if tensor.shape[axis] == size]
    if size == 1 or (len(fitting) < 2 and not flattened):
        others = [axis for axis in fitting if axis != head.axis or (head.task == "binary" and size > 1)]
        return others[0] if len(others) == 1 else usual
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
    distances = {axis: _distance(tensor, np.flip(reverse, axis)) for axis in fitting}
    best = min(distances, key=distances.__getitem__)
    if distances.get(usual, np.inf) <= distances[best]:
        return usual
    if best == head.axis and head.task != "binary":
        others = [axis for axis in range(tensor.ndim) if axis != best]
        raise DataError(
            f"the logits of '{head.output}' have shape {tensor.shape}, and axis {best}, which was taken for the "
            "classes, counts samples",
            hint=f"pass --axis {others[0]}" if len(others) == 1 else "pass the right --axis",
        )
    return best


def _distance(one: NDArray[Any], other: NDArray[Any]) -> float:
    with np.errstate(invalid="ignore"):
        return float(np.nanmax(np.abs(one.astype(np.float64) - other.astype(np.float64)), initial=0.0))


def samples_first(tensor: NDArray[Any], head: Head, batch_axis: int) -> tuple[NDArray[Any], Head]:
    """Logits of a time-major model with the axis of samples in front, and the head as it is then."""
    if batch_axis == 0 or (batch_axis == 1 and head.axis == 0):
        return tensor, head
    axis = head.axis + 1 if head.axis < batch_axis else head.axis
    return np.moveaxis(tensor, batch_axis, 0), replace(head, axis=axis)
