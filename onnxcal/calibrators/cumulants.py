"""One pass over the logits: the slope of the NLL in log β, and its derivatives, summed over samples.

With u = β(z − z_y) of a sample and moments S_j = Σ_k u_k^j e^{u_k}, the NLL is log S₀, and its derivatives with respect
to a relative change r of β, β(1 + r), are the cumulants of u under softmax(βz): mean S₁/S₀, variance, third cumulant.
Working in u makes everything dimensionless: no scale of the logits can overflow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from onnxcal.calibrators.margins import MANY_ELEMENTS, Margins, Rows
from onnxcal.cores import available_cores
from onnxcal.logits import FloatArray

LARGEST_SUM = 1e25
"""A float32 S₀ beyond this has rows near overflow: they are done again in float64, less their maximum."""
SMALLEST_EXPONENT = -1e4
"""−inf, the logit of a masked class, is raised to this before it meets a product: e^−10000 is 0 as well."""
_MANY_CLASSES = 8192
"""From here on BLAS would use threads of its own for a row, and a plain float32 sum would lose digits."""


class Cumulants(NamedTuple):
    """Sums over samples, of u under softmax(βz)."""

    slope: float
    """Σ mean: d NLL / d log β. Zero at the optimum."""
    curvature: float = 0.0
    """Σ variance."""
    third: float = 0.0
    """Σ third cumulant."""
    squares: float = 0.0
    """Σ mean²: of the slopes of single samples, for the sandwich variance."""
    nll: float = 0.0
    """Σ log S₀; only in float64."""


def in_float32(margins: Margins, beta: float, order: int) -> Cumulants:
    """Cumulants up to `order`, with float32 exponentials and sums over classes, and float64 sums over samples.

    The rounding of u moves the optimum by about 2⁻²⁴ |u| standard errors of T: see `temperature.py`.
    """
    factor = np.float32(beta)
    precise = np.float64 if order == 1 else np.float32  # the last pass is of order 1
    loop = compiled_loop() if margins.many and not margins.independent else None

    def compiled(start: int, stop: int, buffers: tuple[FloatArray, FloatArray]) -> Cumulants:
        assert loop is not None
        return Cumulants(*loop(margins, start, stop, float(factor)))

    def piece(start: int, stop: int, buffers: tuple[FloatArray, FloatArray]) -> Cumulants:
        x, e = buffers
        if margins.independent:
            return _sigmoids(margins, start, stop, float(factor), np.float32)
        d = margins.piece(start, stop, np.float32, x)
        u, e = x[: d.size].reshape(d.shape), e[: d.size].reshape(d.shape)
        np.multiply(d, factor, out=u)
        if margins.masked:
            np.maximum(u, SMALLEST_EXPONENT, out=u)
        np.exp(u, out=e)
        total, *sums = _power_sums(e, u, margins.class_axis, order)
        moments = [np.divide(part, total, dtype=precise) for part in sums]
        if not total.max() < LARGEST_SUM:  # or NaN
            again = np.flatnonzero(~(total < LARGEST_SUM))
            _, *exact = _moments_of(margins.rows(start, again) * float(factor), 1, order)
            for moment, values in zip(moments, exact, strict=True):
                moment[again] = values
        return _summed(moments, margins.weights(start, stop))

    return _over_pieces(margins, piece if loop is None else compiled, np.float32)


@cache
def compiled_loop() -> Callable[[Margins, int, int, float], Iterable[float]] | None:
    """`compiled.sums_of` where the extra `fast` is installed, else None."""
    try:
        from onnxcal.calibrators.compiled import sums_of
    except ImportError:  # numba is not there, or not made for this NumPy
        return None
    return sums_of


def in_float64(margins: Margins, beta: float, order: int = 3) -> Cumulants:
    """Cumulants up to `order` and the NLL in float64, each row less its maximum: right for any logits."""

    def piece(start: int, stop: int, buffers: tuple[FloatArray, FloatArray]) -> Cumulants:
        if margins.independent:
            return _sigmoids(margins, start, stop, beta, np.float64)
        u = np.multiply(margins.piece(start, stop, np.float64, buffers[0]), beta)
        log_total, *moments = _moments_of(u, margins.class_axis, order)
        weight = margins.weights(start, stop)
        nll = float(log_total.sum() if weight is None else weight @ log_total)
        return _summed(moments, weight)._replace(nll=nll)

    return _over_pieces(margins, piece, np.float64)


def slopes_of_rows(margins: Margins, beta: float) -> Rows:
    """(N,) d NLL / d log β of each row, in float64."""
    parts = []
    for start, stop in margins.bounds():
        if margins.independent:
            part = _of_samples(_sigmoid_parts(margins, start, stop, beta, np.float64)[0])
        else:
            with np.errstate(over="ignore"):
                u = np.multiply(margins.piece(start, stop, np.float64), beta, dtype=np.float64)
                part = _moments_of(u, margins.class_axis, 1)[1]
        weight = margins.weights(start, stop)
        parts.append(part if weight is None else part * weight)
    return np.concatenate(parts)


def _moments_of(u: Rows, axis: int, order: int) -> list[Rows]:
    """log S₀ and S_j / S₀ for j = 1 … order, in float64; u is overwritten."""
    top = u.max(axis=axis)
    np.maximum(u, SMALLEST_EXPONENT + np.expand_dims(top, axis), out=u)  # −inf
    below = u - np.expand_dims(top, axis)
    e = np.exp(below)
    total = e.sum(axis=axis)
    moments = [top + np.log(total)]
    for _ in range(order):
        e *= u
        moments.append(e.sum(axis=axis) / total)
    return moments


def _power_sums(e: FloatArray, u: FloatArray, axis: int, order: int) -> list[FloatArray]:
    """S_j = Σ_k u_k^j e_k for j = 0 … order; e is overwritten."""
    if axis == 0 or u.shape[1] >= _MANY_CLASSES:  # a plain sum over the first axis; pairwise ones over a long last
        sums = [np.add.reduce(e, axis=axis)]
        for _ in range(order):
            np.multiply(e, u, out=e)
            sums.append(np.add.reduce(e, axis=axis))
        return sums
    sums = [np.einsum("nk->n", e)]
    for j in range(order):
        if j:
            np.multiply(e, u, out=e)
        sums.append(np.matmul(e[:, None, :], u[:, :, None])[:, 0, 0])  # a product of rows each: BLAS's dot
    return sums


def _summed(moments: list[Any], weight: Rows | None) -> Cumulants:
    """Cumulants of each sample from its moments, summed: the slope in float64, the others in the moments' own type."""
    mean = moments[0]
    slopes = mean if weight is None else mean * weight
    slope, squares = float(np.add.reduce(slopes, dtype=np.float64)), _dot(slopes, slopes)
    if len(moments) == 1:
        return Cumulants(slope, squares=squares)
    curvature = moments[1] - mean * mean
    third = moments[2] - mean * (curvature * 3 + mean * mean) if len(moments) > 2 else np.zeros_like(mean)
    if weight is not None:
        return Cumulants(slope, _dot(weight, curvature), _dot(weight, third), squares)
    return Cumulants(slope, float(curvature.sum()), float(third.sum()), squares)


