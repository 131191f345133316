"""What can be checked of a patched file alone, without the model it was made from and without data.

The model it was made from is the file without its patch, whose digest the file keeps. Both are run on inputs that are
drawn at random: that shows whether the file computes softmax(z / T) with the T that it names, and changes no other
output. It shows neither whether T is right (that takes labelled data) nor whether the model is the one that was meant.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.data import Source, open_source
from onnxcal.errors import DataError, ModelError, OnnxcalError
from onnxcal.graph.inspect import inspect
from onnxcal.graph.metadata import calibrated_heads, undo_of
from onnxcal.graph.modelfile import ModelFile, open_model
from onnxcal.graph.patch import has_folded_weights, unpatched
from onnxcal.inference.options import RunOptions
from onnxcal.verification.checks import Check, Verification
from onnxcal.verification.file import check_checker, check_untouched
from onnxcal.verification.run import verify_file

DRAWN_SAMPLES = 16
DRAWN_SIZE = 8
"""Of an axis, other than that of the samples, whose size the model leaves open."""


@dataclass(frozen=True)
class FileCheck:
    """What was found of one file."""

    path: str
    """As it was given."""
    passed: bool
    """Whether every check held."""
    temperatures: dict[str, float]
    """T by the output that it calibrates."""
    verification: Verification | None
    """The checks; without runtimes if the file could not be run on drawn inputs; None if it could not be checked."""
    error: str | None = None
    """Why it could not be checked."""
    exit_code: int = 0
    """0 if it passed, 1 if a check said no, 2 if it could not be checked."""
    warnings: tuple[str, ...] = ()
    """What the user should know: that it was not run, and why."""


@dataclass(frozen=True)
class CheckResult:
    """What was found of several files."""

    files: tuple[FileCheck, ...]
    """One entry a file."""
    warnings: tuple[str, ...] = ()
    """Those of each, with its name."""

    @property
    def exit_code(self) -> int:
        """The worst: 2 over 1 over 0."""
        return max((file.exit_code for file in self.files), default=0)


def check(files: Sequence[str | os.PathLike[str]]) -> CheckResult:
    """Check calibrated models by themselves; one that cannot be checked does not stop the others.

    Parameters
    ----------
    files : models that `calibrate`, `patch` or `build` wrote.
    """
    found = tuple(_check(os.fspath(path)) for path in files)
    return CheckResult(found, tuple(f"{one.path}: {warning}" for one in found for warning in one.warnings))


def _check(path: str) -> FileCheck:
    temperatures: dict[str, float] = {}
    try:
        patched = open_model(path)
        for entry in calibrated_heads(patched):
            temperatures[str(entry.output_name or entry.head["output"])] = float(entry.calibration["temperature"])
        if temperatures and has_folded_weights(patched):
            said = f"T is folded into the weights of {patched.name}: it cannot be checked without its original"
            return FileCheck(path, False, temperatures, None, f"{said}; onnxcal verify takes both, and data", 2)
        recorded = undo_of(patched).sha256
        original = unpatched(patched)
        verification, warnings = _verified(original, patched)
    except OnnxcalError as error:
        code = 1 if temperatures else 2  # a patch that cannot be taken out was changed since
        return FileCheck(path, False, temperatures, None, error.message, code)
    same = original.sha256 == recorded
    said = "is the one it was made from" if same else "has another digest than the one it was made from"
    first = Check("recorded digest", same, None, None, f"without its patch the model {said}")
    passed = same and verification.passed
    checks = (first, *verification.checks)
    verification = Verification(passed, verification.runtimes, checks)
    return FileCheck(path, passed, temperatures, verification, None, 0 if passed else 1, warnings)


def _verified(original: ModelFile, patched: ModelFile) -> tuple[Verification, tuple[str, ...]]:
    """All checks of `verify` on drawn inputs, or those of the file alone where the model cannot be run on such."""
    try:
        source = drawn_inputs(original)
        verification, _ = verify_file(original, patched, source, RunOptions())
    except (ModelError, DataError) as error:
        checks = (check_untouched(original, patched), check_checker(original, patched))
        said = f"was not run on drawn inputs, only its bytes were checked: {error.message}"
        return Verification(all(check.passed for check in checks), (), checks), (said,)
    return verification, ()


def drawn_inputs(model: ModelFile) -> Source:
    """Normal numbers for float inputs, zeros and ones for others; the same on any day."""
    rng = np.random.default_rng(0)
    drawn: dict[str, NDArray[Any]] = {}
    for value in inspect(model).inputs:
        if value.shape is None or not value.shape or value.dtype in ("str", "string"):
            raise DataError(f"nothing can be drawn for input '{value.name}'")
        rest = [size if isinstance(size, int) and size > 0 else DRAWN_SIZE for size in value.shape[1:]]
        shape = (DRAWN_SAMPLES, *rest)
        kind = np.dtype(value.dtype)
        drawn[value.name] = rng.normal(size=shape).astype(kind) if kind.kind == "f" else rng.integers(0, 2, shape, kind)
    return open_source(drawn, inputs=list(drawn))  # an input may be called `y`, and is no label for that
