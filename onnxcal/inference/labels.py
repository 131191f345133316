"""What labels mean: which row of the logits each belongs to, and which class it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onnxcal.errors import DataError
from onnxcal.graph.head import Head
from onnxcal.inference.feeds import Feed
from onnxcal.inference.layout import Layout, layout_of, moves_places
from onnxcal.inference.samples import samples_first, whole_samples
from onnxcal.labels import arranged_labels, label_values
from onnxcal.logits import FloatArray, LabelArray, Task
from onnxcal.rows import logit_rows


class LabelReader:
    """Labels of one head, batch by batch. One reading holds for all of them.

    A user sees the output. Where its graph moves places or classes on the way from the logits, labels may be laid out
    as either is. Where they fit both and that makes a difference, the predictions of the first batch decide.
    """

    def __init__(self, head: Head) -> None:
        self._head = head
        self._numbers = numbered_classes(head)
        self._moves = moves_places(head)
        self._layouts: dict[tuple[tuple[int, ...], int], Layout | None] = {}
        self._like: Literal["output", "logits"] | None = None
        self._order: tuple[int, ...] | None = None
        self._named = False
        self._note: tuple[str, ...] = ()

    @property
    def numbered(self) -> bool:
        """Whether labels may be numbers that are no indices: what they are shows when all are there."""
        return self._numbers is not None

    @property
    def by_run(self) -> bool:
        """Whether labels may be laid out in two ways, so that runs are read one by one."""
        return self._moves

    def rows(
        self,
        tensor: NDArray[Any],
        labels: NDArray[Any],
        feed: Feed,
        batch_axis: int,
        tensors: Callable[[], Mapping[str, Any]],
    ) -> tuple[FloatArray, LabelArray]:
        """One batch of logits and labels as rows, sample by sample.

        Parameters
        ----------
        tensor : the logits.
        labels : those of the samples that count.
        batch_axis : the axis of the logits that counts samples.
        tensors : gives the tensors that the recognition needs, by name.

        Raises
        ------
        DataError
            The head is not what it was taken for, or the labels do not fit its shape.
        """
        head, named = self._head, named_classes(labels, self._head)
        self._named = self._named or named is not labels
        turned, as_turned = samples_first(whole_samples(tensor, feed, head, batch_axis), head, batch_axis)
        rows = logit_rows(turned, head.task, as_turned.axis, flatten=head.flatten)
        arranged = partial(
            arranged_labels, shape=turned.shape, task=head.task, axis=as_turned.axis, flatten=head.flatten
        )
        if not self._moves and (head.activation == "none" or _or_none(arranged, _numbered(named)) is not None):
            return rows, label_values(arranged(named), head.task)
        layout = self._layout(tensor, feed, batch_axis, tensors)
        if layout is None:
            return rows, label_values(arranged(named), head.task)
        return self._matched(rows, named, arranged, turned.shape, layout)

    def classes(self, labels: LabelArray, values: FloatArray) -> tuple[LabelArray, tuple[str, ...]]:
        """Labels of all samples as classes of the logits; and how they were read, where there are two ways.

        Numbers are indices, unless only the numbers that the model gives its classes fit.

        Parameters
        ----------
        labels, values : of all samples, as `rows` gave them.

        Raises
        ------
        DataError
            They are neither; or both, and as numbers they agree better with the logits.
        """
        known, notes = self._numbers, self._note
        if self._named:  # by a ZipMap as the output shows them, else as an ai.onnx.ml operator makes its scores
            return (self._reordered(labels) if self._head.keys is not None else labels), notes
        if known is None or labels.ndim != 1 or len(labels) == 0 or not (labels == np.rint(labels)).all():
            return self._reordered(labels), notes
        found = {int(label) for label in np.unique(labels)}
        numbers = ", ".join(str(name) for name in known)
        indices = set(range(len(known)))
        if not found <= set(known):
            if not found <= indices:
                raise self._stranger(labels, (found - indices - set(known)) or (found - set(known)), numbers)
            return self._reordered(labels), notes
        as_numbers: LabelArray = np.array([known[int(label)] for label in labels], np.int64)
        if labels.dtype != np.int64:
            as_numbers = as_numbers.astype(np.float64)
        if self._head.keys is not None:
            as_numbers = self._reordered(as_numbers)
        if not found <= indices:
            return as_numbers, notes
        as_indices = self._reordered(labels)
        task = self._head.task
        if _is_better(_agreement(values, as_numbers, task), _agreement(values, as_indices, task)):
            raise DataError(
                f"the labels of '{self._head.output}' fit class indices from 0 as well as the model's class numbers "
                f"({numbers}), and as these agree with more predictions",
                hint="pass the class numbers as strings if they are that, else check the order of the samples",
            )
        note = f"labels are taken for class indices from 0, not for the model's class numbers ({numbers})"
        return as_indices, (*notes, note)

    def _layout(
        self, tensor: NDArray[Any], feed: Feed, batch_axis: int, tensors: Callable[[], Mapping[str, Any]]
    ) -> Layout | None:
        form = (tensor.shape, feed.padded_size)
        if form not in self._layouts:
            self._layouts[form] = layout_of(tensor, self._head, tensors(), batch_axis, feed.padded_size)
        layout = self._layouts[form]
        if layout is None or feed.size == feed.padded_size:
            return layout
        return replace(layout, rows=layout.rows[: feed.size], shape=(feed.size, *layout.shape[1:]))

    def _matched(
        self,
        rows: FloatArray,
        labels: NDArray[Any],
        arranged: Callable[[NDArray[Any]], NDArray[Any]],
        shape: tuple[int, ...],
        layout: Layout,
    ) -> tuple[FloatArray, LabelArray]:
        """Rows and the labels that belong to them, in whichever layout the labels are."""
        head, places = self._head, layout.rows.reshape(-1)
        numbers = _numbered(labels)
        shown = None if self._like == "logits" else _or_none(partial(_as_shown, layout, head.task), numbers)
        plain = None if self._like == "output" else _or_none(arranged, numbers)
        if shown is None and plain is None:
            if not self._moves:
                arranged(labels)  # knows better what to say
            raise DataError(
                f"labels of shape {labels.shape} fit neither output '{head.output}' of shape {layout.output} nor its "
                f"logits of shape {shape}",
                hint="labels are class indices, one for each place of the output; or one-hot, soft or 0/1 labels with "
                "one number for each of its values",
            )
        if self._like is None:
            self._like = "logits" if shown is None else "output"
            if shown is not None and plain is not None and not _are_equal(shown, plain, places):
                self._like = self._likelier(rows, labels, shown, plain, layout, shape)
            if self._like == "logits" and layout.order is not None:
                raise DataError(
                    f"labels of shape {labels.shape} are laid out as the logits of '{head.output}', which shows their "
                    "classes in another order: they could mean either",
                    hint=f"lay the labels out as '{head.output}' shows its values, in shape {layout.output}",
                )
            self._order = layout.order
        if shown is None or self._like == "logits":
            assert plain is not None  # what fits neither was refused
            return rows, label_values(labels.reshape(-1)[plain], head.task)
        truth = label_values(labels.reshape(-1)[shown], head.task)
        if len(places) == len(rows) and len(np.unique(places)) == len(rows):
            return rows, truth[np.argsort(places)]
        return rows[places], truth

    def _likelier(
        self,
        rows: FloatArray,
        labels: NDArray[Any],
        shown: NDArray[Any],
        plain: NDArray[Any],
        layout: Layout,
        shape: tuple[int, ...],
    ) -> Literal["output", "logits"]:
        """Which of two layouts labels are in that they fit both: the one in which they agree with the predictions."""
        head, values = self._head, rows[layout.rows.reshape(-1)]
        if layout.order is not None:
            values = -values if values.ndim == 1 else values[:, layout.order]
        by_output = _agreement(values, label_values(labels.reshape(-1)[shown], head.task), head.task)
        by_logits = _agreement(rows, label_values(labels.reshape(-1)[plain], head.task), head.task)
        if _is_better(by_output, by_logits):
            like: Literal["output", "logits"] = "output"
        elif _is_better(by_logits, by_output):
            like = "logits"
        else:
            raise DataError(
                f"labels of shape {labels.shape} fit the layout of output '{head.output}' of shape {layout.output} and "
                f"that of its logits of shape {shape}, and agree with no more predictions in one than in the other",
                hint="pass more samples at once with --batch-size, or export the output in the layout of its logits",
            )
        taken = "the output's" if like == "output" else "the logits'"
        self._note = (
            f"labels fit the layout of output '{head.output}' of shape {layout.output} and that of its logits of shape "
            f"{shape}: they are read in {taken}, in which they agree with more predictions",
        )
        return like

    def _reordered(self, labels: LabelArray) -> LabelArray:
        """Labels of an output's classes as those of the logits, where the output shows them in another order."""
        if self._order is None:
            return labels
        if labels.dtype == np.int64:
            return np.asarray(self._order, np.int64)[labels]
        return 1 - labels if labels.ndim == 1 else labels[:, np.argsort(self._order)]

    def _stranger(self, labels: LabelArray, strangers: set[int], numbers: str) -> DataError:
        first = int(np.argmax(np.isin(labels, list(strangers))))
        label = int(labels[first])
        return DataError(
            f"label {label} of sample {first} is none of the class numbers of '{self._head.output}' ({numbers})",
            hint=f"labels are these numbers, or indices from 0; --ignore-index {label} leaves such samples out",
        )


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


