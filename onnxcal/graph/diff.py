"""`diff`: what a patch changed in a file, and whether anything else did; `verify` asks the same.

A file's own word for what its patch did is not taken: the patch is made anew from the original and the recorded
calibration, and has to come out the same.
"""

from __future__ import annotations

import filecmp
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from onnxcal.errors import ModelError
from onnxcal.graph.compare import ByteChange, Change, Comparison, compare
from onnxcal.graph.external import external_file, external_locations
from onnxcal.graph.filerecord import FileRecord
from onnxcal.graph.mapped import ModelBytes
from onnxcal.graph.metadata import calibrated_heads, version_of
from onnxcal.graph.modelfile import ModelFile, ModelLike, open_model
from onnxcal.graph.patch import has_folded_weights, not_made_from, unpatched
from onnxcal.graph.remade import is_remade, remade
from onnxcal.version import __version__

Verdict: TypeAlias = Literal["identical", "patched", "reverted", "repatched", "rewritten", "different"]

_REWRITTEN = frozenset({"moved", "rewritten"})
_PATCHED_KINDS = {"node": {"added", "changed"}, "output": {"added", "changed"}, "metadata": {"added"}}
"""What a patch of another version may have done; beside adding initializers, types, and an operator set."""
_ADDED_KINDS = frozenset({"initializer", "value_info", "opset_import"})


@dataclass(frozen=True)
class ExternalData:
    """One file of external data that a model names."""

    location: str
    """Relative to the models' folders."""
    unchanged: bool
    """Whether it holds the same bytes for both."""
    detail: str = ""
    """Why it does not, or why that is not known."""


@dataclass(frozen=True)
class Diff:
    """Two model files held against each other."""

    a: FileRecord
    """The first."""
    b: FileRecord
    """The second."""
    n_bytes: tuple[int, int]
    """Bytes of each, without external data."""
    verdict: Verdict
    """`identical`: the same bytes. `patched`: B is A with a patch; `reverted`: the other way round; `repatched`: both
    are one model, with patches of their own. `rewritten`: the same, or the same but for a patch, in other bytes.
    `different`: anything else."""
    passed: bool
    """Whether nothing but a patch changed: false for `rewritten` and `different`."""
    detail: str
    """The finding in a sentence."""
    patch_changes: tuple[Change, ...]
    """What patches put in, changed or took out."""
    other_changes: tuple[Change, ...]
    """What else is not the same."""
    byte_changes: tuple[ByteChange, ...]
    """Ranges of bytes that stand in place of others, in order."""
    unchanged_ranges: int
    """Number of ranges of bytes that are the same in both, each as long as it goes."""
    unchanged_bytes: int
    """Bytes in them."""
    unchanged_share: float
    """Of A's bytes, in [0, 1]."""
    external_data: tuple[ExternalData, ...]
    """The files that hold weights for either."""
    warnings: tuple[str, ...] = ()
    """Patches that cannot be taken out, and the like."""


def diff(a: ModelLike, b: ModelLike) -> Diff:
    """Say what is not the same in two models: by a patch, and besides.

    Parameters
    ----------
    a, b : paths, or `onnx.ModelProto`. Usually the original and what `calibrate` or `patch` made of it.

    Raises
    ------
    ModelError
        One of them cannot be read or is no ONNX model.
    """
    one, two = open_model(a), open_model(b)
    compared = compare(one, two)
    external = external_data(one, two)
    warnings: list[str] = []
    verdict, detail, others = _judge(one, two, compared, warnings)
    differing = [entry for entry in external if not entry.unchanged]
    if differing:
        verdict, detail = "different", f"external data '{differing[0].location}' {differing[0].detail}"
    other = {(change.kind, change.name) for change in others}
    return Diff(
        a=FileRecord.of(one),
        b=FileRecord.of(two),
        n_bytes=(one.size, two.size),
        verdict=verdict,
        passed=verdict not in ("rewritten", "different"),
        detail=detail,
        patch_changes=tuple(change for change in compared.changes if (change.kind, change.name) not in other),
        other_changes=tuple(others),
        byte_changes=compared.byte_changes,
        unchanged_ranges=compared.unchanged_ranges,
        unchanged_bytes=compared.unchanged_bytes,
        unchanged_share=compared.unchanged_bytes / one.size,
        external_data=external,
        warnings=tuple(warnings),
    )


def untouched(original: ModelFile, patched: ModelFile) -> str | None:
    """What else was changed in a patched file than its patch; None if nothing was.

    Parameters
    ----------
    original : the unpatched model.
    patched : a file that carries a calibration.
    """
    if not is_remade(original, patched):
        try:
            if (why := not_made_from(patched, original)) is not None:
                return why
            without = unpatched(patched, original)
        except ModelError as error:
            return error.message
        if without.sha256 != original.sha256:
            return "without its patch the file is not the original byte for byte"
        if (why := _not_ours(original, patched)) is not None:
            return why
    differing = (entry for entry in external_data(original, patched) if not entry.unchanged)
    return next((f"external data '{entry.location}' {entry.detail}" for entry in differing), None)


