"""Labelled logits whose best temperature is known to be about `scale`."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def multiclass(
    n: int = 5000, k: int = 10, scale: float = 3.0, seed: int = 0, dtype: Any = np.float32
) -> tuple[Array, Array]:
    """Labels drawn from softmax(h) with h ~ N(0, 1.5²), and logits scale · h."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(n, k)) * 1.5
    y = (honest + rng.gumbel(size=(n, k))).argmax(axis=1)
    return (scale * honest).astype(dtype), y


def sigmoids(
    shape: tuple[int, ...] = (5000,), scale: float = 3.0, seed: int = 0, dtype: Any = np.float32
) -> tuple[Array, Array]:
    """0/1 labels drawn from σ(h) with h ~ N(0, 1.5²), and logits scale · h."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=shape) * 1.5
    return (scale * honest).astype(dtype), (rng.random(shape) < 1 / (1 + np.exp(-honest))).astype(np.int64)
