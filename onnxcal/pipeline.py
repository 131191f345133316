"""The straight road: collect, fit, plan, patch, verify; and the commands that are one stretch of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnxcal.atomic import check_apart, check_writable
from onnxcal.calibrators.fit import check_method, check_regularisation, check_resamples
from onnxcal.calibrators.remarks import got_worse
from onnxcal.data import paths_of
from onnxcal.depfile import check_depfile, files_of, write_depfile
from onnxcal.errors import UsageError
from onnxcal.gates import Gates, as_checks, last_temperatures, raise_for_gates
from onnxcal.graph.detect import find_head
from onnxcal.graph.external import external_files
from onnxcal.graph.filerecord import FileRecord
from onnxcal.graph.head import Activation
from onnxcal.graph.inspect import about, about_forced
from onnxcal.graph.metadata import unpatched_name
from onnxcal.graph.modelfile import ModelLike, open_model
from onnxcal.graph.patch import unpatched
from onnxcal.graph.plan import HeadPatch
from onnxcal.graph.tails import Hints
from onnxcal.graph.targets import require_fits
from onnxcal.heads import NewPatch, about_forms, all_patches, check_alone, check_form, form_of, heads_of, names_of
from onnxcal.heldout import fit_and_measure
from onnxcal.inference.collect import Progress, collect
from onnxcal.inference.options import DEFAULT_BATCH_SIZE, BatchSize, run_options
from onnxcal.inference.sources import source_for
from onnxcal.logits import Task, check_task
from onnxcal.metrics import score
from onnxcal.metrics.bootstrap import DEFAULT_RESAMPLES
from onnxcal.metrics.recorded import RecordedMetrics
from onnxcal.output import choose_target, write_verified
from onnxcal.report.calibration import write_calibration
from onnxcal.report.command import as_command
from onnxcal.report.figures import pictures_of
from onnxcal.report.html import check_report_libraries, write_report
from onnxcal.report.markdown import write_summary
from onnxcal.results import CalibratedHead, CalibrateResult, EvaluateResult
from onnxcal.subjects import class_names, subjects_of
from onnxcal.verification import DEFAULT_SAMPLES, DEFAULT_TIMEOUT, runtime_options
from onnxcal.verification.checks import Check


def calibrate(
    model: ModelLike,
    data: Any,
    *,
    output: str | os.PathLike[str] | None = None,
    labels: Any = None,
    preprocess: Any = None,
    label_column: str | None = None,
    eval_data: Any = None,
    eval_labels: Any = None,
    no_holdout: bool = False,
    head: str | Sequence[str] | None = None,
    task: Task | None = None,
    axis: int | None = None,
    activation: Activation | None = None,
    method: str = "temperature",
    ignore_index: int | None = None,
    exact: bool = False,
    prior: float | None = None,
    smoothing: float | None = None,
    bootstrap: int = DEFAULT_RESAMPLES,
    output_name: str | None = None,
    keep_logits: bool = False,
    fold: bool = False,
    runtime_temperature: bool = False,
    in_place: bool = False,
    force: bool = False,
    save_calibration: str | os.PathLike[str] | None = None,
    report: str | os.PathLike[str] | None = None,
    summary: str | os.PathLike[str] | None = None,
    depfile: str | os.PathLike[str] | None = None,
    max_ece: float | None = None,
    max_nll: float | None = None,
    min_accuracy: float | None = None,
    max_temperature_change: float | None = None,
    require_improvement: bool = False,
    target: str | Sequence[str] = (),
    runtime: str | Sequence[str] = (),
    runtime_samples: int = DEFAULT_SAMPLES,
    runtime_timeout: float = DEFAULT_TIMEOUT,
    batch_size: BatchSize = DEFAULT_BATCH_SIZE,
    provider: str | None = None,
    threads: int | None = None,
    seed: int = 0,
    recipe: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> CalibrateResult:
    """Fit a temperature on a model's own logits, put it into the model, and prove by running it that it is there.

    Parameters
    ----------
    model : path, or an `onnx.ModelProto` (then without `output` the result is in `.proto`).
    data, labels, preprocess, label_column : labelled validation data, see `onnxcal.data.open_source`.
    output : where the calibrated model goes, default `<stem>.calibrated.onnx` beside the model.
    eval_data, eval_labels : labelled data to measure on, instead of a held-out half; read as `data` is.
    no_holdout : measure on the samples that are fitted on.
    head : which output, needed where several can be a classifier; a sequence of names calibrates several, each with a
        temperature of its own. Labels of each are then a dict by output name, or `labels_<output>` in an `.npz`.
    task, axis, activation : what overrides the detection.
    ignore_index : samples with this label are dropped.
    exact, prior, smoothing : how T is fitted, see `fit`.
    bootstrap : resamples for the intervals of the metrics; 0 for none.
    output_name : new name of the output, default the old one.
    keep_logits : make the calibrated logits one more output.
    fold : divide the weights that make the logits, instead of the logits; the graph gains no division.
    runtime_temperature : make T an optional input of the graph, with T as its default.
    in_place, force : write to the model itself; replace an `output` that exists.
    save_calibration : keep the calibration in this CAL.json too.
    report : write what was found as one HTML file (extra `report`).
    summary : write it as a short Markdown text, for a pull request or a model card.
    depfile : write which files were read, as a rule for Make or Ninja.
    max_ece, max_nll : refuse to write if the ECE, or the NLL in nats, after calibration is larger.
    min_accuracy : refuse to write if the accuracy is smaller.
    max_temperature_change : refuse to write if T differs by more, relative to T in the `output` that is to be replaced.
    require_improvement : refuse to write unless the 95 % interval of the change of held-out NLL lies below 0.
    target : runtimes such as `onnxruntime==1.17` that must be able to load it, by IR version, opsets and operators.
    runtime : names of other runtimes that the calibrated model must be right in; `"all"` for those that are installed.
    runtime_samples, runtime_timeout : how many samples each of them runs, and for how many seconds; see `verify`.
    batch_size : samples a run, or `"auto"` for as many as run fastest.
    provider, threads : how onnxruntime runs the model.
    seed : of the holdout split.
    recipe : what `output` is made from, as JSON data; kept in its metadata, where `onnxcal.build` looks for it.
    progress : called after each batch with what is done, the samples so far, and their number where it is known.

    Raises
    ------
    ModelError, DataError, UsageError
        Something that was passed cannot be used.
    FitError
        No positive, finite temperature is best.
    VerificationError, GateError
        A check said no; nothing was written.
    """
    asked = as_command("calibrate", {**locals()}, calibrate)
    check_task(task)
    check_method(method)
    check_resamples(bootstrap)
    check_regularisation(prior, smoothing)
    _check_seed(seed)
    gates = Gates(max_ece, max_nll, min_accuracy, max_temperature_change, require_improvement)
    gates.check_measurable(no_holdout=no_holdout, resamples=bootstrap)
    wanted, absent = runtime_options(runtime, runtime_samples, runtime_timeout, ignore_index)
    form = form_of(fold=fold, runtime_temperature=runtime_temperature, in_place=in_place)
    file = open_model(model)
    require_fits(file, target)
    place = choose_target(file, output, in_place=in_place, force=force)
    if save_calibration is not None:
        check_writable(Path(save_calibration), force=force)
    if report is not None:
        check_report_libraries()
        check_writable(Path(report), force=force)
    if summary is not None:
        check_writable(Path(summary), force=force)
    if depfile is not None:
        check_depfile(depfile, file.path, place.path)
    written_to = (place.path if not in_place else None, *map(_path, (save_calibration, report, summary, depfile)))
    check_apart(
        written_to,
        [file.path, *paths_of(data), labels, *paths_of(preprocess), *paths_of(eval_data), eval_labels],
    )
    original = unpatched(file)
    hints = Hints(task, axis, activation)
    found = heads_of(file, original, [unpatched_name(file, name) for name in names_of(head)], hints)
    check_alone(found, output_name=output_name, save_calibration=save_calibration)
    check_form(original, found, form)
    known: dict[str, Any] = {"preprocess": preprocess, "label_column": label_column}
    source = source_for(file, found[0], data, labels, **known)
    evaluation = None if eval_data is None else source_for(file, found[0], eval_data, eval_labels, **known)
    options, chosen = run_options(original, source, batch_size, provider, threads)
    reading: dict[str, Any] = {
        "ignore_index": ignore_index, "forced": activation == "none", "progress": progress
    }  # fmt: skip

    fitting: dict[str, Any] = {"exact": exact, "prior": prior, "smoothing": smoothing or 0.0}

    calibrated, new, warnings = [], list[NewPatch](), dict.fromkeys((*chosen, *absent))
    last, judged = last_temperatures(place.path), list[tuple[str, Check]]()
    if activation == "none":
        warnings.update(dict.fromkeys(about_forced(original, found)))
    for one in found:
        collected = collect(original, one, source, options, **reading)
        apart = None if evaluation is None else collect(original, one, evaluation, options, **reading)
        calibration = fit_and_measure(collected, apart, fitting, holdout=not no_holdout, resamples=bootstrap, seed=seed)
        metrics = calibration.metrics
        assert metrics is not None
        judgement = gates.judge(calibration, metrics, dtype=collected.head.dtype, last=last.get(one.output))
        judged += ((one.output, check) for check in judgement)
        calibration = replace(calibration, recorded=RecordedMetrics.of(metrics))
        calibrated.append(CalibratedHead(collected.head, calibration, metrics))
        new.append((HeadPatch(collected.head, calibration.steps(), output_name, keep_logits, form), calibration))
        said = (*about(one), *collected.warnings, *calibration.warnings, *got_worse(metrics))
        warnings.update((line if len(found) == 1 else f"'{one.output}': {line}", None) for line in said)

    first = calibrated[0]
    raise_for_gates(judged, calibration=first.calibration, metrics=first.metrics, several=len(found) > 1)
    patches = all_patches(file, original, new, recipe)
    written, verification, notes = write_verified(original, patches, place, source, options, wanted, progress, target)
    if save_calibration is not None:
        write_calibration(first.calibration, save_calibration, force=force)
    result = CalibrateResult(
        model=FileRecord.of(file),
        output=written.record,
        head=first.head,
        calibration=first.calibration,
        metrics=first.metrics,
        heads=tuple(calibrated),
        gates=(*(check for _, check in judged), *as_checks(written.targets)),
        verification=verification,
        warnings=tuple(dict.fromkeys((*warnings, *about_forms(original, patches), *notes))),
        folded=written.folded,
        proto=written.proto,
    )
    if depfile is not None:
        given = [path for each in (data, labels, preprocess, eval_data, eval_labels) for path in paths_of(each)]
        read = [file for path in given for file in files_of(path)]
        write_depfile(depfile, {str(place.path): [str(file.path), *map(str, external_files(file)), *read]})
    if report is not None:
        seen = {one.head.output: subjects_of(one.calibration, class_names(one.head)) for one in calibrated}
        write_report(result, original, report, pictures=pictures_of(seen), command=asked, force=force)
    if summary is not None:
        write_summary(result, summary, force=force)
    return result


def evaluate(
    model: ModelLike,
    data: Any,
    *,
    labels: Any = None,
    preprocess: Any = None,
    label_column: str | None = None,
    head: str | None = None,
    task: Task | None = None,
    axis: int | None = None,
    activation: Activation | None = None,
    ignore_index: int | None = None,
    batch_size: BatchSize = DEFAULT_BATCH_SIZE,
    provider: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> EvaluateResult:
    """Scores of a model as it stands, calibrated or not.

    Parameters and errors as for `collect_logits`; of a patched model the calibrated logits are scored.
    """
    check_task(task)
    file = open_model(model)
    found = find_head(file, head, Hints(task, axis, activation))
    source = source_for(file, found, data, labels, preprocess=preprocess, label_column=label_column)
    options, chosen = run_options(file, source, batch_size, provider, threads)
    collected = collect(
        file,
        found,
        source,
        options,
        ignore_index=ignore_index,
        forced=activation == "none",
        labels_of=unpatched_name(file, found.output),
        progress=progress,
    )
    scores = score(collected.labelled)
    return EvaluateResult(FileRecord.of(file), collected.head, scores, (*about(found), *chosen, *collected.warnings))


def _path(path: str | os.PathLike[str] | None) -> Path | None:
    return None if path is None else Path(path)


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise UsageError(f"seed {seed} is negative", hint="pass a whole number from 0")
