"""`export`: convert, run, verify, and only then let the files appear."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onnxcal.atomic import cannot_write, check_apart, check_writable, place_all
from onnxcal.calibrators.calibration import SCHEMA
from onnxcal.data import Source, paths_of
from onnxcal.defaults import DEFAULT_BATCH_SIZE, BatchSize
from onnxcal.errors import ModelError, UsageError
from onnxcal.exports.convert import convert, fused_otherwise, operators_added
from onnxcal.exports.formats import RECIPE, Format, format_named
from onnxcal.exports.tflite import recipe
from onnxcal.graph.filerecord import FileRecord
from onnxcal.graph.inspect import model_inputs
from onnxcal.graph.metadata import CALIBRATION_KEY, CalibratedHead, calibrated_heads
from onnxcal.graph.modelfile import ModelFile, ModelLike, open_model
from onnxcal.graph.patch import check_made_from, has_folded_weights, unpatched
from onnxcal.inference.collect import Progress
from onnxcal.inference.feeds import Feeder
from onnxcal.inference.options import run_options
from onnxcal.inference.runtimes.client import RuntimeProcess
from onnxcal.inference.runtimes.runtime import Runtime
from onnxcal.inference.session import open_session
from onnxcal.inference.sources import source_for
from onnxcal.results import ExportResult
from onnxcal.verification import DEFAULT_SAMPLES, DEFAULT_TIMEOUT, runtime_options, verify_file
from onnxcal.verification.checks import Verification
from onnxcal.verification.committed import DRAWN_SAMPLES, drawn_inputs
from onnxcal.verification.file import check_untouched
from onnxcal.verification.runtimes import laid_out
from onnxcal.verification.wanted import Converted


def export(
    model: ModelLike,
    output: str | os.PathLike[str] | None = None,
    *,
    to: str,
    original: ModelLike | None = None,
    data: Any = None,
    labels: Any = None,
    preprocess: Any = None,
    label_column: str | None = None,
    ignore_index: int | None = None,
    compress: bool = False,
    force: bool = False,
    runtime_samples: int = DEFAULT_SAMPLES,
    runtime_timeout: float = DEFAULT_TIMEOUT,
    batch_size: BatchSize = DEFAULT_BATCH_SIZE,
    provider: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> ExportResult:
    """Convert a calibrated model with another runtime's own converter, and verify it in that runtime.

    Parameters
    ----------
    model : the file that `calibrate` or `patch` wrote.
    output : the main file; default the model's name with the suffix of the format, beside it.
    to : `ort`, `openvino`, `mnn`, `ncnn`, `c`, or `tflite-recipe`, which is a text.
    original : the model that it was made from, needed where T is folded into weights.
    data, labels, preprocess, label_column : data to verify on, see `onnxcal.data.open_source`; labels are needed for
        the scores only. Without data, inputs are drawn at random.
    ignore_index : samples (or pixels) with this label do not count for the scores.
    compress : round weights to float16; what comes out is then held to the tolerance of float16.
    force : whether files that exist may be replaced.
    runtime_samples, runtime_timeout : how many samples the runtime runs, and for how many seconds.
    batch_size, provider, threads : how onnxruntime runs the model for the reference.
    progress : called after each batch with what is done, the samples so far, and their number where it is known.

    Raises
    ------
    UsageError
        The format is not known, its converter is not installed, or a file exists.
    ModelError
        The model carries no calibration, or the converter refuses it.
    VerificationError
        What was converted does not compute the calibrated probabilities; nothing was written.
    """
    form = format_named(to, compress=compress)
    runtimes = [form.runtime] if form.runtime else ()
    wanted, _ = runtime_options(runtimes, runtime_samples, runtime_timeout, ignore_index)
    of_data = {
        "labels": labels, "preprocess": preprocess, "label-column": label_column, "ignore-index": ignore_index
    }  # fmt: skip
    for name, value in of_data.items():
        if value is not None and data is None:
            raise UsageError(f"--{name} does nothing without --data", hint="pass --data too, or neither")
    file = open_model(model)
    entries = calibrated_heads(file)
    if not entries:
        raise ModelError(f"{file.name} carries no calibration", hint="calibrate it first: onnxcal calibrate")
    target = _target(file, output, form)
    for path in form.files(target):
        check_writable(path, force=force)
    check_apart(form.files(target), [file.path, *paths_of(data), labels, *paths_of(preprocess)])
    if form.name == RECIPE and data is not None:
        raise UsageError("--data does nothing with --to tflite-recipe", hint="leave it out: nothing is run")
    base = _without_patch(file, original)
    notes = tuple(_frozen_temperatures(entries, form))
    if form.name == RECIPE:
        return _write_recipe(base, file, entries, target, notes)

    (runtime,) = wanted.runtimes
    if data is None:
        source = _drawn(base, runtime)
        notes += (f"it was verified on {DRAWN_SAMPLES} drawn inputs: --data verifies it on yours",)
    else:
        source = source_for(base, None, data, labels, preprocess=preprocess, label_column=label_column)
    options, chosen = run_options(base, source, batch_size, provider, threads)
    with _staging(target) as folder:
        path = laid_out(file, folder, "after")
        shapes = _shapes(base, source) if runtime.single else {}
        metadata = {CALIBRATION_KEY: _document(file, entries)}
        before = laid_out(base, folder, "before")
        with RuntimeProcess(runtime, folder, runtime_timeout) as process:
            made = convert(process, file, path, shapes, form, compress, metadata)
            added = operators_added(process, file, before, made) if form.name == "ort" else ()
        ready = folder / "ready"  # without the .onnx file and its external data, which are not there later on either
        ready.mkdir()
        staged = [Path(shutil.move(each, ready / each.name)) for each in made]
        converted = Converted(staged[0], path, compress)
        verification, said = verify_file(base, file, source, options, progress, wanted, converted)
        verification.raise_if_failed(
            "pass --data: drawn inputs may not be what the model is made for" if data is None else None
        )
        record = FileRecord.of(file)
        place_all(list(zip(staged, form.files(target), strict=True)))
    return ExportResult(
        model=record,
        output=_record(target),
        to=to,
        files=tuple(map(str, form.files(target))),
        temperatures=_temperatures(entries),
        verification=verification,
        operators_added=added,
        warnings=(*chosen, *said, *fused_otherwise(file, added), *notes),
    )


def _target(file: ModelFile, output: str | os.PathLike[str] | None, form: Format) -> Path:
    if output is None:
        if file.path is None:
            raise UsageError("a model in memory has no name to go by", hint="pass output")
        return file.path.with_suffix(".ncnn.param" if form.name == "ncnn" else form.suffix)  # as pnnx names it
    if Path(output).suffix != form.suffix:
        raise UsageError(
            f"'{output}' does not end in {form.suffix}, as --to {form.name} has it",
            hint=f"pass -o {Path(output).with_suffix(form.suffix)}",
        )
    return Path(output)


def _without_patch(file: ModelFile, original: ModelLike | None) -> ModelFile:
    """The model that a calibrated one was made from."""
    if original is not None:
        base = unpatched(open_model(original))
        check_made_from(file, base)
        return base
    if has_folded_weights(file):
        raise ModelError(
            f"T is folded into the weights of {file.name}, which is verified against the model that it was made from",
            hint="pass that model as --original",
        )
    return unpatched(file)


def _frozen_temperatures(entries: Sequence[CalibratedHead], form: Format) -> Iterator[str]:
    """What to say of temperatures that are optional inputs, which only onnxruntime has."""
    for entry in entries:
        if entry.temperature_input is not None and form.name != "ort":
            yield (
                f"'{entry.temperature_input}' is an input in onnxruntime only: --to {form.name} fixes "
                f"T = {entry.calibration['temperature']:.6g}; for another, use onnxcal set-temperature and export again"
            )


def _drawn(base: ModelFile, runtime: Runtime) -> Source:
    """Inputs at random; what is converted for fixed sizes must have some."""
    for entry in model_inputs(base) if runtime.single else ():
        if entry.shape is None or not all(isinstance(size, int) and size > 0 for size in entry.shape[1:]):
            raise UsageError(
                f"input '{entry.name}' has free sizes, and {runtime.name} is made for fixed ones",
                hint="pass --data, whose first sample has the sizes that you mean",
            )
    return drawn_inputs(base)


def _shapes(base: ModelFile, source: Source) -> dict[str, tuple[int, ...]]:
    feed = next(iter(Feeder(open_session(base).inputs, source, 1).feeds()))
    return {name: array.shape for name, array in feed.arrays.items()}


def _document(file: ModelFile, entries: Sequence[CalibratedHead]) -> str:
    """What the calibrated model says of itself, as one JSON object."""
    heads = [entry.as_json() for entry in entries]
    return json.dumps({"schema": SCHEMA, "model": {"sha256": file.sha256}, "heads": heads}, allow_nan=False)


def _write_recipe(
    base: ModelFile, file: ModelFile, entries: Sequence[CalibratedHead], target: Path, notes: Sequence[str]
) -> ExportResult:
    """Nothing is run, but the file must carry the patch that its calibration says."""
    untouched = check_untouched(base, file)
    Verification(untouched.passed, (), (untouched,)).raise_if_failed()
    text = recipe(file, entries)
    with _staging(target) as folder:
        (folder / "recipe").write_text(text, encoding="utf-8")
        place_all([(folder / "recipe", target)])
    said = "nothing was converted or run: the recipe says how, and how to see that the result is right"
    return ExportResult(
        model=FileRecord.of(file),
        output=_record(target),
        to=RECIPE,
        files=(str(target),),
        temperatures=_temperatures(entries),
        verification=None,
        warnings=(*notes, said),
    )


def _temperatures(entries: Sequence[CalibratedHead]) -> dict[str, float]:
    return {str(e.output_name or e.head["output"]): float(e.calibration["temperature"]) for e in entries}


def _record(path: Path) -> FileRecord:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return FileRecord(os.fspath(path), lambda: digest)


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A hidden folder where the files will stand, so that they need only be renamed."""
    home = Path(os.path.realpath(target)).parent
    try:
        folder = tempfile.mkdtemp(prefix=".onnxcal-", dir=home)
    except OSError as error:
        raise cannot_write(target, error) from None
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
