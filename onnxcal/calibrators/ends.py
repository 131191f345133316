"""Whether a positive, finite temperature is best: the slope of the NLL at both ends of 0 < β < ∞.

The NLL is convex in β = 1/T, so two signs decide exactly: it must fall at β = 0 and rise as β → ∞.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxcal.calibrators.margins import Margins, Rows, label_logit
from onnxcal.errors import NoFiniteOptimum, UselessLogits, WorseThanChance

_LOWEST = -1e290
"""Of margins: the sum of many is a float64. float64's lowest number is a mask in some programs."""

_USELESS = 1e-25
"""A first guess of β below this, of logits whose typical margin is not far from 1."""


@dataclass(frozen=True)
class Ends:
    """The slope at both ends, from the margins d = z − z_y."""

    at_zero: float
    """Σ_n mean(d_n), which is exactly 0 only where the logits hold no information on the labels."""
    noise: float
    """What rounding alone can make of `at_zero`."""
    at_infinity: float
    """Σ_n max(d_n) ≥ 0; 0 if every label is the arg max."""
    curvature: float
    """Σ_n Var(d_n) at β = 0."""
    spread: float
    """The largest max − min of a row."""

    @property
    def first_guess(self) -> float:
        """One Newton step from β = 0, or 1 where single margins, as of masked classes, make it useless."""
        step = -self.at_zero / self.curvature
        return step if step > _USELESS else 1.0


def ends_of(margins: Margins) -> Ends:
    """One pass in float64."""
    at_zero, magnitudes, at_infinity, curvature, spread = [], [], [], [], 0.0
    for start, stop in margins.bounds():
        z, y = _below_the_maximum(margins, start, stop)
        share = np.isfinite(z).astype(np.float64)
        share /= share.sum(axis=1, keepdims=True)
        z = np.where(share > 0, np.maximum(z, _LOWEST), 0.0)
        y = np.maximum(y, _LOWEST)
        mean = (share * z).sum(axis=1)
        with np.errstate(over="ignore"):
            variance = (share * (z - mean[:, None]) ** 2).sum(axis=1)
        weight = margins.weights(start, stop)
        if weight is not None:
            weight = np.repeat(weight, len(z) // len(weight))
            y, mean, variance = y * weight, mean * weight, variance * weight
            z = z[weight > 0]
        at_zero.append(math.fsum(mean - y))
        magnitudes.append(float(np.abs(mean).sum() + np.abs(y).sum()))
        at_infinity.append(float(-y.sum()))
        curvature.append(float(variance.sum()))
        spread = max(spread, float(-z.min(initial=0.0)))
    noise = 4 * float(np.finfo(np.float64).eps) * math.fsum(magnitudes)
    return Ends(math.fsum(at_zero), noise, math.fsum(at_infinity), math.fsum(curvature), spread)


def check_finite_optimum(ends: Ends, n_samples: int) -> None:
    """Raise what `fit_temperature` documents unless a positive, finite temperature is best."""
    n = f"{n_samples:,} samples"
    if ends.spread == 0:
        raise UselessLogits(
            f"every row of logits is constant over its classes ({n}): all temperatures give the same probabilities",
            hint="check that the head and the class axis are the right ones",
        )
    if ends.at_infinity == 0:
        raise NoFiniteOptimum(
            f"every label is the arg max of its row ({n}): the likelihood grows as T goes to 0, so none is best",
            hint="fit on samples that the model has not learned by heart, or on more: some must be misclassified",
        )
    if abs(ends.at_zero) <= ends.noise:
        raise UselessLogits(
            f"the logits say nothing about the labels ({n}): the best temperature is infinite",
            hint="check that labels and inputs are in the same order, and that the head is the right one",
        )
    if ends.at_zero > 0:
        raise WorseThanChance(
            f"the logits rank the labels worse than chance ({n}): the best temperature would be negative",
            hint="check that labels and inputs are in the same order, and that class indices mean what the model means",
        )


def _below_the_maximum(margins: Margins, start: int, stop: int) -> tuple[Rows, Rows]:
    """Logits less their row's maximum, which keeps `at_infinity` exact, and that of the label (or its expectation)."""
    z = margins.values[start:stop].astype(np.float64)
    y = margins.labels[start:stop]
    if margins.independent:
        s, flag = z.reshape(-1), y.reshape(-1)
        pairs = np.stack([np.minimum(-s, 0.0), np.minimum(s, 0.0)], axis=1)  # (0, s) less max(0, s)
        return pairs, (1 - flag) * pairs[:, 0] + flag * pairs[:, 1]
    z -= z.max(axis=1, keepdims=True)
    return z, np.asarray(label_logit(z, y, margins.smoothing), np.float64)
