"""The runtimes by name, and those that a user asks for."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

from onnxcal.errors import UsageError
from onnxcal.inference.runtimes.runtime import Runtime

ALL = "all"
NAMES = (
    "onnxruntime", "onnx-reference", "openvino", "tract", "emx-c", "opencv", "ort-web", "mnn", "ncnn", "iree", "tvm"
)  # fmt: skip
"""Each is in the module of that name."""


@dataclass(frozen=True)
class RuntimeState:
    """Whether a runtime is installed."""

    name: str
    """What `--runtime` calls it."""
    what: str
    """What it is, in a few words."""
    installed: bool
    """Whether all that it needs is there."""
    version: str
    """Its version; empty if it is not installed."""
    missing: tuple[str, ...]
    """What is not there."""
    install: str
    """The command that installs it."""


@dataclass(frozen=True)
class RuntimesResult:
    """What the command `runtimes` shows."""

    runtimes: tuple[RuntimeState, ...]
    """All that onnxcal knows."""
    warnings: tuple[str, ...] = ()
    """None so far."""


def find_runtime(name: str) -> Runtime:
    """The runtime of a name of `NAMES`."""
    module = importlib.import_module(f"onnxcal.inference.runtimes.{name.replace('-', '_')}")
    runtime: Runtime = module.RUNTIME
    return runtime


def list_runtimes() -> RuntimesResult:
    """Every runtime that onnxcal knows, installed or not. None of them is imported."""
    found = [find_runtime(name) for name in NAMES]
    return RuntimesResult(
        tuple(RuntimeState(r.name, r.what, not r.missing, r.version, r.missing, r.install) for r in found)
    )


def choose_runtimes(wanted: str | Sequence[str]) -> tuple[tuple[Runtime, ...], tuple[str, ...]]:
    """The runtimes that were asked for, each once, and a note of those that `all` leaves out.

    Raises
    ------
    UsageError
        A name is not known, or that runtime is not installed.
    """
    names = list(dict.fromkeys([wanted] if isinstance(wanted, str) else wanted))
    for name in names:
        if name != ALL and name not in NAMES:
            raise UsageError(
                f"runtime {name!r} is not known", hint=f"use {', '.join(NAMES)} or all; onnxcal runtimes lists them"
            )
    found = {name: find_runtime(name) for name in NAMES if name in names or ALL in names}
    for name, runtime in found.items():
        if name in names and runtime.missing:
            raise UsageError(
                f"runtime '{name}' is not installed: {' and '.join(runtime.missing)} "
                f"{'is' if len(runtime.missing) == 1 else 'are'} missing",
                hint=runtime.install,
            )
    missing = [name for name, runtime in found.items() if runtime.missing]
    note = f"not installed, so not run: {', '.join(missing)} (onnxcal runtimes says how to install them)"
    return tuple(r for r in found.values() if not r.missing), (note,) if missing else ()