def _dot(a: FloatArray, b: FloatArray) -> float:
    return float(np.einsum("n,n->", a, b))  # in this thread, which BLAS may leave


def _sigmoids(margins: Margins, start: int, stop: int, beta: float, dtype: type[np.floating[Any]]) -> Cumulants:
    slopes, *others = (_of_samples(part) for part in _sigmoid_parts(margins, start, stop, beta, dtype))
    weight = margins.weights(start, stop)
    if weight is not None:
        slopes, others = slopes * weight, [part * weight for part in others]
    curvature, third, nll = (float(part.sum()) for part in others)
    return Cumulants(float(slopes.sum()), curvature, third, _dot(slopes, slopes), nll)


def _sigmoid_parts(
    margins: Margins, start: int, stop: int, beta: float, dtype: type[np.floating[Any]]
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Slope, variance, third cumulant and NLL of independent logits: u is βs, or −βs where the label is 1."""
    z = margins.values[start:stop]
    y = margins.labels[start:stop].astype(dtype, copy=False).reshape(z.shape)
    s = np.multiply(z, dtype(beta), dtype=np.result_type(dtype, z.dtype)).astype(dtype, copy=False)
    tail = np.exp(-np.abs(s))
    larger = 1 / (1 + tail)  # of p and 1 − p
    smaller = tail * larger
    p, q = np.where(s >= 0, larger, smaller), np.where(s >= 0, smaller, larger)
    variance = s * s * (larger * smaller)
    nll = np.log1p(tail) + (1 - y) * np.maximum(s, 0) + y * np.maximum(-s, 0)
    return s * ((1 - y) * p - y * q), variance, s * variance * (q - p), nll


def _of_samples(values: FloatArray) -> Rows:
    total: Rows = np.add.reduce(values.reshape(len(values), -1), axis=1, dtype=np.float64)
    return total


def _over_pieces(
    margins: Margins,
    piece: Callable[[int, int, tuple[FloatArray, FloatArray]], Cumulants],
    dtype: type[np.floating[Any]],
) -> Cumulants:
    """The sum over all pieces, in their order whoever makes them: the same number of threads or not."""
    bounds = margins.bounds()
    threads = min(available_cores(), len(bounds)) if margins.values.size >= MANY_ELEMENTS else 1
    longest = (bounds[0][1] - bounds[0][0]) * math.prod(margins.values.shape[1:])

    def run(thread: int) -> list[Cumulants]:
        buffers = margins.buffers(thread, dtype, longest)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            return [piece(start, stop, buffers) for start, stop in bounds[thread::threads]]

    if threads == 1:
        parts = run(0)
    else:
        parts = [Cumulants(0.0)] * len(bounds)
        from concurrent.futures import ThreadPoolExecutor  # 20 ms that a patch without a fit need not wait

        with ThreadPoolExecutor(threads) as pool:
            for first, made in enumerate(pool.map(run, range(threads))):
                parts[first::threads] = made
    if len(parts) == 1:
        return parts[0]
    return Cumulants(*(math.fsum(values) for values in zip(*parts, strict=True)))
