"""One set of scores for a set of logits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from onnxcal.logits import Sample
from onnxcal.metrics.per_sample import PerSample, per_sample
from onnxcal.metrics.pointwise import Rows
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
    ece_floor: float
    """The ECE to be expected of these confidences if they were perfectly calibrated: few samples alone make one."""
    brier: float
    """Mean Brier score: Σ_k (p_k − y_k)² for multiclass, (p − y)² for binary and multilabel."""
    bins: ReliabilityBins = field(repr=False, compare=False, metadata={"json": False})
    """The bins behind the ECE."""

    @classmethod
    def of(cls, each: PerSample, n_samples: int, weight: Rows | None = None) -> Scores:
        """Weighted means over all predictions.

        Parameters
        ----------
        each : M predictions of `n_samples` samples: M / n_samples of each, in order.
        weight : (n_samples,), how much each sample counts; None if all count 1.
        """
        per = len(each.nll) // n_samples
        w = None if weight is None else np.repeat(weight, per)
        bins = reliability_bins(each.confidence, each.correct, weight=w, group=each.group)
        return cls(
            n_samples=n_samples,
            accuracy=float(np.average(each.correct, weights=w)),
            confidence=float(np.average(each.confidence, weights=w)),
            nll=float(np.average(each.nll, weights=w)),
            ece=bins.ece,
            ece_floor=bins.ece_floor,
            brier=float(np.average(each.brier, weights=w)),
            bins=bins,
        )


def score(sample: Sample, temperature: float = 1.0) -> Scores:
    """Scores of softmax(z / T) or σ(z / T).

    Parameters
    ----------
    sample : labelled logits, at least one.
    temperature : T > 0.
    """
    return Scores.of(per_sample(sample, temperature), sample.logits.n_samples, sample.weight)
