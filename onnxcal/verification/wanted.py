"""Which other runtimes a calibrated model is to be right in, and how far each is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxcal.errors import UsageError
from onnxcal.inference.runtimes.registry import choose_runtimes
from onnxcal.inference.runtimes.runtime import Runtime

DEFAULT_SAMPLES = 1000
DEFAULT_TIMEOUT = 120.0


@dataclass(frozen=True)
class RuntimeOptions:
    """Which other runtimes are asked, and how far."""

    runtimes: tuple[Runtime, ...] = ()
    """Those that are installed, of those that were asked for."""
    named: frozenset[str] = frozenset()
    """Those that were asked for by name: what cannot run them is an error, not only a fact."""
    samples: int = DEFAULT_SAMPLES
    """How many samples each runs at least, from the first on, if there are so many."""
    timeout: float = DEFAULT_TIMEOUT
    """Seconds for loading, for one batch, and after which no other batch is begun."""
    ignore_index: int | None = None
    """Label of samples that do not count for NLL and ECE."""


@dataclass(frozen=True)
class Converted:
    """A model in a runtime's own format."""

    path: Path
    """Its main file; stem `after`."""
    source: Path
    """The .onnx file that it was made from."""
    compressed: bool = False
    """Whether its weights were rounded to float16, on purpose."""


def runtime_options(
    runtime: str | Sequence[str], samples: int, timeout: float, ignore_index: int | None = None
) -> tuple[RuntimeOptions, tuple[str, ...]]:
    """`RuntimeOptions` of what a user asks for, and a note of those that `all` leaves out.

    Raises
    ------
    UsageError
        A runtime is not known or not installed, or a number is out of range.
    """
    if samples < 1 or not 0 < timeout <= 86_400:
        what, value = ("runtime_samples", samples) if samples < 1 else ("runtime_timeout", timeout)
        raise UsageError(f"{what} {value} is out of range", hint="leave it out for the default")
    chosen, notes = choose_runtimes(runtime)
    named = frozenset([runtime] if isinstance(runtime, str) else runtime)
    return RuntimeOptions(chosen, named, samples, timeout, ignore_index), notes
