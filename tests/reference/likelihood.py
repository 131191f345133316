"""The likelihood of a temperature, written apart from onnxcal, in three arithmetics.

Everywhere z is (N, K) logits and w is (N, K), the weight of each class as the label: one-hot rows for plain labels.
One logit s of a sigmoid is the pair (0, s); K independent ones are K such pairs.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax

Array = np.ndarray[Any, Any]


def one_hot(labels: Any, num_classes: int) -> Array:
    """(N,) class indices as (N, K) weights."""
    w = np.zeros((len(labels), num_classes))
    for row, label in enumerate(labels):
        w[row, int(label)] = 1.0
    return w


def pairs(s: Any, flags: Any) -> tuple[Array, Array]:
    """Logits of sigmoids and their labels, of any shape, as two columns and their weights."""
    s, flags = np.asarray(s, np.float64).ravel(), np.asarray(flags, np.float64).ravel()
    return np.column_stack([np.zeros_like(s), s]), np.column_stack([1.0 - flags, flags])


def slope(z: Array, w: Array, beta: float) -> float:
    """d NLL / dβ in float64: Σ_n ⟨z_n⟩ under softmax(β z_n), less the label's logit."""
    z = np.asarray(z, np.float64)
    return float((softmax(beta * z, axis=1) * z).sum() - (w * z).sum())


def best_temperature(z: Array, w: Array) -> float:
    """The T at which the slope changes sign, by bisection on log β between e⁻²⁵ and e²⁵."""
    low, high = -25.0, 25.0
    assert slope(z, w, np.exp(low)) < 0 < slope(z, w, np.exp(high)), "no finite optimum"
    while high - low > 1e-13 * max(1.0, abs(low)):
        middle = (low + high) / 2
        if slope(z, w, np.exp(middle)) < 0:
            low = middle
        else:
            high = middle
    return float(np.exp(-(low + high) / 2))


def slope_in_decimals(z: Array, w: Array, temperature: float, digits: int = 50) -> Decimal:
    """d NLL / dβ at β = 1/T with `digits` decimal digits; a class whose logit is −inf takes no part."""
    total = Decimal(0)
    with localcontext() as context:
        context.prec = digits
        for row, weights in zip(np.asarray(z, np.float64).tolist(), np.asarray(w).tolist(), strict=True):
            kept = [Decimal(v) for v in row if v != float("-inf")]
            top = max(kept)
            e = [((v - top) / Decimal(temperature)).exp() for v in kept]
            total += sum(a * b for a, b in zip(e, kept, strict=True)) / sum(e)
            total -= sum((Decimal(q) * Decimal(v) for q, v in zip(weights, row, strict=True) if q), Decimal(0))
    return total


def nll_in_decimals(z: Array, w: Array, temperature: Decimal, digits: int = 60) -> Decimal:
    """The summed NLL at T with `digits` decimal digits."""
    total = Decimal(0)
    with localcontext() as context:
        context.prec = digits
        for row, weights in zip(np.asarray(z, np.float64).tolist(), np.asarray(w).tolist(), strict=True):
            scaled = [Decimal(v) / temperature for v in row]
            log_sum = sum(v.exp() for v in scaled).ln()
            total += sum((Decimal(q) * (log_sum - v) for q, v in zip(weights, scaled, strict=True)), Decimal(0))
    return total


class Ends(NamedTuple):
    """What decides in exact arithmetic whether a positive, finite T is best."""

    constant: bool
    """Every row has the same logit for all classes."""
    at_zero: Fraction
    """Slope at β = 0: mean(z) − z_y, summed."""
    at_infinity: Fraction
    """Slope as β → ∞: max(z) − z_y, summed."""


def exact_ends(z: Array, labels: Any) -> Ends:
    """`Ends` for class indices, in fractions."""
    at_zero = at_infinity = Fraction(0)
    rows = [[Fraction(v) for v in row] for row in np.asarray(z, np.float64).tolist()]
    for row, label in zip(rows, labels, strict=True):
        at_zero += sum(row, Fraction(0)) / len(row) - row[label]
        at_infinity += max(row) - row[label]
    return Ends(all(max(row) == min(row) for row in rows), at_zero, at_infinity)
