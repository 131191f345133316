"""The best temperature and its standard errors in plain float64 over whole arrays, written apart from onnxcal.

z is (N, K); labels are (N,) class indices or (N, K) weights of classes. One logit s of a sigmoid is the pair (0, s):
see `likelihood.pairs`. Moments are of z itself under softmax(βz), less the largest logit of the row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Rows(NamedTuple):
    """Of each row, at one β."""

    slope: Array
    """d NLL / dβ."""
    curvature: Array
    """d² NLL / dβ²."""
    nll: Array
    """Nats."""


def rows(z: Any, labels: Any, beta: float) -> Rows:
    """Slope, curvature and NLL of every row; −inf takes no part."""
    z = np.asarray(z, np.float64)
    labels = np.asarray(labels)
    if labels.ndim == 1:
        label = z[np.arange(len(z)), labels]
    else:
        label = np.where(labels > 0, labels * np.where(labels > 0, z, 0.0), 0.0).sum(axis=1)
    top = z.max(axis=1)
    below = z - top[:, None]
    e = np.exp(beta * below)
    below = np.where(e > 0, below, 0.0)
    total = e.sum(axis=1)
    p = e / total[:, None]
    mean = (p * below).sum(axis=1)
    return Rows(
        mean + (top - label),
        (p * (below - mean[:, None]) ** 2).sum(axis=1),
        beta * (top - label) + np.log(total),
    )


def best_temperature(z: Any, labels: Any, weight: Any = None, start: float = 1.0) -> float:
    """The root of the weighted slope: Newton's steps in a bracket, to the last digits of float64."""
    w = np.ones(len(z)) if weight is None else np.asarray(weight, np.float64)
    low, high, beta = 0.0, np.inf, 1 / start
    for _ in range(300):
        at = rows(z, labels, beta)
        slope, curvature = float((at.slope * w).sum()), float((at.curvature * w).sum())
        low, high = (beta, high) if slope < 0 else (low, beta)
        step = -slope / curvature if curvature > 0 else np.inf * -slope
        if abs(step) <= 1e-15 * beta or high - low <= 2e-16 * beta:
            return 1 / beta
        target = min(max(beta + step, beta / 8), beta * 8)
        beta = target if low < target < high else (low + high) / 2
    raise AssertionError("no root")


class Errors(NamedTuple):
    """Of T."""

    stderr: float
    """From the observed information."""
    robust: float
    """From the sandwich, with one slope a group."""


def standard_errors(z: Any, labels: Any, temperature: float, weight: Any = None, group: Any = None) -> Errors:
    """1/√H and √(Σ g²)/H of β, times |dT/dβ| = T² (White 1982; for groups Liang & Zeger 1986)."""
    w = np.ones(len(z)) if weight is None else np.asarray(weight, np.float64)
    at = rows(z, labels, 1 / temperature)
    information = float((at.curvature * w).sum())
    slopes = at.slope * w
    if group is not None:
        slopes = np.array([slopes[group == one].sum() for one in np.unique(group)])
    return Errors(temperature**2 / information**0.5, temperature**2 * float((slopes**2).sum()) ** 0.5 / information)
