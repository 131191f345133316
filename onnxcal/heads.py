"""Several heads of one model: which were asked for, and the patches that a file gets or keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from onnxcal.calibrators import Calibration
from onnxcal.errors import UsageError
from onnxcal.graph.detect import find_head
from onnxcal.graph.head import Head
from onnxcal.graph.metadata import calibrated_heads
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.plan import HeadPatch
from onnxcal.graph.tails import Hints
from onnxcal.output import Patches
from onnxcal.verification.head import recorded_head

NewPatch: TypeAlias = tuple[HeadPatch, Calibration]
"""What is to be done to a head, and where its calibrator came from."""


def names_of(head: str | Sequence[str] | None) -> list[str | None]:
    """The heads that were asked for; one that is not named if none was."""
    if head is None or isinstance(head, str):
        return [head]
    return list(dict.fromkeys(head)) or [None]


def heads_of(original: ModelFile, names: Sequence[str | None], hints: Hints) -> list[Head]:
    """The heads of some names.

    Raises
    ------
    ModelError
        One of them is no head.
    UsageError
        Two of them show the same probabilities, and so have one temperature.
    """
    found = [find_head(original, name, hints) for name in names]
    for index, one in enumerate(found):
        twin = next((other for other in found[:index] if one.shares_calibration(other)), None)
        if twin is not None:
            raise UsageError(
                f"'{twin.output}' and '{one.output}' show the same probabilities", hint="pass one of them as --head"
            )
    return found


def check_alone(found: Sequence[Head], **options: object) -> None:
    """Raise UsageError for options that mean one head, where several were asked for."""
    for name, value in options.items():
        if value is not None and len(found) > 1:
            raise UsageError(
                f"--{name.replace('_', '-')} goes with one --head, not with {len(found)}",
                hint="calibrate one head after the other: a patched model keeps its patches",
            )


def all_patches(file: ModelFile, original: ModelFile, new: Sequence[NewPatch]) -> Patches:
    """The new patches, and those of other heads that the model carries already.

    A head that is calibrated again keeps the name and the extra output that it was given, unless told otherwise.
    """
    kept, made = [], {patch.head.output: (patch, calibration) for patch, calibration in new}
    for entry in calibrated_heads(file):
        head = recorded_head(original, entry)
        if head.output in made:
            patch, calibration = made[head.output]
            again = replace(
                patch,
                output_name=patch.output_name or entry.output_name,
                keep_logits=patch.keep_logits or entry.keep_logits,
            )
            made[head.output] = (again, calibration)
        elif not any(head.shares_calibration(patch.head) for patch, _ in new):
            known = Calibration.from_dict(entry.calibration, where=f"the metadata of {file.name}")
            kept.append((HeadPatch(head, known.steps(), entry.output_name, entry.keep_logits), known.as_json()))
    return [*kept, *((patch, calibration.as_json()) for patch, calibration in made.values())]
