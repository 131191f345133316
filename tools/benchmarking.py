"""What the benchmarks share: their number arguments, the machine they ran on, and a promise held against a measurement.

Imports nothing large: `bench_patch` measures the memory of its children, which counts its own.
"""

from __future__ import annotations

import argparse
import os
import platform
from dataclasses import dataclass

from onnxcal.version import __version__


@dataclass(frozen=True)
class Limit:
    """What the project promises, and what was measured."""

    value: float
    """Measured."""
    limit: float
    """Last value that is well."""
    met: bool
    """Whether it was."""

    @property
    def verdict(self) -> str:
        """In words."""
        return "met" if self.met else "not met"


def at_most(value: float, limit: float) -> Limit:
    """Less is better."""
    return Limit(value, limit, value <= limit)


def at_least(value: float, limit: float) -> Limit:
    """More is better."""
    return Limit(value, limit, value >= limit)


def machine() -> dict[str, str | int | None]:
    """Versions and size of where this runs."""
    return {
        "onnxcal": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
    }


def positive(text: str) -> int:
    """A whole number of at least 1, as an argument's type."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of at least 1")
    return int(text)
