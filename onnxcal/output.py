"""Where a patched model goes: checked before any long work, and there only if every check held."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import onnx

from onnxcal.errors import UsageError
from onnxcal.graph.filerecord import FileRecord
from onnxcal.graph.modelfile import ModelFile, open_model
from onnxcal.graph.patch import Patch, check_structure, make_patch
from onnxcal.graph.plan import HeadPatch
from onnxcal.graph.targets import TargetFit, require_fits
from onnxcal.graph.write import Draft, check_target

if TYPE_CHECKING:
    from onnxcal.data import Source
    from onnxcal.inference.collect import Progress
    from onnxcal.inference.options import RunOptions
    from onnxcal.verification import RuntimeOptions, Verification

Patches: TypeAlias = Sequence[tuple[HeadPatch, dict[str, Any]]]
"""What to do to each head, and its calibration as JSON data for the metadata."""


@dataclass(frozen=True)
class Written:
    """Where a patched model went."""

    record: FileRecord
    """Path and digest."""
    proto: onnx.ModelProto | None = None
    """The model itself, if no file was asked for."""
    folded: tuple[str, ...] = ()
    """Names of the weights that T is folded into."""
    targets: tuple[TargetFit, ...] = ()
    """Every target that it had to fit."""


@dataclass(frozen=True)
class Target:
    """Where a patched model is to go; path None means memory."""

    path: Path | None
    """The file; None keeps the model in memory."""
    force: bool
    """Whether it may be replaced."""


def choose_target(file: ModelFile, output: str | os.PathLike[str] | None, *, in_place: bool, force: bool) -> Target:
    """Where to write, checked before any long work.

    Raises
    ------
    UsageError
        OUT exists, is the model itself, or cannot be written.
    """
    if in_place and (output is not None or file.path is None):
        raise UsageError("--in-place writes to the model itself, so it takes no -o", hint="pass one of them")
    if in_place and file.path is not None:
        check_target(file.path, file, force=True)
        return Target(file.path, True)
    if output is None:
        if file.path is None:
            return Target(None, force)
        output = file.path.with_name(f"{file.path.stem}.calibrated.onnx")
    if file.path is not None and os.path.exists(output) and os.path.samefile(output, file.path):
        raise UsageError(f"'{output}' is the model itself", hint="pass --in-place to write to it, or another -o")
    check_target(output, file, force=force)
    return Target(Path(output), force)


def write(original: ModelFile, patches: Patches, target: Target, must_fit: str | Sequence[str] = ()) -> Written:
    """Write a patched model after looking at what came out, but without running it."""
    change = make_patch(original, patches)
    if target.path is None:
        return _in_memory(change, patches, must_fit)
    with Draft(target.path, original, force=target.force) as draft:
        change.write(draft)
        patched = open_model(draft.path)
        check_structure(patched, [head_patch for head_patch, _ in patches], change.source)
        targets = require_fits(patched, must_fit)
        draft.commit()
    return Written(FileRecord.of(patched, target.path), folded=change.folded, targets=targets)


def write_verified(
    original: ModelFile,
    patches: Patches,
    target: Target,
    source: Source,
    options: RunOptions,
    wanted: RuntimeOptions | None,
    progress: Progress | None,
    must_fit: str | Sequence[str] = (),
) -> tuple[Written, Verification, tuple[str, ...]]:
    """Write a patched model where nobody sees it, run it, and let it appear only if every check held."""
    from onnxcal.verification import verify_file

    change = make_patch(original, patches)
    hint = "leave out --fold: a division rounds less" if change.folded else None
    if target.path is None:
        written = _in_memory(change, patches, must_fit)
        assert written.proto is not None
        verification, notes = verify_file(original, open_model(written.proto), source, options, progress, wanted)
        verification.raise_if_failed(hint)
        return written, verification, notes
    with Draft(target.path, original, force=target.force) as draft:
        change.write(draft)
        patched = open_model(draft.path)
        check_structure(patched, [head_patch for head_patch, _ in patches], change.source)
        targets = require_fits(patched, must_fit)
        verification, notes = verify_file(original, patched, source, options, progress, wanted)
        verification.raise_if_failed(hint)
        draft.commit()
    return Written(FileRecord.of(patched, target.path), folded=change.folded, targets=targets), verification, notes


def _in_memory(change: Patch, patches: Patches, must_fit: str | Sequence[str]) -> Written:
    data = change.to_bytes()
    proto = onnx.ModelProto.FromString(data)
    patched = open_model(proto)
    check_structure(patched, [head_patch for head_patch, _ in patches], change.source)
    return Written(FileRecord.of(patched), proto, change.folded, require_fits(patched, must_fit))
