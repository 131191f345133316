"""The most probable temperature under a weak log-normal prior: an answer where the likelihood alone has none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from onnxcal.calibrators.cumulants import Cumulants, in_float64
from onnxcal.calibrators.fast import Optimum
from onnxcal.calibrators.margins import Margins

_STEP = 0.25
_FARTHEST = 709.0  # of log β: beyond, β is no float64
_TOLERANCE = 1e-13


class _Point(NamedTuple):
    """Of the negative log-posterior, as a function of log β."""

    b: float
    value: float
    slope: float
    likelihood: Cumulants


def most_probable(margins: Margins, prior: float, exponent: int = 0) -> Optimum:
    """The β where Σ NLL + (log β)² / (2 σ²) has its lowest minimum.

    The slope with respect to b = log β is Σ mean(u) + b / σ². All minima lie between b = 0 and the optimum of the
    likelihood, for only there do its slope and the prior's have opposite signs; there may be more than one. They are
    looked for in steps from b = 0, until the prior alone is worse than the best that is known, and then bisected.

    Parameters
    ----------
    margins : what the likelihood is of.
    prior : σ, standard deviation of log T, > 0; the median of T is 1.
    exponent : the logits that the prior is about are 2^exponent times these.
    """
    center = exponent * math.log(2.0)

    def at(b: float) -> _Point:
        b = min(max(b, -_FARTHEST), _FARTHEST)
        found = in_float64(margins, math.exp(b), 2)
        apart = b - center
        return _Point(b, found.nll + (apart / prior) ** 2 / 2, found.slope + apart / prior**2, found)

    here = at(center)
    if here.slope == 0:
        return _optimum(here, prior)
    direction = -1.0 if here.slope > 0 else 1.0
    lowest, minima = here.value, list[tuple[_Point, _Point]]()
    while here.likelihood.slope * direction < 0 and _bound(here, direction) < lowest and abs(here.b) < _FARTHEST:
        there = at(here.b + direction * _STEP)
        if here.slope * direction < 0 <= there.slope * direction:
            minima.append((here, there) if direction > 0 else (there, here))
        here, lowest = there, min(lowest, there.value)
    found = [_minimum(at, *bracket, prior) for bracket in minima]
    return _optimum(min(found, key=lambda point: point.value) if found else here, prior)


def _bound(here: _Point, direction: float) -> float:
    """Nothing farther on is lower: no likelihood is above 1; nor is, on the way to β = 0, the NLL below its tangent."""
    floor = 0.0 if direction > 0 else here.likelihood.nll - abs(here.likelihood.slope)
    return here.value - here.likelihood.nll + max(0.0, floor)


def _minimum(at: Callable[[float], _Point], low: _Point, high: _Point, prior: float) -> _Point:
    """Where the slope is 0, between two points where it is not above and not below: Newton's method, or bisection."""
    here = low if abs(low.slope) < abs(high.slope) else high
    left, right = low.b, high.b
    while True:
        left, right = (here.b, right) if here.slope < 0 else (left, here.b)
        information = _information(here, prior)
        step = -here.slope / information if information > 0 else math.inf
        tolerance = _TOLERANCE * max(1.0, abs(here.b))
        if abs(step) <= tolerance or right - left <= tolerance:
            return here
        here = at(here.b + step if left < here.b + step < right else (left + right) / 2)


def _optimum(point: _Point, prior: float) -> Optimum:
    return Optimum(math.exp(point.b), _information(point, prior), point.likelihood.squares)


def _information(point: _Point, prior: float) -> float:
    return point.likelihood.curvature + point.likelihood.slope + 1 / prior**2