def external_data(a: ModelFile, b: ModelFile) -> tuple[ExternalData, ...]:
    """Every file of external data that one of two models names, and whether it is the same for both."""
    return tuple(
        _external(a, b, location) for location in dict.fromkeys((*external_locations(a), *external_locations(b)))
    )


def _external(a: ModelFile, b: ModelFile, location: str) -> ExternalData:
    named = [location in external_locations(model) for model in (a, b)]
    if not all(named):
        without = b if named[0] else a
        if calibrated_heads(without) and has_folded_weights(without):
            return ExternalData(location, True, f"held weights that are now divided by T, in {without.name} itself")
        return ExternalData(location, False, f"is read by {a.name if named[0] else b.name} only")
    try:
        ours, theirs = external_file(a, location), external_file(b, location)
        same = ours.samefile(theirs) or filecmp.cmp(ours, theirs, shallow=False)
    except ModelError as error:
        return ExternalData(location, False, f"cannot be compared: {error.message}")
    except OSError as error:
        return ExternalData(location, False, f"cannot be compared: {error.strerror}")
    return ExternalData(location, same, "" if same else "differ")


def _judge(
    one: ModelFile, two: ModelFile, compared: Comparison, warnings: list[str]
) -> tuple[Verdict, str, tuple[Change, ...]]:
    """The verdict but for external data, in a sentence, and what no patch changed."""
    if not compared.byte_changes:
        return "identical", "the files are identical, byte for byte", ()
    base, after = (_without_patch(model, warnings) for model in (one, two))
    was, is_now = base is not one, after is not two
    besides = "besides a patch, "
    beside = compare(base, after) if was or is_now else compared
    aim = base
    if not is_now and (expected := _expected(base, two)) is not None:  # its patch could not be taken out
        beside, is_now, aim = compare(expected, two), True, expected
    if beside.byte_changes:
        besides = besides if was or is_now else ""
        if _is_rewritten(aim, after, beside):
            detail = f"{besides}another tool wrote the file anew: the same content in other bytes"
            return "rewritten", detail, beside.changes
        return "different", f"{besides}{_listed(beside.changes)}", beside.changes
    for original, patched in ((base, one), (after, two)):
        if patched is original or is_remade(original, patched):
            continue
        why = _not_ours(original, patched)
        if why is not None:
            expected = _expected(original, patched)
            others = compared if expected is None else compare(expected, patched)
            return "different", f"{patched.name}: {why}", others.changes
    if was and is_now:
        return "repatched", "both are the same model with a patch, and nothing else differs", ()
    if was:
        return "reverted", "the patch is taken out, and nothing else changed", ()
    return "patched", "a patch is put in, and nothing else changed", ()


def _without_patch(model: ModelFile, warnings: list[str]) -> ModelFile:
    try:
        return unpatched(model)
    except ModelError as error:
        warnings.append(error.message)
        return model


def _expected(original: ModelFile, patched: ModelFile) -> ModelFile | None:
    """What onnxcal makes of `original` with the calibration that `patched` carries; None if it carries none."""
    again = remade(original, patched)
    if again is None:
        return None
    return ModelFile(ModelBytes(original.name, again.to_bytes(), None, original.folder))


def _not_ours(original: ModelFile, patched: ModelFile) -> str | None:
    """Why a file that is the original but for its patch may not have its patch from onnxcal; None if it has.

    A file that another tool wrote, or another version of onnxcal, need not have the same bytes.
    """
    expected = _expected(original, patched)
    if expected is not None and _is_rewritten(expected, patched, compare(expected, patched)):
        return None
    if version_of(patched) != __version__ and all(map(_may_be_a_patch, compare(original, patched).changes)):
        return None
    return "its patch is not what onnxcal writes for the calibration that it carries"


def _may_be_a_patch(change: Change) -> bool:
    if change.kind in _ADDED_KINDS:
        return change.how == "added"
    return change.how in _PATCHED_KINDS.get(change.kind, ())


def _is_rewritten(a: ModelFile, b: ModelFile, compared: Comparison) -> bool:
    """Whether two files say the same in other bytes: encoded otherwise, or with their fields in another order."""
    if any(change.how not in _REWRITTEN for change in compared.changes):
        return False
    return bool(a.skeleton.SerializeToString(deterministic=True) == b.skeleton.SerializeToString(deterministic=True))


def _listed(changes: Sequence[Change]) -> str:
    """`3 elements differ: node 'fc', model.producer_name and 1 more`."""
    if not changes:
        return "the bytes around the graph differ"
    if len(changes) == 1:
        return f"{changes[0].label} differs"
    named = ", ".join(change.label for change in changes[:2])
    more = f" and {len(changes) - 2:,} more" if len(changes) > 2 else ""
    return f"{len(changes):,} elements differ: {named}{more}"
