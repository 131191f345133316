"""Reliability bins and the expected calibration error that is read off them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onnxcal.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_BINS = 15
Z95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


@dataclass(frozen=True)
class ReliabilityBins:
    """Equal-width bins of confidence: (lo, hi], the first closed at 0. Empty bins have count 0 and means of 0."""

    edges: NDArray[np.float64]
    """(M + 1,), from 0 to 1."""
    counts: NDArray[np.int64]
    """(M,), samples in each bin."""
    weights: NDArray[np.float64]
    """(M,), their total weight: the counts, unless samples were weighted."""
    accuracy: NDArray[np.float64]
    """(M,), share of correct predictions in each bin."""
    confidence: NDArray[np.float64]
    """(M,), mean confidence in each bin."""
    variance: NDArray[np.float64]
    """(M,), Σ w² c (1 − c) over the confidences c of each bin: of the number of hits, if they are honest."""
    effective: NDArray[np.float64]
    """(M,), (Σ w)² / Σ w²: how many samples of equal weight say as much (Kish 1965); the counts, without weights."""

    @property
    def ece(self) -> float:
        """Expected calibration error: Σ_m (n_m / n) |accuracy_m − confidence_m| (Guo et al. 2017, eq. 3)."""
        return float(np.abs(self.weights * (self.accuracy - self.confidence)).sum() / self.weights.sum())

    @property
    def ece_floor(self) -> float:
        """The expected ECE of perfectly calibrated predictions with these confidences.

        The gap of a bin is then a sum of independent Bernoulli errors, about normal with variance v = Σ w² c (1 − c):
        its mean absolute value is √(2v/π).
        """
        return float(np.sqrt(2 / np.pi * self.variance).sum() / self.weights.sum())

    @property
    def band(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(M,) low and (M,) high: the 95 % interval of each bin's accuracy; 0 to 1 where there are no samples."""
        return wilson_interval(self.accuracy, self.effective)


def wilson_interval(
    share: NDArray[np.float64], n: NDArray[np.float64], z: float = Z95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Interval of a probability from the share of hits in n independent trials (Wilson 1927).

    The p that satisfy |share − p| ≤ z √(p (1 − p) / n): unlike share ± z · stderr it lies in [0, 1], and says what few
    trials are worth even where all or none were hits.
    """
    scale = n + z * z
    centre = (n * share + z * z / 2) / scale
    half = z / scale * np.sqrt(n * share * (1 - share) + z * z / 4)
    return np.clip(centre - half, 0.0, share), np.clip(centre + half, share, 1.0)


def reliability_bins(
    confidence: NDArray[np.floating],
    correct: NDArray[np.bool_],
    n_bins: int = DEFAULT_BINS,
    weight: NDArray[np.float64] | None = None,
) -> ReliabilityBins:
    """Sort predictions into equal-width bins of confidence.

    Parameters
    ----------
    confidence : (N,) in [0, 1], the probability of the predicted class (top label).
    correct : (N,) bool, whether that class is the label.
    n_bins : M, 15 as in the literature.
    weight : (N,), ≥ 0, how much each prediction counts; None if all count 1.

    Raises
    ------
    DataError
        No samples, or a confidence outside [0, 1] by more than rounding.
    """
    confidence = np.asarray(confidence, np.float64)
    if confidence.size == 0:
        raise DataError("there are no samples to bin", hint="pass at least one prediction")
    if not (confidence.min() >= 0 and confidence.max() <= 1 + 1e-9):  # also False for NaN
        raise DataError("confidences must lie in [0, 1]", hint="pass probabilities, not logits")
    index = bin_of(confidence, n_bins)
    w = np.ones(len(confidence)) if weight is None else weight

    def total(values: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.bincount(index, weights=values, minlength=n_bins).astype(np.float64)

    weights = total(w)
    safe = np.where(weights > 0, weights, 1.0)
    return ReliabilityBins(
        edges=bin_edges(n_bins),
        counts=np.bincount(index, minlength=n_bins).astype(np.int64),
        weights=weights,
        accuracy=total(w * correct) / safe,
        confidence=total(w * confidence) / safe,
        variance=total(w * w * confidence * np.maximum(1 - confidence, 0)),
        effective=weights**2 / np.where(weights > 0, total(w * w), 1.0),
    )


def bin_edges(n_bins: int = DEFAULT_BINS) -> NDArray[np.float64]:
    """(M + 1,) edges from 0 to 1, each the double nearest to m / M, which linspace is not."""
    edges: NDArray[np.float64] = np.arange(n_bins + 1) / n_bins
    return edges


def bin_of(confidence: NDArray[np.floating], n_bins: int = DEFAULT_BINS) -> NDArray[np.intp]:
    """The bin (lo, hi] of each confidence."""
    return np.searchsorted(bin_edges(n_bins)[1:-1], confidence, side="left")
