"""Reliability bins and the expected calibration error that is read off them."""

from __future__ import annotations

import math
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
    """(M,), Σ w² c (1 − c) over the confidences c of each bin: of the number of hits, if they are honest; times how
    much less its predictions say because they belong together, see `effective`."""
    effective: NDArray[np.float64]
    """(M,), how many independent predictions of equal weight say as much: (Σ w)² / Σ w² (Kish 1965), over the design
    effect where predictions belong together. Where that cannot be told, of a single group or of nothing but hits or
    misses, each group counts 1. The counts, without weights and groups."""

    @property
    def ece(self) -> float:
        """Expected calibration error: Σ_m (n_m / n) |accuracy_m − confidence_m| (Guo et al. 2017, eq. 3)."""
        return float(np.abs(self.weights * (self.accuracy - self.confidence)).sum() / self.weights.sum())

    @property
    def ece_floor(self) -> float:
        """The expected ECE of perfectly calibrated predictions with these confidences.

        The gap of a bin is then a sum of Bernoulli errors, about normal with variance v (`variance`): its mean absolute
        value is √(2v/π).
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
    group: NDArray[np.int64] | None = None,
) -> ReliabilityBins:
    """Sort predictions into equal-width bins of confidence.

    Parameters
    ----------
    confidence : (N,) in [0, 1], the probability of the predicted class (top label).
    correct : (N,) bool, whether that class is the label.
    n_bins : M, 15 as in the literature.
    weight : (N,), ≥ 0, how much each prediction counts; None if all count 1.
    group : (N,), ≥ 0, which sample each prediction belongs to (positions of one image): bands and the ECE's floor do
        not take them for independent. None if each is a sample of its own.

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
    accuracy = total(w * correct) / safe
    kish = weights**2 / np.where(weights > 0, total(w * w), 1.0)
    variance = total(w * w * confidence * np.maximum(1 - confidence, 0))
    effective = kish
    if group is not None:
        spread, groups = _spread_of_groups(group * n_bins + index, w * (correct - accuracy[index]), w, n_bins)
        binomial = weights**2 * accuracy * (1 - accuracy) / np.where(kish > 0, kish, 1.0)
        known = (groups > 1) & (spread > 1e-12 * binomial) & (binomial > 0)
        effects = np.maximum(spread / np.where(known, binomial, 1.0), 1.0)
        effective = np.where(known, kish / effects, np.minimum(kish, groups))
        usual = np.average(effects[known], weights=variance[known]) if variance[known].any() else 1.0
        variance = variance * np.where(known, effects, usual)
    return ReliabilityBins(
        edges=bin_edges(n_bins),
        counts=np.bincount(index, minlength=n_bins).astype(np.int64),
        weights=weights,
        accuracy=accuracy,
        confidence=total(w * confidence) / safe,
        variance=variance,
        effective=effective,
    )


def _spread_of_groups(
    cells: NDArray[np.int64], errors: NDArray[np.float64], w: NDArray[np.float64], n_bins: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(M,) and (M,): the variance of the sum of errors e in each bin whose G groups are independent, and G.

    It is G / (G − 1) Σ_g (Σ_i∈g w_i e_i)² (Cochran 1977, Sampling Techniques, section 11.2).
    """
    shape = (int(cells.max()) // n_bins + 1, n_bins)
    summed, present = (
        np.bincount(cells, weights=values, minlength=math.prod(shape)).reshape(shape) for values in (errors, w)
    )
    groups = (present > 0).sum(axis=0).astype(np.float64)
    return (summed**2).sum(axis=0) * groups / np.maximum(groups - 1, 1), groups


def bin_edges(n_bins: int = DEFAULT_BINS) -> NDArray[np.float64]:
    """(M + 1,) edges from 0 to 1, each the double nearest to m / M, which linspace is not."""
    edges: NDArray[np.float64] = np.arange(n_bins + 1) / n_bins
    return edges


def bin_of(confidence: NDArray[np.floating], n_bins: int = DEFAULT_BINS) -> NDArray[np.intp]:
    """The bin (lo, hi] of each confidence."""
    return np.searchsorted(bin_edges(n_bins)[1:-1], confidence, side="left")
