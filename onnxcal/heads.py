"""Several heads of one model: which were asked for, and the patches that a file gets or keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from onnxcal.calibrators import Calibration
from onnxcal.errors import UsageError
from onnxcal.graph.detect import changed_first, find_head
from onnxcal.graph.head import Head
from onnxcal.graph.metadata import CalibratedHead, calibrated_heads, recorded_metrics, with_metrics
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.plan import HeadPatch
from onnxcal.graph.remade import recorded_head
from onnxcal.graph.tails import Hints
from onnxcal.graph.view import GraphView
from onnxcal.metrics.recorded import RecordedMetrics
from onnxcal.output import Patches

NewPatch: TypeAlias = tuple[HeadPatch, Calibration]
"""What is to be done to a head, and where its calibrator came from."""


def names_of(head: str | Sequence[str] | None) -> list[str | None]:
    """The heads that were asked for; one that is not named if none was."""
    if head is None or isinstance(head, str):
        return [head]
    return list(dict.fromkeys(head)) or [None]


def heads_of(file: ModelFile, original: ModelFile, names: Sequence[str | None], hints: Hints) -> list[Head]:
    """The heads of some names.

    Parameters
    ----------
    file : the model that was given, perhaps with patches of other heads, which it keeps.
    original : the same without patches.

    Raises
    ------
    ModelError
        One of them is no head.
    UsageError
        Two of them show the same probabilities, and so have one temperature; or one is computed from what another (or
        one that the file keeps) calibrates, whose temperature would change its logits.
    """
    found = [find_head(original, name, hints) for name in names]
    for index, one in enumerate(found):
        twin = next((other for other in found[:index] if one.shares_calibration(other)), None)
        if twin is not None:
            raise UsageError(
                f"'{twin.output}' and '{one.output}' show the same probabilities", hint="pass one of them as --head"
            )
    _check_unchained(original, [*found, *(head for _, head in _kept(file, original, found))])
    return found


def _kept(file: ModelFile, original: ModelFile, found: Sequence[Head]) -> list[tuple[CalibratedHead, Head]]:
    """The calibrated heads of a file that calibrating others leaves as they are."""
    recorded = [(entry, recorded_head(original, entry)) for entry in calibrated_heads(file)]
    names = {head.output for head in found}
    return [
        (entry, head)
        for entry, head in recorded
        if head.output not in names and not any(head.shares_calibration(other) for other in found)
    ]


def _check_unchained(original: ModelFile, heads: Sequence[Head]) -> None:
    """Raise UsageError if one head's logits are computed from what another calibrates."""
    if len(heads) < 2:
        return
    view = GraphView(original)
    for first in heads:
        changed = view.depend_on(changed_first(original, [first]))
        last = next((head for head in heads if head is not first and head.logits in changed), None)
        if last is not None:
            raise UsageError(
                f"'{last.output}' is computed from the probabilities of '{first.output}': with a temperature for both, "
                "it would no longer have the logits that its own was made for",
                hint=f"calibrate '{last.output}' alone, or '{first.output}' alone, in the model without a patch",
            )


def check_alone(found: Sequence[Head], **options: object) -> None:
    """Raise UsageError for options that mean one head, where several were asked for."""
    for name, value in options.items():
        if value is not None and len(found) > 1:
            raise UsageError(
                f"--{name.replace('_', '-')} goes with one --head, not with {len(found)}",
                hint="calibrate one head after the other: a patched model keeps its patches",
            )


def all_patches(file: ModelFile, original: ModelFile, new: Sequence[NewPatch], *, measured: bool = False) -> Patches:
    """The new patches, and those of other heads that the model carries already.

    A head that is calibrated again keeps the name and the extra output that it was given, unless told otherwise.
    `measured` keeps the new calibrations' scores in the file too.
    """
    made = {patch.head.output: (patch, calibration) for patch, calibration in new}
    for entry in calibrated_heads(file):
        output = entry.head["output"]
        if output in made:
            patch, calibration = made[output]
            again = replace(
                patch,
                output_name=patch.output_name or entry.output_name,
                keep_logits=patch.keep_logits or entry.keep_logits,
            )
            made[output] = (again, calibration)
    kept = []
    for entry, head in _kept(file, original, [patch.head for patch, _ in new]):
        known = Calibration.from_dict(entry.calibration, where=f"the metadata of {file.name}")
        record = with_metrics(known.as_json(), recorded_metrics(file, entry))
        kept.append((HeadPatch(head, known.steps(), entry.output_name, entry.keep_logits), record))
    return [*kept, *((patch, _record(calibration, measured=measured)) for patch, calibration in made.values())]


def _record(calibration: Calibration, *, measured: bool) -> dict[str, Any]:
    metrics = calibration.metrics if measured else calibration.recorded
    return with_metrics(calibration.as_json(), None if metrics is None else RecordedMetrics.of(metrics))
