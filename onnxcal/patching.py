"""`patch`: a known temperature into a model. Nothing is run, unless data are given.

Imports nothing that runs models or measures; what is needed for `data` is imported where it is used.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from onnxcal.atomic import check_apart
from onnxcal.calibrators import Calibration
from onnxcal.calibrators.temperature import TemperatureLike, as_temperature
from onnxcal.defaults import DEFAULT_BATCH_SIZE, BatchSize
from onnxcal.errors import UsageError
from onnxcal.graph.detect import changed_besides
from onnxcal.graph.filerecord import FileRecord
from onnxcal.graph.head import Activation
from onnxcal.graph.inspect import about, about_forced
from onnxcal.graph.metadata import unpatched_name
from onnxcal.graph.modelfile import ModelLike, open_model
from onnxcal.graph.patch import unpatched
from onnxcal.graph.plan import HeadPatch
from onnxcal.graph.tails import Hints
from onnxcal.graph.targets import require_fits
from onnxcal.heads import (
    NewPatch,
    about_forms,
    all_patches,
    check_alone,
    float16_note,
    form_of,
    heads_of,
    names_of,
    unusual_temperature,
)
from onnxcal.logits import Task, check_task
from onnxcal.output import choose_target, write, write_verified
from onnxcal.results import PatchResult

if TYPE_CHECKING:
    from onnxcal.inference.collect import Progress


def patch(
    model: ModelLike,
    calibration: Calibration | str | os.PathLike[str] | None = None,
    *,
    temperature: TemperatureLike | None = None,
    output: str | os.PathLike[str] | None = None,
    data: Any = None,
    labels: Any = None,
    preprocess: Any = None,
    label_column: str | None = None,
    head: str | Sequence[str] | None = None,
    task: Task | None = None,
    axis: int | None = None,
    activation: Activation | None = None,
    output_name: str | None = None,
    keep_logits: bool = False,
    fold: bool = False,
    runtime_temperature: bool = False,
    in_place: bool = False,
    force: bool = False,
    target: str | Sequence[str] = (),
    batch_size: BatchSize = DEFAULT_BATCH_SIZE,
    provider: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> PatchResult:
    """Put a known temperature into a model. Without `data` the result is checked, but not run.

    Parameters
    ----------
    model : path, or an `onnx.ModelProto` (then without `output` the result is in `.proto`).
    calibration : what `fit` returned, or the path of a CAL.json.
    temperature : T, instead of a calibration: a number, or a tensor that holds one.
    data, labels, preprocess, label_column : data to verify the result on, see `onnxcal.data.open_source`.
    output, head, task, axis, activation, output_name, keep_logits, fold, runtime_temperature, in_place, force,
    target, batch_size, provider, threads, progress : as for `calibrate`.

    Raises
    ------
    ModelError, DataError, UsageError
        Something that was passed cannot be used.
    VerificationError
        With `data`: the patched model does not match the reference; nothing was written.
    GateError
        It does not fit a target; nothing was written.
    """
    check_task(task)
    form = form_of(fold=fold, runtime_temperature=runtime_temperature, in_place=in_place)
    known = _calibration_to_patch(calibration, temperature)
    for name, value in {"labels": labels, "preprocess": preprocess, "label-column": label_column}.items():
        if value is not None and data is None:
            raise UsageError(f"--{name} does nothing without --data", hint="pass --data too, or neither")
    file = open_model(model)
    require_fits(file, target)
    place = choose_target(file, output, in_place=in_place, force=force)
    check_apart([place.path if not in_place else None], [file.path, calibration, *_paths_of(data), labels])
    original = unpatched(file)
    names = [unpatched_name(file, name) or known.output for name in names_of(head)]
    found = heads_of(file, original, names, Hints(task or known.task, axis, activation))
    check_alone(found, output_name=output_name)
    new: list[NewPatch] = [(HeadPatch(one, known.steps(), output_name, keep_logits, form), known) for one in found]
    patches = all_patches(file, original, new)
    verification, chosen, notes = None, tuple[str, ...](), tuple[str, ...]()
    if data is None:
        written = write(original, patches, place, target)
        notes = tuple(
            f"output '{name}' is computed from what is calibrated, and may change with it"
            for name in changed_besides(original, found)
        )
        notes += () if fold else float16_note(known.temperature)
    else:
        from onnxcal.inference.options import run_options
        from onnxcal.inference.sources import source_for

        source = source_for(file, found[0], data, labels, preprocess=preprocess, label_column=label_column)
        options, chosen = run_options(original, source, batch_size, provider, threads)
        written, verification, notes = write_verified(original, patches, place, source, options, None, progress, target)
    return PatchResult(
        model=FileRecord.of(file),
        output=written.record,
        head=found[0],
        heads=tuple(found),
        calibration=known,
        verification=verification,
        warnings=(
            *(line for one in found for line in about(one)),
            *(about_forced(original, found) if activation == "none" else ()),
            *unusual_temperature(known.temperature),
            *about_forms(original, patches),
            *chosen,
            *notes,
        ),
        folded=written.folded,
        targets=written.targets,
        proto=written.proto,
    )


def _paths_of(data: Any) -> list[str]:
    if data is None:
        return []
    from onnxcal.data import paths_of

    return paths_of(data)


def _calibration_to_patch(
    calibration: Calibration | str | os.PathLike[str] | None, temperature: TemperatureLike | None
) -> Calibration:
    if (calibration is None) == (temperature is None):
        raise UsageError(
            "a patch needs either a temperature or a calibration", hint="pass --temperature T or --calibration CAL.json"
        )
    if temperature is not None:
        return Calibration(as_temperature(temperature))
    return calibration if isinstance(calibration, Calibration) else Calibration.load(calibration)  # type: ignore[arg-type]
