"""The optimum of β = 1/T in a few float32 passes: from a subsample to all samples, by third-order steps.

A pass gives the slope g of the NLL with respect to a relative change r of β, and its derivatives κ₂, κ₃. The root of
g + κ₂ r + κ₃ r² / 2 misses the optimum by about r³. From the optimum of every sixth sample one such pass over all
samples and one for the slope alone are enough.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from onnxcal.calibrators.cumulants import Cumulants, in_float32
from onnxcal.calibrators.margins import Margins

FIRST_SAMPLES = 800
"""Of the first subsample, evenly spaced."""
STRIDE, SHORT_STRIDE = 6, 3
"""Of the second: every sixth sample; every third of a small set, where it would be too far from the whole."""
SMALL_SET = 20_000
"""Samples."""
PASSES = 24
"""More than any set needs that this works for."""
SMALL_STEP = 0.05
"""A relative step after which the next pass asks for the slope only."""
PILOT_STEP = 0.01
"""A relative step after which a subsample knows well enough what the expansion of all samples misses: order r³."""
PILOT_LIKENESS, PILOT_MISSES = 0.2, 1e-7
"""How alike the third cumulants must be (the curvatures: half of it), and how much may be missed, relative to the
curvature."""
SMALL_ERROR = 3e-9
"""Relative error of β below which no further pass is made: what is missing is of the order of the cube of a step times
what was left after it."""
_LOWEST, _HIGHEST = -0.75, 3.0  # of a relative step: far from the optimum the expansion says little
_LEAST_BEND, _LONGEST = 0.3, 1.4  # of a step in log β
_NO_STEP = 1e-3  # relative: below it, rounding would be taken for the cubic term, which is too small to matter there
_RANGE = 1e30  # of β, in float32


class Optimum(NamedTuple):
    """Where the slope vanishes, and what is known there. All derivatives are with respect to log β."""

    beta: float
    curvature: float
    """Σ variance of u: the observed information on log T."""
    squares: float
    """Σ of the squared slopes of single samples; after a small last step, those before it: to a percent."""


def fast_optimum(margins: Margins) -> Optimum | None:
    """The optimal β in float32, or None where the way to it is not plain: too few samples, or no optimum.

    Its relative error is about 10⁻⁶ standard errors of log T.
    """
    n, beta, pilot = len(margins), None, None
    strides = [
        stride
        for stride in (n // FIRST_SAMPLES, SHORT_STRIDE if n < SMALL_SET else STRIDE)
        if stride > 1 and n >= stride * FIRST_SAMPLES // 2
    ]
    for stride in sorted({*strides}, reverse=True):
        pilot = margins.every(stride)
        last = stride == min(strides)
        beta = _near_optimum(pilot, beta or _first_guess(pilot), SMALL_STEP * (2 if last else 6))
    if pilot is not None:
        pilot = margins.every(min(strides), 1)  # rows may have a period, and those that β comes from be special
    return _at_optimum(margins, beta or _first_guess(margins), pilot)


def _first_guess(margins: Margins) -> float:
    """Three over the spread of the logits of a row: of the right size. NaN where they have none."""
    z = margins.values[:: max(1, len(margins) // 64)].astype(np.float64)
    if margins.masked:
        z = np.where(np.isfinite(z), z, np.max(z, axis=1, keepdims=True))
    with np.errstate(over="ignore", invalid="ignore"):
        if not margins.independent:
            z -= z.mean(axis=1, keepdims=True)
        spread = float(np.sqrt((z * z).mean()))
    return 3 / spread if spread > 0 else math.nan


def _near_optimum(margins: Margins, beta: float, last_step: float) -> float | None:
    """β after a step of at most `last_step`, by Halley's method in log β, which is at home far from the optimum too."""
    for _ in range(PASSES):
        at = in_float32(margins, beta, 3)
        if not at.curvature > 0:
            return None
        step = -at.slope / at.curvature
        bend = 1 + step * (at.curvature + at.third) / (2 * at.curvature)
        step = min(max(step / bend if bend > _LEAST_BEND else step, -_LONGEST), _LONGEST)
        beta *= math.exp(step)
        if not 1 / _RANGE < beta < _RANGE:
            return None
        if abs(step) < last_step:
            return beta
    return None


def _at_optimum(margins: Margins, beta: float, pilot: Margins | None) -> Optimum | None:
    """β as exact as float32 sums over classes allow: one pass for all derivatives, then of the slope only."""
    here: Cumulants | None = None
    for _ in range(PASSES):
        beta = float(np.float32(beta))
        if not 1 / _RANGE < beta < _RANGE:
            return None
        known, here = here, here or in_float32(margins, beta, 3)
        step = _step(here)
        if abs(step) >= SMALL_STEP:
            beta, here = beta * (1 + step), None
            continue
        scale = float(np.float32(beta * (1 + step))) / beta
        squares, slope = here.squares, None
        if known is None and pilot is not None:
            slope = _slope_by_pilot(here, pilot, beta, scale, len(margins) / len(pilot))
        if slope is None:
            there = in_float32(margins, beta * scale, 1)
            slope, squares = there.slope, there.squares
        here = _moved(here, scale, slope)
        beta *= scale
        rest = _step(here)
        if abs(rest) * abs(scale - 1) ** 3 < SMALL_ERROR:
            return Optimum(beta * (1 + rest), here.curvature * (1 + rest) ** 2, squares)
    return None


def _slope_by_pilot(here: Cumulants, pilot: Margins, beta: float, scale: float, ratio: float) -> float | None:
    """The slope of all samples at β · scale, from what their expansion misses on some of them; None if it may matter.

    What the expansion misses is so small after a small step that a tenth of it is beyond what T is promised to; and a
    subsample that is like the whole knows it better than that.
    """
    step = scale - 1
    if abs(step) > PILOT_STEP:
        return None
    some = in_float32(pilot, beta, 3)
    if abs(some.curvature * ratio - here.curvature) > PILOT_LIKENESS * here.curvature / 2:
        return None
    if abs(some.third * ratio - here.third) > PILOT_LIKENESS * here.curvature:
        return None
    missed = in_float32(pilot, beta * scale, 1).slope / scale - _expanded(some, step)
    if abs(missed) * ratio > PILOT_MISSES * here.curvature:
        return None
    return (_expanded(here, step) + missed * ratio) * scale


def _expanded(here: Cumulants, step: float) -> float:
    return here.slope + step * (here.curvature + here.third * step / 2)


def _moved(here: Cumulants, scale: float, slope: float) -> Cumulants:
    """The expansion at β · scale, where the slope was found to be `slope`: from what it missed, its cubic term."""
    step, slope_here = scale - 1, slope / scale  # with respect to log β there, and to the same r as `here`
    curvature, third = here.curvature + here.third * step, here.third
    if abs(step) > _NO_STEP:
        missed = slope_here - _expanded(here, step)
        curvature, third = curvature + 3 * missed / step, third + 6 * missed / step**2
    return Cumulants(slope, curvature * scale**2, third * scale**3)


def _step(at: Cumulants) -> float:
    """The root r of g + κ₂ r + κ₃ r² / 2 next to 0, held back far from the optimum."""
    if not at.curvature > 0:
        return math.nan
    discriminant = at.curvature**2 - 2 * at.third * at.slope
    root = math.sqrt(discriminant) if discriminant > 0 else at.curvature  # a Newton step where there is none
    return min(max(-2 * at.slope / (at.curvature + root), _LOWEST), _HIGHEST)
