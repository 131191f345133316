"""The likelihood on a grid of temperatures: a fit in a single pass, whose state is small and can be added up.

For logits that cannot be kept. Every sample adds the slope of its NLL in β, and two derivatives of it, at fixed nodes
in log β; the slope between nodes is the Hermite interpolant of six of them. States of disjoint samples add, in any
order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from onnxcal.calibrators.ends import Ends, check_finite_optimum, ends_of
from onnxcal.calibrators.hermite import Hermite
from onnxcal.calibrators.margins import Margins, Rows
from onnxcal.calibrators.temperature import Temperature
from onnxcal.errors import UsageError
from onnxcal.logits import IndexArray, Sample, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

NODES_PER_OCTAVE = 4
FIRST_OCTAVE, LAST_OCTAVE = -14, 10
"""log₂ β of the first and last node: temperatures from 2⁻¹⁰ to 2¹⁴."""
FRESH_OCTAVES = 8
"""e^{2βz} is the square of e^{βz}; after so many octaves it is computed anew, before rounding errors have doubled to
more than 10⁻¹³."""
SMALLEST = 1e-140
"""e^{βz} is taken for 0 below, less than half a unit in the last place of a sum with 1."""
LOWEST = -1e8
"""Logits so far below their row's maximum have e^{βz} = 0 at every node: −inf, and what programs take for it."""
AROUND = 3
"""Nodes on each side of the optimum that the interpolant goes through."""
_COLUMNS = 5  # slope in β and its first two derivatives, NLL, squared slopes


@cache
def _log_beta() -> NDArray[np.float64]:
    """log β of every node."""
    steps = np.arange(FIRST_OCTAVE * NODES_PER_OCTAVE, LAST_OCTAVE * NODES_PER_OCTAVE + 1)
    nodes: NDArray[np.float64] = np.log(2.0) / NODES_PER_OCTAVE * steps
    return nodes


@dataclass(frozen=True)
class NLLGrid:
    """What the samples seen so far say of every temperature; `a + b` is what all of them say together."""

    sums: Rows = field(default_factory=lambda: np.zeros((len(_log_beta()), _COLUMNS)), repr=False)
    """(nodes, 5): sums over samples at each node."""
    ends: Ends = field(default_factory=lambda: Ends(0.0, 0.0, 0.0, 0.0, 0.0))
    """The slope at both ends of the temperatures."""
    n_samples: int = 0
    """Rows of logits."""
    task: Task | None = None
    """What a row means; None of no samples."""

    @classmethod
    def of(cls, sample: Sample) -> NLLGrid:
        """The state of some samples, in one pass of float64."""
        margins = Margins.of(sample)
        sums = np.zeros((len(_log_beta()), _COLUMNS))
        slopes, groups = None, np.empty(0, np.int64)
        if sample.group is not None:
            names, groups = np.unique(sample.group, return_inverse=True)
            slopes = np.zeros((len(_log_beta()), len(names)))
        for start, stop in margins.bounds():
            sums += _piece(margins, start, stop, None if slopes is None else (slopes, groups[start:stop]))
        if slopes is not None:
            sums[:, 4] = np.einsum("bg,bg->b", slopes, slopes) * np.exp(2 * _log_beta())
        return cls(sums, ends_of(margins), len(margins), sample.logits.task)

    def __add__(self, other: NLLGrid) -> NLLGrid:
        a, b = self.ends, other.ends
        ends = Ends(
            a.at_zero + b.at_zero,
            a.noise + b.noise,
            a.at_infinity + b.at_infinity,
            a.curvature + b.curvature,
            max(a.spread, b.spread),
        )
        n_samples, task = self.n_samples + other.n_samples, self.task or other.task
        return NLLGrid(self.sums + other.sums, ends, n_samples, task)

    def temperature(self) -> tuple[Temperature, float]:
        """The maximum-likelihood T, and how far it may be off, relative to T: what two nodes less would change.

        Raises
        ------
        FitError
            No positive, finite temperature is best: see `fit_temperature`.
        UsageError
            T is not between 2⁻¹⁰ and 2¹⁴.
        """
        check_finite_optimum(self.ends, self.n_samples)
        slope = self.sums[:, 0]
        after = int(np.argmax(slope > 0))  # the slope rises with β
        if after == 0 or not slope[after] > 0:
            raise UsageError(
                f"the best temperature is not between {2.0**-LAST_OCTAVE:g} and {2.0**-FIRST_OCTAVE:g}, where a single "
                "pass looks for it",
                hint="let the logits be kept (without --no-spool), or scale them",
            )
        curve, coarser = (self._slope_around(after, nodes) for nodes in (AROUND, AROUND - 1))
        bracket = _log_beta()[after - 1], _log_beta()[after]
        log_beta, other = curve.root(*bracket), coarser.root(*bracket)
        information = curve.derivative(log_beta) * math.exp(log_beta)  # Σ variance of βz
        some = self._around(after, AROUND)
        squares = max(0.0, Hermite(_log_beta()[some], self.sums[some, 4:])(log_beta))
        temperature = math.exp(-log_beta)
        found = Temperature(
            temperature,
            stderr=temperature / math.sqrt(information),
            robust_stderr=temperature * math.sqrt(squares) / information,
        )
        return found, abs(math.expm1(other - log_beta))

    def likelihood_ratio(self, temperature: float) -> float:
        """2 (NLL(1) − NLL(T)), summed over samples: Taylor's formula from the node next to T."""
        log_beta = -math.log(temperature)
        node = int(np.argmin(np.abs(_log_beta() - log_beta)))
        slope, first, second, nll, _ = self.sums[node]
        beta, step = math.exp(_log_beta()[node]), log_beta - _log_beta()[node]
        # With respect to log β the slope is βm, its derivatives β(m + m′) and β(m + 2m′ + m″).
        there = nll + beta * step * (slope + step / 2 * (slope + first + step / 3 * (slope + 2 * first + second)))
        at_one = float(self.sums[-FIRST_OCTAVE * NODES_PER_OCTAVE, 3])
        return max(0.0, 2 * (at_one - float(there)))

    def _slope_around(self, after: int, nodes: int) -> Hermite:
        some = self._around(after, nodes)
        return Hermite(_log_beta()[some], self.sums[some, :3])

    def _around(self, after: int, nodes: int) -> slice:
        first = min(max(after - nodes, 0), len(_log_beta()) - 2 * nodes)  # one-sided at the ends of the grid
        return slice(first, first + 2 * nodes)


