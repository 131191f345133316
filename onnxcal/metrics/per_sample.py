"""What each prediction contributes to the scores, kept one by one: sums of them are scores, resamples are intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onnxcal.logits import IndexArray, Probabilities, Sample, chunks
from onnxcal.metrics import pointwise
from onnxcal.metrics.pointwise import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class PerSample:
    """One entry a prediction: N of them, for multilabel N·K."""

    nll: Rows
    """(M,), −log p of the label, nats."""
    brier: Rows
    """(M,), squared error of the probabilities."""
    confidence: Rows
    """(M,), probability of the top label."""
    correct: NDArray[np.bool_]
    """(M,), whether the top label is the label."""
    group: IndexArray | None = None
    """(M,), the sample that each prediction belongs to, where one has several; None if each is one of its own."""


def per_sample(sample: Sample, temperature: float = 1.0) -> PerSample:
    """The contributions of all predictions of softmax(z / T) or σ(z / T), a chunk of logits at a time."""
    parts = []
    for z, y in chunks(sample.logits, sample.labels):
        p = Probabilities.from_logits(z / temperature, sample.logits.task)
        parts.append((pointwise.nll(p, y), *pointwise.top_label(p, y), pointwise.brier(p, y)))
    nll, confidence, correct, brier = (np.concatenate(column) for column in zip(*parts, strict=True))
    return PerSample(nll, brier, confidence, correct, _groups(sample, len(nll) // sample.logits.n_samples))


def _groups(sample: Sample, per: int) -> IndexArray | None:
    """The sample of each prediction, if there are `per` a row of logits."""
    if per == 1:
        return sample.group
    return np.repeat(np.arange(sample.logits.n_samples) if sample.group is None else sample.group, per)
