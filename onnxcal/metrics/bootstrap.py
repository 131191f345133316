"""How sure scores are: intervals by resampling the samples they were measured on.

Each resample gives each sample a weight drawn from a Poisson distribution of mean 1 (Chamandy et al. 2012, "Estimating
uncertainty for massive data streams"; Oza & Russell 2001): the bootstrap of Efron with the number of samples left free.
Scores are ratios of weighted sums, so that all resamples of all scores are one matrix product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from onnxcal.logits import IndexArray
from onnxcal.metrics.per_sample import PerSample
from onnxcal.metrics.pointwise import Rows
from onnxcal.metrics.reliability import DEFAULT_BINS, bin_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_RESAMPLES = 1000
LEVEL = 0.95
_BLOCK = 1 << 21
"""Weights that are drawn at a time: 8 MB."""
_SCORES = ("nll", "ece", "brier")


@dataclass(frozen=True)
class ScoreIntervals:
    """An interval (low, high) for each score."""

    nll: tuple[float, float]
    """Of the mean negative log-likelihood, nats."""
    ece: tuple[float, float]
    """Of the expected calibration error, 15 bins."""
    brier: tuple[float, float]
    """Of the mean Brier score."""


@dataclass(frozen=True)
class Intervals:
    """95 % intervals of scores before and after a calibration, and of what it changed on the same samples."""

    level: float
    """Coverage that is aimed at."""
    resamples: int
    """How many resamples they come from."""
    before: ScoreIntervals
    """Of the scores before."""
    after: ScoreIntervals
    """Of the scores after."""
    difference: ScoreIntervals
    """Of after − before, paired; below 0 throughout if calibration made a score better beyond doubt."""


def bootstrap(
    before: PerSample,
    after: PerSample,
    *,
    group: IndexArray | None = None,
    weight: Rows | None = None,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> Intervals:
    """Intervals for NLL, ECE and Brier score before and after, and for their paired differences.

    The interval is the basic one, 2θ − (θ* quantiles) (Davison & Hinkley 1997, eq. 5.6): the ECE of a resample is too
    large by as much as the ECE of a sample is, and that takes it out again. Where that is more than the scores spread,
    the interval is drawn out to the score itself. Scores are held at ≥ 0.

    Parameters
    ----------
    before, after : contributions of the same M predictions.
    group : (M,), the sample that each prediction belongs to; predictions of one sample are resampled together. None if
        each is a sample of its own.
    weight : (M,), how much each prediction counts; None if all count 1.
    resamples : how many.
    seed : of the generator.
    """
    exact = _sums_of_groups(before, after, group, weight)
    total = exact.sum(axis=0)
    largest = np.maximum(np.abs(exact).max(axis=0), np.finfo(np.float64).tiny)
    sums = (exact / largest).astype(np.float32)  # of the range of float32, whatever the logits are
    drawn = np.zeros((resamples, sums.shape[1]))
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK // resamples)
    for start in range(0, len(sums), step):
        block = sums[start : start + step]
        drawn += _poisson(rng, (resamples, len(block))) @ block
    drawn *= largest
    drawn[drawn[:, 0] <= 0] = total  # none of a handful of samples was drawn
    point, spread = _scores_of(total[None])[0], _scores_of(drawn)
    tails = ((1 + LEVEL) / 2, (1 - LEVEL) / 2)
    low, high = (2 * point - np.quantile(spread, q, axis=0) for q in tails)
    low, high = np.minimum(low, point), np.maximum(high, point)
    low[:2], high[:2] = np.maximum(low[:2], 0), np.maximum(high[:2], 0)
    made = [
        ScoreIntervals(**{name: (float(low[i, j]), float(high[i, j])) for j, name in enumerate(_SCORES)})
        for i in range(3)
    ]
    return Intervals(LEVEL, resamples, *made)


def _sums_of_groups(before: PerSample, after: PerSample, group: IndexArray | None, weight: Rows | None) -> Rows:
    """(groups, 1 + 2 · (2 + bins)): weight; then before and after: NLL, Brier score, the gap in a reliability bin."""
    n = len(before.nll)
    w = np.ones(n) if weight is None else weight
    rows, count = (np.arange(n), n) if group is None else (group, int(group.max()) + 1)
    width = 1 + 2 * (2 + DEFAULT_BINS)
    flat = np.zeros(count * width)

    def add(column: int | IndexArray, values: Rows) -> None:
        flat[:] += np.bincount(rows * width + column, weights=values, minlength=flat.size)

    add(0, w)
    for first, each in ((1, before), (1 + 2 + DEFAULT_BINS, after)):
        add(first, w * each.nll)
        add(first + 1, w * each.brier)
        add(first + 2 + bin_of(each.confidence), w * (each.correct - each.confidence))
    return flat.reshape(count, width)


def _scores_of(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R, 3, 3): before, after and difference; NLL, ECE, Brier score."""
    total, both = sums[:, :1], sums[:, 1:].reshape(len(sums), 2, -1)
    ece = np.abs(both[:, :, 2:]).sum(axis=2)
    scores = np.stack([both[:, :, 0], ece, both[:, :, 1]], axis=2) / total[:, :, None]
    return np.concatenate([scores, scores[:, 1:] - scores[:, :1]], axis=1)


def _poisson(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Poisson(1) numbers by inverting the distribution function on 16 bits, ten times as fast as drawing them."""
    uniform = rng.integers(0, 1 << 16, shape, dtype=np.uint16)
    return _quantiles()[uniform]


@cache
def _quantiles() -> NDArray[np.float32]:
    """Of Poisson(1), at the middles of 2¹⁶ equal parts of [0, 1]."""
    distribution = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(12)])
    return np.searchsorted(distribution, (np.arange(1 << 16) + 0.5) / (1 << 16)).astype(np.float32)
