"""Several heads of one model: which were asked for, and the patches that a file gets or keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from onnx.onnx_ml_pb2 import TensorProto

from onnxcal.calibrators import Calibration
from onnxcal.calibrators.steps import Divide
from onnxcal.calibrators.temperature import Temperature
from onnxcal.errors import UsageError
from onnxcal.graph.detect import changed_first, find_head
from onnxcal.graph.draft import IR_WITH_INITIALIZERS_APART
from onnxcal.graph.folding import overridable
from onnxcal.graph.head import Head
from onnxcal.graph.messages import clamped, held
from onnxcal.graph.metadata import RECIPE, CalibratedHead, calibrated_heads, recorded_metrics, with_metrics
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.plan import Form, HeadPatch
from onnxcal.graph.planner import make_plan
from onnxcal.graph.remade import recorded_head
from onnxcal.graph.tails import Hints
from onnxcal.graph.view import GraphView
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


def form_of(*, fold: bool, runtime_temperature: bool, in_place: bool) -> Form:
    """How T is to get into the graph.

    Raises
    ------
    UsageError
        Both forms were asked for, or weights were to be divided where no original would be left.
    """
    if fold and runtime_temperature:
        raise UsageError(
            "a T that is folded into weights cannot be an input", hint="pass one of --fold and --runtime-temperature"
        )
    if fold and in_place:
        raise UsageError(
            "--fold --in-place would leave no model to go back to, for it cannot be undone", hint="pass -o OUT instead"
        )
    return "folded" if fold else "input" if runtime_temperature else "division"


def check_form(original: ModelFile, found: Sequence[Head], form: Form) -> None:
    """Raise ModelError if T cannot get into the graph in this form, before any long work is done."""
    if form != "division":
        make_plan(GraphView(original), [HeadPatch(head, (Divide(1.0),), form=form) for head in found])


def check_alone(found: Sequence[Head], **options: object) -> None:
    """Raise UsageError for options that mean one head, where several were asked for."""
    for name, value in options.items():
        if value is not None and len(found) > 1:
            raise UsageError(
                f"--{name.replace('_', '-')} goes with one --head, not with {len(found)}",
                hint="calibrate one head after the other: a patched model keeps its patches",
            )


def all_patches(
    file: ModelFile, original: ModelFile, new: Sequence[NewPatch], recipe: Mapping[str, Any] | None = None
) -> Patches:
    """The new patches, and those of other heads that the model carries already.

    A head that is calibrated again keeps the name, the extra output and the input for T that it was given, unless told
    otherwise. What is divided by is T as it is recorded, and a `recipe` stands beside each new calibration.
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
                form=entry.form if patch.form == "division" else patch.form,
            )
            made[output] = (again, calibration)
    kept = []
    for entry, head in _kept(file, original, [patch.head for patch, _ in new]):
        known = Calibration.from_dict(entry.calibration, where=f"the metadata of {file.name}")
        record = with_metrics(known.as_record(head.dtype), recorded_metrics(file, entry))
        kept.append((HeadPatch(head, known.steps(), entry.output_name, entry.keep_logits, entry.form), record))
    more = {} if recipe is None else {RECIPE: dict(recipe)}
    for patch, calibration in made.values():
        record = calibration.as_record(patch.head.dtype)
        written = replace(patch, steps=Temperature(record["temperature"]).steps())
        kept.append((written, with_metrics(record, calibration.recorded) | more))
    return kept


def about_forms(original: ModelFile, patches: Patches) -> tuple[str, ...]:
    """What to know about T as an input, and about weights that a caller may replace."""
    if all(patch.form == "division" for patch, _ in patches):
        return ()
    plan = make_plan(GraphView(original), [patch for patch, _ in patches])
    notes = [
        f"only onnxruntime and onnx.reference honour the optional input '{name}'; other runtimes refuse it or keep its "
        "default, and the float16 converter of onnxconverter-common breaks it"
        for name in plan.temperature_inputs
        if name is not None
    ]
    if original.skeleton.ir_version >= IR_WITH_INITIALIZERS_APART:
        notes += [
            f"T is folded into '{one.tensor}', which is an input of the model too: who feeds other weights goes "
            "without T"
            if one.copy is None
            else f"T is folded into '{one.copy}', a copy of '{one.tensor}', which is an input of the model too: other "
            "weights that are fed to it do not reach what is calibrated"
            for one in overridable(GraphView(original), plan.scalings)
        ]
    return tuple(notes)


def unusual_temperature(temperature: float) -> tuple[str, ...]:
    """What to say of a T that is far from 1."""
    if 1e-4 <= temperature <= 1e4:
        return ()
    return (f"T = {temperature:g} is far from what any fit is known to give: the probabilities may be 0, 1 or NaN",)


def float16_note(temperature: float) -> tuple[str, ...]:
    """What to say of a T that float16 cannot hold to its usual digits, as float16 converters store it."""
    half = held(TensorProto.FLOAT16, clamped(temperature))
    if abs(half - temperature) <= 2.0**-10 * temperature:
        return ()
    return (
        f"T = {temperature:g} cannot be held in float16: converted to that later, the model would have T = {half:g}",
    )
