"""NLL and ECE of the probabilities that a runtime gives, where the data have labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnxcal.errors import OnnxcalError
from onnxcal.graph.head import Head
from onnxcal.inference.feeds import Feed
from onnxcal.inference.labels import LabelReader
from onnxcal.labels import check_label_values, kept_rows
from onnxcal.logits import LabelArray, Labels, Logits, Sample
from onnxcal.metrics import Scores, score
from onnxcal.verification.reference import Seen
from onnxcal.verification.side import as_logits


class RuntimeScores:
    """Rows of one head, batch by batch. Rows of probabilities that do not sum to 1 are brought to do so."""

    def __init__(self, head: Head, ignore_index: int | None) -> None:
        self._head, self._ignore_index = head, ignore_index
        self._reader = LabelReader(head)
        self._rows: list[NDArray[np.float64]] = []
        self._truths: list[LabelArray] = []
        self._usable = True
        self.refusal: str | None = None
        """What is wrong with the labels, where there are some."""

    def add(self, values: NDArray[np.float64], feed: Feed, batch_axis: int, seen: Seen) -> None:
        """Take in a batch: values in the layout of the logits. From one that cannot be scored on, there are none."""
        labels = feed.labels_of(self._head.output)
        if labels is None or not np.isfinite(values).all():
            self._usable = False
        if not self._usable or labels is None:
            return
        try:
            rows, truth = self._reader.rows(
                as_logits(values, self._head), labels, feed, batch_axis, lambda: seen.tensors
            )
        except OnnxcalError as error:  # no reason not to verify
            self._usable, self.refusal = False, error.message
            return
        if self._ignore_index is not None:
            keep = kept_rows(truth, self._ignore_index)
            rows, truth = rows[keep], truth[keep]
        self._rows.append(np.asarray(rows, np.float64))
        self._truths.append(truth)

    def scores(self) -> Scores | None:
        """All samples' scores; None where there are no labels, or none that fit."""
        if not self._usable or not any(map(len, self._rows)) or len({truth.ndim for truth in self._truths}) != 1:
            return None
        values = np.concatenate(self._rows)
        try:
            labels, _ = self._reader.classes(np.concatenate(self._truths), values)  # type: ignore[arg-type]
            check_label_values(labels, self._head.task, values.shape)
            return score(Sample(Logits(values, self._head.task), Labels(labels)))
        except OnnxcalError as error:
            self.refusal = error.message
            return None
