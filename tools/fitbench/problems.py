"""Logits and labels with a known optimum: drawn by a seed, or published ones where they are at hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fitbench.optimum import optimum

TRUE_TEMPERATURE = 2.3
"""Of the drawn logits: such a model is overconfident."""
SPREAD = 2.5
"""Standard deviation of the logits at T = 1."""
_DRAWN_AT_A_TIME = 1 << 22
_LEAST = np.float32(2**-25)
"""Below the step of numpy's float32 exponentials, which can be 0."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Logits, their labels, and the temperature to be found."""

    name: str
    z: NDArray[Any]
    """Logits (N, K), or (N,) of a sigmoid."""
    y: NDArray[np.int64]
    """Labels (N,)."""
    temperature: float
    """The float64 optimum."""

    def changed(self, what: str, z: NDArray[Any], guess: float) -> Problem:
        """Other logits for the same labels, and their own optimum."""
        return Problem(f"{self.name}, {what}", z, self.y, optimum(z, self.y, guess).temperature)


def drawn(rows: int, classes: int, seed: int = 0) -> Problem:
    """float32 logits z = T* u with normal u, labels drawn from softmax(u): the best T is T* but for the sample."""
    rng = np.random.default_rng((seed, rows, classes))
    z = np.empty((rows, classes), np.float32)
    y = np.empty(rows, np.int64)
    step = max(1, _DRAWN_AT_A_TIME // classes)
    for begin in range(0, rows, step):
        u = z[begin : begin + step]
        rng.standard_normal(out=u, dtype=np.float32)
        u *= SPREAD
        exponential = rng.standard_exponential(u.shape, dtype=np.float32)
        gumbel = -np.log(np.maximum(exponential, _LEAST))
        y[begin : begin + step] = (u + gumbel).argmax(axis=1)
    z *= TRUE_TEMPERATURE
    return Problem(f"{rows:,}×{classes:,}", z, y, optimum(z, y, TRUE_TEMPERATURE).temperature)


def variants(plain: Problem) -> Iterator[Problem]:
    """The same logits as they come, scaled, shifted, in float16, and with a masked class in every other row."""
    yield plain
    t = plain.temperature
    for scale in (20.0, 0.02, 5000.0):
        yield plain.changed(f"× {scale:g}", plain.z * np.float32(scale), t * scale)
    yield plain.changed("+ 1000", plain.z + np.float32(1000), t)
    yield plain.changed("float16", plain.z.astype(np.float16), t)
    masked = plain.z.copy()
    rows = np.arange(0, len(masked), 2)
    masked[rows, (plain.y[rows] + 1) % masked.shape[1]] = -np.inf
    yield plain.changed("rows with −inf", masked, t)


def temperatures(plain: Problem) -> Iterator[Problem]:
    """The same logits scaled so that the best T is 1e-3, 1e-2, … 1e4."""
    for exponent in range(-3, 5):
        scale = 10.0**exponent / plain.temperature
        yield plain.changed(f"T = 1e{exponent}", plain.z * np.float32(scale), 10.0**exponent)


def published(folder: Path) -> Iterator[Problem]:
    """The `val` logits of every set that `expected.json` of the folder names; nothing where there is no such file."""
    index = folder / "expected.json"
    if not index.exists():
        return
    for name, entry in sorted(json.loads(index.read_text(encoding="utf-8"))["datasets"].items()):
        path = folder / f"{name}.npz"
        if "T" not in entry or not path.exists():
            continue
        with np.load(path) as arrays:
            if "val_logits" not in arrays:
                continue
            z, y = arrays["val_logits"], arrays["val_labels"].astype(np.int64)
        z = z[:, 0] if z.ndim == 2 and z.shape[1] == 1 else z
        found = optimum(z, y, entry["T"]).temperature
        yield Problem(name, z, y, found)
