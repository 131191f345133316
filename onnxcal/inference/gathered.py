"""What comes out of the runs, taken in as rows: matched with labels, checked, and kept."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.errors import OnnxcalError
from onnxcal.graph.head import Head
from onnxcal.inference.expected import logits_of
from onnxcal.inference.feeds import Feed
from onnxcal.inference.labels import LabelReader
from onnxcal.inference.recognition import Recognition
from onnxcal.inference.runs import Portion
from onnxcal.inference.samples import find_batch_axis
from onnxcal.inference.session import Session
from onnxcal.labels import check_label_values, kept_rows
from onnxcal.logits import FloatArray, LabelArray
from onnxcal.rows import check_logits
from onnxcal.spool import Column, Spool, joined


class Gathered:
    """The rows of one head so far, with their labels.

    Runs are taken in together where that gives the same as one by one. Where it does not, or where something is wrong,
    they are taken in one by one: what is said of a mistake does not depend on what was joined.
    """

    def __init__(
        self,
        head: Head,
        logits: str,
        recognition: Recognition,
        labels_of: str,
        ignore_index: int | None,
        n_samples: int | None,
    ) -> None:
        self.labels_of = labels_of
        self.num_classes = head.num_classes
        self.done = 0
        self._head, self._logits, self._recognition = head, logits, recognition
        self._ignore_index = ignore_index
        self._reader = LabelReader(head)
        self._batch_axis = 0
        self._joins = True
        self._rows, self._truths = Spool(n_samples or 0), Column(n_samples or 0)
        self._samples: Column | None = None if ignore_index is None else Column()
        self._n_rows = 0

    @property
    def empty(self) -> bool:
        """Whether there is no row."""
        return self._n_rows == 0

    def find_batch_axis(self, session: Session, portion: Portion) -> None:
        """Find out, from the first run, where the logits count samples."""
        feed, tensors = next(portion.runs())
        tensor = logits_of(tensors[self._logits], self._head)
        self._batch_axis = find_batch_axis(session, self._logits, tensor, feed, self._head)
        self._joins = self._batch_axis == 0 and not self._reader.by_run

    def add(self, portion: Portion) -> None:
        """Take in some runs.

        Raises
        ------
        DataError
            Logits or labels that are not usable, or that do not fit each other.
        ModelError
            The head is not what it was taken for.
        """
        if portion.joined is not None and self._joins and not self._recognition.by_run:
            try:
                self._add(portion.feed, portion.joined)
            except OnnxcalError:
                if portion.feed.runs == 1:
                    raise
                self._joins = False
            else:
                return
        for feed, tensors in portion.runs():
            self._add(feed, tensors)

    def _add(self, feed: Feed, tensors: Mapping[str, Any]) -> None:
        head, reader = self._head, self._reader
        labels = feed.labels_of(self.labels_of)
        assert labels is not None
        tensor = logits_of(tensors[self._logits], head)
        taps = partial(self._recognition.tensors, tensors, feed)
        rows, truth = reader.rows(tensor, labels, feed, self._batch_axis, taps)
        width = len(rows) // feed.size
        keep: NDArray[np.bool_] | None = None
        if self._ignore_index is not None:
            keep = kept_rows(truth, self._ignore_index)
            rows, truth = rows[keep], truth[keep]
        if not reader.numbered:
            check_label_values(truth, head.task, rows.shape)
        check_logits(rows, np.zeros(len(truth), np.int64) if reader.numbered else truth, head.task)
        self._recognition.check(tensor, tensors, feed)
        self._recognition.count(rows)
        if self.num_classes is None:
            self.num_classes = rows.shape[1] if rows.ndim == 2 else 2
        self._note_samples(feed.size, width, keep)
        self._rows.append(rows)
        self._truths.append(truth)
        self._n_rows += len(rows)
        self.done += feed.size

    def _note_samples(self, size: int, width: int, keep: NDArray[np.bool_] | None) -> None:
        """Note which sample each row belongs to, once that cannot be counted."""
        if self._samples is None and width != 1:
            self._samples = Column()
            self._samples.append(np.arange(self.done, dtype=np.int64))
        if self._samples is not None:
            sample = np.repeat(np.arange(self.done, self.done + size, dtype=np.int64), width)
            self._samples.append(sample if keep is None else sample[keep])

    def values(self) -> FloatArray:
        """All logits: (N, K), or (N,) for binary."""
        return self._rows.array()

    def sample(self) -> NDArray[np.int64] | None:
        """(N,): which sample each row belongs to; None if there is one row a sample and none was dropped."""
        return None if self._samples is None else joined(self._samples.take())

    def labels(self, values: FloatArray) -> tuple[LabelArray, tuple[str, ...]]:
        """All labels, of the classes of the logits; and how they were read, where they can be read in two ways.

        `values` are all logits.

        Raises
        ------
        DataError
            A label is none of the classes.
        """
        truth, read_as = self._reader.classes(_one_kind(self._truths.take(), self.num_classes or 2), values)
        if self._reader.numbered:
            check_label_values(truth, self._head.task, values.shape)
        return truth, read_as


def _one_kind(truths: list[Any], num_classes: int) -> LabelArray:
    """Labels of all runs; class indices become one-hot where others were soft."""
    if len({truth.ndim for truth in truths}) > 1:
        truths = [np.eye(num_classes)[truth.astype(np.int64)] if truth.ndim == 1 else truth for truth in truths]
    return joined(truths)
