"""Hermite interpolation: the polynomial through values, first and second derivatives at some nodes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BISECTIONS = 60


class Hermite:
    """A polynomial in Newton's form, by divided differences (Stoer & Bulirsch, section 2.1.5)."""

    def __init__(self, nodes: NDArray[np.float64], values: NDArray[np.float64]) -> None:
        """`nodes` (M,) increasing, `values` (M, D): the value and D − 1 derivatives at each."""
        depth = values.shape[1]
        self._x = np.repeat(nodes, depth)
        column = np.repeat(values[:, 0], depth)
        coefficients = [column[0]]
        for order in range(1, len(self._x)):
            apart = self._x[order:] - self._x[:-order]
            same = apart == 0
            with np.errstate(divide="ignore", invalid="ignore"):
                column = (column[1:] - column[:-1]) / apart
            if same.any():
                column[same] = np.repeat(values[:, order], depth)[: len(column)][same] / math.factorial(order)
            coefficients.append(column[0])
        self._coefficients = coefficients

    def __call__(self, x: float) -> float:
        """The value at x."""
        return self._at(x)[0]

    def derivative(self, x: float) -> float:
        """The first derivative at x."""
        return self._at(x)[1]

    def root(self, low: float, high: float) -> float:
        """The zero between two points where the signs differ: negative at `low`, not at `high`."""
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if self(middle) < 0 else (low, middle)
        return (low + high) / 2

    def _at(self, x: float) -> tuple[float, float]:
        value, slope = self._coefficients[-1], 0.0
        for coefficient, node in zip(self._coefficients[-2::-1], self._x[-2::-1], strict=True):
            slope = slope * (x - node) + value
            value = value * (x - node) + coefficient
        return float(value), float(slope)
