"""The most probable temperature under a weak log-normal prior: an answer where the likelihood alone has none."""

from __future__ import annotations

import math

from onnxcal.calibrators.cumulants import Cumulants, in_float64
from onnxcal.calibrators.fast import Optimum
from onnxcal.calibrators.margins import Margins

_STEP = 0.25
_FARTHEST = 60.0
_TOLERANCE = 1e-13


def most_probable(margins: Margins, prior: float, exponent: int = 0) -> Optimum:
    """The β next to 1 where Σ NLL + (log β)² / (2 σ²) has its minimum.

    The slope with respect to b = log β is Σ mean(u) + b / σ². Away from b = 0 the prior pulls back, so the first change
    of sign on the way downhill from there is a minimum: it is walked to in steps, and then bisected.

    Parameters
    ----------
    margins : what the likelihood is of.
    prior : σ, standard deviation of log T, > 0; the median of T is 1.
    exponent : the logits that the prior is about are 2^exponent times these.
    """
    center = exponent * math.log(2.0)

    def at(b: float) -> tuple[float, Cumulants]:
        found = in_float64(margins, math.exp(b), 2)
        return found.slope + (b - center) / prior**2, found

    b, (slope, found) = center, at(center)
    direction = -1.0 if slope > 0 else 1.0
    previous = b
    while slope * direction < 0 and abs(b - center) < _FARTHEST:
        previous, b = b, b + direction * _STEP
        slope, found = at(b)
    low, high = min(previous, b), max(previous, b)
    while True:
        information = found.curvature + found.slope + 1 / prior**2
        step = -slope / information if information > 0 else math.inf
        if abs(step) <= _TOLERANCE * max(1.0, abs(b)) or high - low <= _TOLERANCE * max(1.0, abs(high)):
            return Optimum(math.exp(b), information, found.squares)
        b = b + step if low < b + step < high else (low + high) / 2
        slope, found = at(b)
        low, high = (b, high) if slope < 0 else (low, b)