def _numbered(labels: NDArray[Any]) -> NDArray[np.int64]:
    """A number for each label, in their shape."""
    return np.arange(labels.size).reshape(labels.shape)


def _as_shown(layout: Layout, task: Task, labels: NDArray[Any]) -> NDArray[Any]:
    """Labels in the layout of an output, one row for each of its places."""
    if labels.ndim > 1:
        labels = labels.reshape(len(labels), *(size for size in labels.shape[1:] if size != 1))
    if task == "binary":
        return arranged_labels(labels, layout.rows.shape, task, 0)
    return arranged_labels(labels, layout.shape, task, layout.axis)


def _are_equal(shown: NDArray[Any], plain: NDArray[Any], places: NDArray[np.int64]) -> bool:
    """Whether two readings give every place the same labels."""
    return shown.ndim == plain.ndim and np.array_equal(shown, plain[places])


def _or_none(arranged: Callable[[NDArray[Any]], NDArray[Any]], numbers: NDArray[np.int64]) -> NDArray[Any] | None:
    """Numbers as labels of a layout are arranged; None where their shape does not fit."""
    try:
        return arranged(numbers)
    except DataError:
        return None


def _agreement(values: FloatArray, labels: LabelArray, task: Task) -> NDArray[np.float64]:
    """How far each row's predicted class, or classes, are its label: from 0 to 1."""
    if task != "multiclass":
        right = 1 - np.abs((values > 0) - np.asarray(labels, np.float64))
        return right if right.ndim == 1 else np.asarray(right.mean(axis=1))
    predicted = values.argmax(axis=1)
    if labels.ndim == 1:
        return np.asarray(predicted == labels, np.float64)
    agreement: NDArray[np.float64] = labels[np.arange(len(labels)), predicted].astype(np.float64)
    return agreement


def _is_better(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether the mean of some agreements is larger than that of others by more than three standard errors."""
    error = sum((np.var(some) + 1 / len(some)) / len(some) for some in (one, other))
    return bool(one.mean() - other.mean() > 3 * np.sqrt(error))