def _piece(margins: Margins, start: int, stop: int, by_group: tuple[Rows, IndexArray] | None) -> Rows:
    """(nodes, 5) of some samples; the slopes of those that belong together are added to what they have so far."""
    d, axis = _margins_by_class(margins, start, stop)
    top = d.max(axis=axis, keepdims=True)
    t = d - top
    masked = ~(t > LOWEST)
    t[masked] = 0.0
    squared = t * t
    powers = (t, squared, squared * t)
    top = top.squeeze(axis)
    weight = margins.weights(start, stop)
    ones = "kn->n" if axis == 0 else "nk->n"
    product = "kn,kn->n" if axis == 0 else "nk,nk->n"
    sums = np.empty((len(_log_beta()), _COLUMNS))
    for phase in range(NODES_PER_OCTAVE):
        e = t
        for octave, node in enumerate(range(phase, len(_log_beta()), NODES_PER_OCTAVE)):
            beta = math.exp(_log_beta()[node])
            if octave % FRESH_OCTAVES == 0:
                e = np.exp(beta * t)
                e[masked] = 0.0
            else:
                e *= e > SMALLEST  # squares below the normal range are a hundred times slower than others
                e *= e
            total = np.einsum(ones, e)
            mean, second, third = (np.einsum(product, e, power) / total for power in powers)
            variance = second - mean * mean
            skew = third - mean * (3 * variance + mean * mean)
            mean += top
            nll = beta * top + np.log(total)
            # m as a function of log β: m′ = β κ₂, m″ = β κ₂ + β² κ₃, κ of z.
            rows = (mean, beta * variance, beta * variance + beta * beta * skew, nll)
            sums[node], slopes = _added(margins, [*rows], beta, weight)
            if by_group is not None:
                so_far, group = by_group
                so_far[node] += np.bincount(group, weights=slopes, minlength=so_far.shape[1])
    return sums


def _added(margins: Margins, rows: list[Rows], beta: float, weight: Rows | None) -> tuple[list[float], Rows]:
    if margins.independent:
        samples = margins.values.shape[1] if margins.values.ndim == 2 else 1
        rows = [row.reshape(-1, samples).sum(axis=1) for row in rows]
    if weight is not None:
        rows = [row * weight for row in rows]
    squares = float(np.einsum("n,n->", rows[0], rows[0])) * beta * beta
    return [*(float(row.sum()) for row in rows), squares], rows[0]


def _margins_by_class(margins: Margins, start: int, stop: int) -> tuple[NDArray[np.float64], int]:
    if not margins.independent:
        return np.array(margins.piece(start, stop, np.float64), np.float64), margins.class_axis
    s = margins.values[start:stop].astype(np.float64).reshape(-1)
    y = margins.labels[start:stop].reshape(-1)
    return np.stack([-y * s, s - y * s]), 0
