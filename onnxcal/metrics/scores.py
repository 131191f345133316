"""One set of scores for a set of logits, computed in one pass a chunk at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from onnxcal.logits import Labels, Logits, Probabilities, chunks
from onnxcal.metrics import pointwise
from onnxcal.metrics.reliability import ReliabilityBins, reliability_bins


@dataclass(frozen=True)
class Scores:
    """How good and how honest one set of predictions is. For multilabel, each of the N·K entries is a prediction."""

    n_samples: int
    """N, the number of rows."""
    accuracy: float
    """Share of samples whose top label is the label, in [0, 1]."""
    confidence: float
    """Mean probability of the top label, in [0, 1]; above the accuracy means overconfident."""
    nll: float
    """Mean negative log-likelihood, nats, not clipped."""
    ece: float
    """Expected calibration error of the top label, 15 equal-width bins (lo, hi]."""
    brier: float
    """Mean Brier score: Σ_k (p_k − y_k)² for multiclass, (p − y)² for binary and multilabel."""
    bins: ReliabilityBins = field(repr=False, compare=False, metadata={"json": False})
    """The bins behind the ECE."""


@dataclass(frozen=True)
class Metrics:
    """Scores before and after calibration, and on which samples they were measured."""

    n_samples: int
    """Samples that both were measured on."""
    split: str
    """`holdout`: the half not fitted on; `eval`: a separate set; `fit`: the samples that were fitted on."""
    before: Scores
    """At T = 1."""
    after: Scores
    """At the fitted temperature."""


def score(logits: Logits, labels: Labels, temperature: float = 1.0) -> Scores:
    """Scores of softmax(z / T) or σ(z / T).

    Parameters
    ----------
    logits, labels : of the same samples, at least one.
    temperature : T > 0.
    """
    nll = brier = 0.0
    confidences, hits = [], []
    for z, y in chunks(logits, labels):
        p = Probabilities.from_logits(z / temperature, logits.task)
        nll += float(pointwise.nll(p, y).sum())
        confidence, correct = pointwise.top_label(p, y)
        brier += float(pointwise.brier(p, y).sum())
        confidences.append(confidence)
        hits.append(correct)
    confidence, correct = np.concatenate(confidences), np.concatenate(hits)
    n = len(confidence)
    bins = reliability_bins(confidence, correct)
    return Scores(
        n_samples=logits.n_samples,
        accuracy=float(correct.mean()),
        confidence=float(confidence.mean()),
        nll=nll / n,
        ece=bins.ece,
        brier=brier / n,
        bins=bins,
    )
