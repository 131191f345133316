"""The float32 pass of `cumulants.py` as one compiled loop (extra `fast`, numba): each logit is read once.

NumPy writes u, e^u and each product to a cache and reads it again; here they stay in registers. What comes out is the
same to rounding. Importing this module imports numba; the loops are compiled once a machine and kept by numba.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

from onnxcal.calibrators.margins import FEW_CLASSES, Margins, label_logit

Loop = TypeVar("Loop", bound=Callable[..., Any])

_BLOCK = 256
"""Rows of such a block, and classes of which float32 sums are taken before they go into float64 ones."""

# e^x = 2^n e^r, |r| ≤ ln 2 / 2; the coefficients of e^r, degree 6, are those of the Cephes library's expf.
_LOG2_E = np.float32(1.44269504088896341)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_C6, _C5, _C4 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_C3, _C2, _C1 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
_ROUND = np.float32(1.5 * 2**23)
"""Added and taken away again it rounds to an integer, whose bits are the last of the sum."""
_MANTISSA = np.int32(23)
_ONE = np.float32(1)
_LEAST, _MOST = np.float32(-87), np.float32(88)
"""Of u: e^−87 is nothing beside S₀ ≥ 1 (the label has u = 0), and e^88 is beyond `_LARGEST`."""
_LARGEST = 1e25
"""A row with a larger S₀ is done again in float64, less its maximum."""
_MASKED = -1e4
"""Of float64 u below the maximum: −inf, the logit of a masked class, times 0 would be NaN."""


def _compiled(*, exact_order: bool = False) -> Callable[[Loop], Loop]:
    """Let numba compile a loop; sums over classes may be taken in any order, as vector instructions do."""
    freedom = {"contract"} if exact_order else {"contract", "reassoc", "nsz"}
    how: dict[str, Any] = {"fastmath": freedom, "error_model": "numpy", "nogil": True}

    def compile_later(loop: Loop) -> Loop:
        try:
            made: Loop = numba.njit(cache=True, **how)(loop)
        except RuntimeError:  # no folder that it could be kept in
            made = numba.njit(**how)(loop)
        return made

    return compile_later


@_compiled(exact_order=True)  # or the rounding would be optimised away
def _exp(x: Any) -> Any:
    """e^x in float32 for −87 ≤ x ≤ 88, to 2 units in the last place."""
    shifted = x * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = x - n * _LN2_HIGH
    r = r - n * _LN2_LOW
    p = _C6
    p = p * r + _C5
    p = p * r + _C4
    p = p * r + _C3
    p = p * r + _C2
    p = p * r + _C1
    p = p * (r * r) + r + _ONE
    bits = (np.float32(shifted).view(np.int32) << _MANTISSA) + np.float32(p).view(np.int32)
    return np.int32(bits).view(np.float32)


@_compiled()
def _moments_of_row(z: Any, level: Any, beta: Any, moments: Any) -> None:
    """S₀ … S₃ of one row, less its maximum, in float64: right for any logits."""
    top = -np.inf
    for k in range(len(z)):
        top = max(top, (np.float64(z[k]) - level) * beta)
    moments[:] = 0.0
    for k in range(len(z)):
        below = max((np.float64(z[k]) - level) * beta - top, _MASKED)
        e = math.exp(below)
        u = below + top
        moments[0] += e
        moments[1] += e * u
        moments[2] += e * u * u
        moments[3] += e * u * u * u


@_compiled()
def _add_row(totals: Any, moments: Any, weight: Any) -> None:
    """Cumulants of one row from its S₀ … S₃, added to (slope, curvature, third, squares)."""
    mean, square, cube = moments[1] / moments[0], moments[2] / moments[0], moments[3] / moments[0]
    variance = square - mean * mean
    totals[0] += weight * mean
    totals[1] += weight * variance
    totals[2] += weight * (cube - mean * (3 * variance + mean * mean))
    totals[3] += weight * mean * weight * mean


@_compiled()
def sums_of_wide_rows(z: Any, label: Any, level: Any, weight: Any, beta: Any) -> Any:
    """Slope, curvature, third cumulant and squared slopes, summed over rows: (4,) float64; see `Cumulants`.

    Parameters
    ----------
    z : (n, K) logits, float32 or float64, C-contiguous.
    label : (n,) class indices; or empty.
    level : (n,) float64, z_y of each row, where there are no indices.
    weight : (n,) float64, or empty if all rows count 1.
    beta : 1 / T.
    """
    totals, moments = np.zeros(4), np.empty(4)
    factor = np.float32(beta)
    classes = z.shape[1]
    for i in range(len(z)):
        origin = z[i, label[i]] if len(label) else z.dtype.type(level[i])
        moments[:] = 0.0
        for start in range(0, classes, _BLOCK):
            s0, s1, s2, s3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for k in range(start, min(start + _BLOCK, classes)):
                u = min(max(np.float32(z[i, k] - origin) * factor, _LEAST), _MOST)
                e = _exp(u)
                first = e * u
                second = first * u
                s0 += e
                s1 += first
                s2 += second
                s3 += second * u
            moments[0] += s0
            moments[1] += s1
            moments[2] += s2
            moments[3] += s3
        if not moments[0] < _LARGEST:
            _moments_of_row(z[i], np.float64(z[i, label[i]]) if len(label) else level[i], beta, moments)
        _add_row(totals, moments, weight[i] if len(weight) else 1.0)
    return totals


@_compiled()
def sums_of_narrow_rows(z: Any, label: Any, level: Any, weight: Any, beta: Any) -> Any:
    """`sums_of_wide_rows` for a few classes: `_BLOCK` rows at a time, transposed."""
    totals, moments = np.zeros(4), np.empty(4)
    factor = np.float32(beta)
    classes = z.shape[1]
    transposed = np.zeros((classes, _BLOCK), np.float32)
    s0, s1 = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    s2, s3 = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    for start in range(0, len(z), _BLOCK):
        n = min(_BLOCK, len(z) - start)
        for i in range(n):
            row = start + i
            origin = z[row, label[row]] if len(label) else z.dtype.type(level[row])
            for k in range(classes):
                transposed[k, i] = np.float32(z[row, k] - origin) * factor
        s0[:] = s1[:] = s2[:] = s3[:] = 0
        for k in range(classes):
            of_class = transposed[k]
            for i in range(_BLOCK):
                u = min(max(of_class[i], _LEAST), _MOST)
                e = _exp(u)
                first = e * u
                second = first * u
                s0[i] += e
                s1[i] += first
                s2[i] += second
                s3[i] += second * u
        for i in range(n):
            row = start + i
            moments[0], moments[1], moments[2], moments[3] = s0[i], s1[i], s2[i], s3[i]
            if not moments[0] < _LARGEST:
                _moments_of_row(z[row], np.float64(z[row, label[row]]) if len(label) else level[row], beta, moments)
            _add_row(totals, moments, weight[row] if len(weight) else 1.0)
    return totals


def sums_of(margins: Margins, start: int, stop: int, beta: float) -> list[float]:
    """The numbers of `Cumulants` for some samples, by the loop that suits the length of their rows."""
    z, y = margins.values[start:stop], margins.labels[start:stop]
    hard = y.ndim == 1 and not margins.smoothing
    label = y if hard else np.empty(0, np.int64)
    level = np.empty(0) if hard else np.asarray(label_logit(z, y, margins.smoothing), np.float64)
    weight = margins.weights(start, stop)
    # float16 has no loop of its own; and every other layout would be compiled anew.
    z = np.ascontiguousarray(z, np.float64 if z.dtype == np.float64 else np.float32)
    loop = sums_of_narrow_rows if z.shape[1] < FEW_CLASSES else sums_of_wide_rows
    sums: list[float] = loop(
        z, np.ascontiguousarray(label), level, np.empty(0) if weight is None else np.ascontiguousarray(weight), beta
    ).tolist()
    return sums
