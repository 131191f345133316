"""How sure a temperature is, and what it is measured on: passes over the logits that are made when asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from onnxcal.calibrators.cumulants import in_float64
from onnxcal.calibrators.margins import Margins
from onnxcal.logits import Sample
from onnxcal.metrics import Metrics, compare

Z95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""
ENOUGH = 0.05
"""Half width of the 95 % interval of log T that is enough: T to 5 %. NLL hardly depends on less."""
_LONGEST = 300.0
"""Half width of an interval of log T from which on it has no ends: e³⁰⁰ is beyond any temperature."""
MISSPECIFIED = 1.1
"""Robust over plain standard error from which on the former is believed: below, it is the noise of an estimate."""


@dataclass(frozen=True, eq=False)
class FittedOn:
    """The samples of a fit."""

    sample: Sample
    """Labelled logits."""

    def p_value(self, temperature: float, stderr: float, robust: float | None) -> float:
        """Of the likelihood-ratio test of T = 1: χ² with one degree of freedom.

        Where the robust standard error is the one to believe, the statistic is scaled by the ratio of the variances
        (Kent 1982).
        """
        margins = Margins.of(self.sample)
        before, after = (in_float64(margins, beta, 1).nll for beta in (1.0, 1 / temperature))
        return p_value(2 * (before - after), stderr, robust)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Samples to measure a temperature on."""

    sample: Sample
    """Labelled logits."""
    temperature: float
    """What is compared with T = 1; for a held-out half, what the other half was fitted to."""
    split: str
    """What kind of samples these are, see `Metrics`."""
    resamples: int
    """Of the bootstrap; 0 for no intervals."""
    seed: int = 0
    """Of the bootstrap."""

    @cached_property
    def metrics(self) -> Metrics:
        """Scores before and after."""
        return compare(self.sample, self.temperature, split=self.split, resamples=self.resamples, seed=self.seed)


def p_value(likelihood_ratio: float, stderr: float, robust: float | None) -> float:
    """P(χ²₁ > 2 (NLL(1) − NLL(T))), the statistic scaled as `FittedOn.p_value` says."""
    statistic = max(0.0, likelihood_ratio) * (stderr / believed(stderr, robust)) ** 2
    return math.erfc(math.sqrt(statistic / 2))


def interval(temperature: float, stderr: float, robust: float | None) -> tuple[float, float]:
    """95 % Wald interval of T, symmetric in log T; (0, ∞) of samples that say next to nothing."""
    half = Z95 * believed(stderr, robust) / temperature
    if not half < _LONGEST:
        return 0.0, math.inf
    return temperature * math.exp(-half), temperature * math.exp(half)


def enough_samples(n_samples: int, interval: tuple[float, float]) -> int | None:
    """How many samples of the same kind would give log T an interval of ±`ENOUGH`: half widths shrink like 1/√N.

    None where the interval has no ends.
    """
    low, high = interval
    if low == 0 or math.isinf(high):
        return None
    half = (math.log(high) - math.log(low)) / 2
    return math.ceil(n_samples * (half / ENOUGH) ** 2)


def believed(stderr: float, robust: float | None) -> float:
    """The standard error that holds: the robust one where it is larger by more than the noise of an estimate."""
    return robust if robust is not None and robust > MISSPECIFIED * stderr else stderr
