"""Reliability bins and the expected calibration error that is read off them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxcal.errors import DataError

DEFAULT_BINS = 15


@dataclass(frozen=True)
class ReliabilityBins:
    """Equal-width bins of confidence: (lo, hi], the first closed at 0. Empty bins have count 0 and means of 0."""

    edges: NDArray[np.float64]
    """(M + 1,), from 0 to 1."""
    counts: NDArray[np.int64]
    """(M,), samples in each bin."""
    accuracy: NDArray[np.float64]
    """(M,), share of correct predictions in each bin."""
    confidence: NDArray[np.float64]
    """(M,), mean confidence in each bin."""

    @property
    def ece(self) -> float:
        """Expected calibration error: Σ_m (n_m / n) |accuracy_m − confidence_m| (Guo et al. 2017, eq. 3)."""
        return float(np.abs(self.counts * (self.accuracy - self.confidence)).sum() / self.counts.sum())


def reliability_bins(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], n_bins: int = DEFAULT_BINS
) -> ReliabilityBins:
    """Sort predictions into equal-width bins of confidence.

    Parameters
    ----------
    confidence : (N,) in [0, 1], the probability of the predicted class (top label).
    correct : (N,) bool, whether that class is the label.
    n_bins : M, 15 as in the literature.

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
    edges = np.arange(n_bins + 1) / n_bins  # each the double nearest to m/M, which linspace is not
    index = np.searchsorted(edges[1:-1], confidence, side="left")  # edges[i] < c <= edges[i + 1]
    counts = np.bincount(index, minlength=n_bins)
    safe = np.maximum(counts, 1)
    return ReliabilityBins(
        edges=edges,
        counts=counts.astype(np.int64),
        accuracy=np.bincount(index, weights=correct, minlength=n_bins) / safe,
        confidence=np.bincount(index, weights=confidence, minlength=n_bins) / safe,
    )
