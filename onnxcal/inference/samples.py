"""Which part of a tensor of logits belongs to which sample, and what its label is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.errors import DataError, ModelError
from onnxcal.graph.head import Head
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


def class_indices(labels: NDArray[Any], head: Head) -> NDArray[Any]:
    """Labels as class indices, where they are the names or numbers that the model itself gives its classes.

    Raises
    ------
    DataError
        They are strings, and none of the model's classes.
    """
    texts = labels.dtype.kind in "USO"
    classes = head.classes or ()
    known = {str(name) if texts else name: index for index, name in enumerate(classes)}
    if not texts and (known == {i: i for i in range(len(known))} or labels.dtype.kind not in "iu" or labels.ndim != 1):
        return labels
    values = [str(label) if texts else int(label) for label in labels.reshape(-1)]
    if all(value in known for value in values):
        return np.array([known[value] for value in values], np.int64).reshape(labels.shape)
    if not texts:
        return labels
    stranger = next(value for value in values if value not in known)
    raise DataError(
        f"label '{stranger}' is none of the classes of '{head.output}'",
        hint=f"its classes are {', '.join(str(name) for name in classes[:8])}"
        if classes
        else "pass class indices from 0",
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
    """Which axis of the logits counts samples; where sizes alone could mislead, the model is asked with one sample.

    The first, or the second where the first counts classes; time-major models have it behind the time axis.
    """
    usual = 1 if head.axis == 0 and getattr(tensor, "ndim", 0) > 1 and head.task != "binary" else 0
    if not isinstance(tensor, np.ndarray) or tensor.ndim <= 2 or head.flatten:
        return usual
    fitting = [a for a in range(tensor.ndim) if tensor.shape[a] == feed.padded_size and a != head.axis]
    if feed.padded_size > 1:
        try:
            one = session.run({name: array[:1] for name, array in feed.arrays.items()}, [logits])[0]
        except ModelError:  # a fixed batch size
            one = None
        if isinstance(one, np.ndarray) and one.ndim == tensor.ndim:
            fitting = [a for a in fitting if one.shape[a] == 1]
    return usual if usual in fitting or len(fitting) != 1 else fitting[0]


def samples_first(tensor: NDArray[Any], head: Head, batch_axis: int) -> tuple[NDArray[Any], Head]:
    """Logits of a time-major model with the axis of samples in front, and the head as it is then."""
    if batch_axis == 0 or (batch_axis == 1 and head.axis == 0):
        return tensor, head
    axis = head.axis + 1 if head.axis < batch_axis else head.axis
    return np.moveaxis(tensor, batch_axis, 0), replace(head, axis=axis)
