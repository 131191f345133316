"""The second table: how far onnxcal's T is from the float64 optimum, over easy and awkward logits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnxcal
from fitbench.problems import Problem, drawn, published, temperatures, variants

LIMIT = 1e-7
"""Relative error of T that the project promises: what a float32 T can hold."""


@dataclass(frozen=True)
class Accuracy:
    """One fit."""

    problem: str
    temperature: float
    """The float64 optimum."""
    fitted: float | None
    """None where onnxcal refused."""
    relative_error: float | None
    """|T / T* − 1|."""
    seconds: float
    """Of one call."""
    refused: str | None = None
    """What it said, where it refused: each of these problems has an optimum."""

    @property
    def met(self) -> bool:
        """Whether T is as right as promised."""
        return self.relative_error is not None and self.relative_error <= LIMIT


def problems(sizes: Iterable[tuple[int, int]], folder: Path) -> Iterator[Problem]:
    """The published sets in `folder`; each size with all its variants; the first size at many temperatures."""
    yield from published(folder)
    for number, size in enumerate(sizes):
        plain = drawn(*size)
        yield from variants(plain)
        if number == 0:
            yield from temperatures(plain)


def measure(given: Iterable[Problem], progress: Callable[[str], None]) -> Iterator[Accuracy]:
    """Fit each once."""
    for problem in given:
        progress(problem.name)
        start = time.perf_counter()
        try:
            fitted = onnxcal.fit(problem.z, problem.y).temperature
        except onnxcal.OnnxcalError as error:
            refused = f"{type(error).__name__}: {error.message}"
            yield Accuracy(problem.name, problem.temperature, None, None, time.perf_counter() - start, refused)
            continue
        seconds = time.perf_counter() - start
        yield Accuracy(problem.name, problem.temperature, fitted, abs(fitted / problem.temperature - 1), seconds)
