"""The temperature of the smallest NLL in float64, written apart from onnxcal.

With β = 1/T the slope of the summed NLL is g(β) = Σ_n ⟨z_n⟩ − z_n,y under softmax(β z_n), and its derivative is
h(β) = Σ_n Var(z_n) > 0. The root is bracketed, then found by Newton's method on log β inside the bracket.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CHUNK = 1 << 20
"""Logits held in float64 at a time."""
STEPS = 100
SETTLED = 1e-13
"""A Newton step of log β below this is the last."""


class Optimum(NamedTuple):
    """Where the NLL is smallest."""

    temperature: float
    residual: float
    """|g| / (h β) at the last point evaluated, before the last step: its distance from the root, relative to β."""


def optimum(z: NDArray[Any], y: NDArray[Any], guess: float = 1.0) -> Optimum:
    """The float64 optimum.

    Parameters
    ----------
    z : logits (N, K), or (N,) of a sigmoid; any float type; −inf where a class takes no part.
    y : class indices (N,); 0 or 1 for a sigmoid.
    guess : a temperature to begin at.

    Raises
    ------
    ArithmeticError
        There is no finite optimum between T = 1e-12 and 1e12 times the guess.
    """
    low, high = -math.inf, math.inf  # log β where the slope is known to be negative, and positive
    t = -math.log(guess)
    for _ in range(STEPS):
        beta = math.exp(t)
        g, h = slope(z, y, beta)
        if abs(t + math.log(guess)) > math.log(1e12):
            break
        low, high = (t, high) if g <= 0 else (low, t)
        step = -g / (h * beta) if h > 0 else math.copysign(math.inf, -g)
        if abs(step) <= SETTLED or high - low <= SETTLED:
            return Optimum(math.exp(-(t + step)), abs(step))
        t_next = t + max(-2.0, min(2.0, step))
        t = t_next if low < t_next < high else (low + high) / 2
    raise ArithmeticError("no finite optimum")


def slope(z: NDArray[Any], y: NDArray[Any], beta: float) -> tuple[float, float]:
    """g(β) and h(β), summed over the rows; rows are added up without rounding."""
    first, second = [], []
    rows = max(1, CHUNK // (z.shape[1] if z.ndim == 2 else 2))
    for begin in range(0, len(z), rows):
        d = z[begin : begin + rows].astype(np.float64)
        if d.ndim == 1:
            d = np.column_stack([np.zeros_like(d), d])
        d -= d.max(axis=1, keepdims=True)
        p = np.exp(beta * d)
        p /= p.sum(axis=1, keepdims=True)
        d[np.isneginf(d)] = 0.0  # where p is 0
        mean = (p * d).sum(axis=1)
        first.extend((mean - d[np.arange(len(d)), y[begin : begin + rows]]).tolist())
        d -= mean[:, None]
        second.append(float((p * d * d).sum()))
    return math.fsum(first), math.fsum(second)
