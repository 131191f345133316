"""The 1-D solver: the root of the slope of a convex function, by Newton's method held inside a bracket."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

MAX_STEPS = 200
FACTOR = 8.0
"""A step changes β at most by this factor: far from the root the quadratic model says little."""
RELATIVE_TOLERANCE = 1e-9
"""A Newton step smaller than this, relative to β, is the last: its own error is of the order of its square."""


class Derivatives(NamedTuple):
    """First and second derivative of a convex function at one point."""

    slope: float
    curvature: float


class Root(NamedTuple):
    """Where the slope vanishes."""

    beta: float
    curvature: float
    """At the last point that was evaluated, within `RELATIVE_TOLERANCE` of β."""
    evaluations: int


class DidNotConverge(ArithmeticError):
    """The slope never came to zero: it is not the slope of a convex function, or is lost in rounding."""


def find_root(derivatives: Callable[[float], Derivatives], start: float) -> Root:
    """The β > 0 with slope 0, given that the slope is negative near 0 and positive for large β.

    A Newton step is taken where it stays inside the bracket known so far and within a factor of `FACTOR`; else the step
    goes to that limit, or to the geometric middle of the bracket.

    Parameters
    ----------
    derivatives : slope and curvature at a β; the slope must not decrease.
    start : first β, > 0.

    Raises
    ------
    DidNotConverge
        After `MAX_STEPS` evaluations.
    """
    low, high = 0.0, float("inf")
    beta = start
    for evaluation in range(1, MAX_STEPS + 1):
        slope, curvature = derivatives(beta)
        if slope == 0.0:
            return Root(beta, curvature, evaluation)
        low, high = (beta, high) if slope < 0 else (low, beta)
        step = -slope / curvature if curvature > 0 else float("inf") * -slope
        target = min(max(beta + step, beta / FACTOR), beta * FACTOR)
        if abs(step) <= RELATIVE_TOLERANCE * beta or high * (1 - 4e-16) <= low:
            return Root(target, curvature, evaluation)
        if not low < target < high:
            target = (low * high) ** 0.5 if low > 0 else high / FACTOR
        beta = target
    raise DidNotConverge(f"no root of the slope within {MAX_STEPS} evaluations (bracket {low:g} … {high:g})")
