"""What a plot is of, from what a user has: a calibration, arrays, stored logits, or a model and its data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxcal.calibrators import Calibration, fit
from onnxcal.calibrators.fit import measured
from onnxcal.data.npz import read_logits, stored_classes
from onnxcal.data.shards import fit_files
from onnxcal.errors import UsageError
from onnxcal.graph.head import Activation, Head
from onnxcal.graph.metadata import calibrated_heads
from onnxcal.graph.modelfile import ModelLike, open_model
from onnxcal.heldout import fit_and_measure
from onnxcal.inference import collect_logits
from onnxcal.inference.collect import Progress
from onnxcal.inference.layout import moves_places
from onnxcal.inference.options import DEFAULT_BATCH_SIZE, BatchSize
from onnxcal.logits import Task
from onnxcal.metrics.bootstrap import DEFAULT_RESAMPLES
from onnxcal.metrics.subject import Subject
from onnxcal.rows import labelled


@dataclass(frozen=True)
class Looked:
    """A calibration with the samples that it is looked at on, and what a model calls them."""

    calibration: Calibration
    """T, and what it is measured on."""
    classes: tuple[str, ...] | None = None
    """Names of the classes; None if the model does not say."""
    warnings: tuple[str, ...] = ()
    """Casts that were made, and the like."""

    def subject(self, *, fitted: bool = False) -> Subject:
        """What a plot is of: `fitted` for the samples that T was fitted on, instead of those it is measured on."""
        return subject_of(self.calibration, fitted=fitted, classes=self.classes)


def subject_of(calibration: Calibration, *, fitted: bool = False, classes: Sequence[str] | None = None) -> Subject:
    """The samples behind a calibration, before and after.

    Parameters
    ----------
    calibration : what `fit` returned, or `.calibration` of what `calibrate` did.
    fitted : look at the samples that T was fitted on, and at this T, where another half was held out to measure on.
    classes : names of the classes.

    Raises
    ------
    UsageError
        The calibration was read from a file, or given as a number: it has no samples with it.
    """
    seen = calibration.comparison
    if seen is None:
        raise UsageError(
            "the calibration comes without logits to look at",
            hint="pass what fit or calibrate returned, or onnxcal.plots.subject(logits, labels, calibration)",
        )
    subject = Subject(
        sample=seen.sample,
        temperature=seen.temperature,
        split=seen.split,
        interval=calibration.interval,
        output=calibration.output,
        classes=None if classes is None else tuple(map(str, classes)),
        resamples=seen.resamples,
        seed=seen.seed,
    )
    if not fitted or calibration.fitted_on is None or seen.split != "holdout":
        return subject
    return replace(subject, sample=calibration.fitted_on.sample, temperature=calibration.temperature, split="fit")


def subjects_of(calibration: Calibration, classes: Sequence[str] | None = None) -> tuple[Subject, Subject]:
    """The samples that a calibration is measured on, and those that it was fitted on, see `subject_of`."""
    return subject_of(calibration, classes=classes), subject_of(calibration, fitted=True, classes=classes)


def of_arrays(
    logits: Any,
    labels: Any,
    known: Calibration | None,
    *,
    task: Task | None = None,
    axis: int | None = None,
    ignore_index: int | None = None,
    sample_weight: Any = None,
    bootstrap: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> Calibration:
    """A known calibration measured on arrays, or the one that is fitted to them; parameters as for `fit`."""
    reading: dict[str, Any] = {"axis": axis, "ignore_index": ignore_index}
    if known is None:
        weighted = {"sample_weight": sample_weight, "bootstrap": bootstrap, "seed": seed}
        return fit(logits, labels, task=task, **reading, **weighted)
    sample = labelled(logits, labels, task=task or known.task, weight=sample_weight, **reading)
    return measured(known, sample, split="eval", resamples=bootstrap, seed=seed)


def of_stored(
    path: Path,
    known: Calibration | None,
    *,
    task: Task | None = None,
    axis: int | None = None,
    ignore_index: int | None = None,
    bootstrap: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> Looked:
    """A known calibration measured on a LOGITS.npz, or the one that `onnxcal fit` would fit to it."""
    reading: dict[str, Any] = {
        "task": task, "axis": axis, "ignore_index": ignore_index, "bootstrap": bootstrap, "seed": seed
    }  # fmt: skip
    if known is None:
        found = fit_files([path], **reading)
        return Looked(found, stored_classes(path), found.warnings)
    stored = read_logits(path)
    reading["task"] = task or stored.task
    found = of_arrays(stored.logits, stored.labels, known, sample_weight=stored.sample_weight, **reading)
    return Looked(replace(found, output=stored.output), stored_classes(path))


def of_model(
    model: ModelLike,
    data: Any,
    known: Calibration | None,
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
    bootstrap: int = DEFAULT_RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Looked:
    """A calibration measured on a model's own logits, which of a patched model are those before the calibration.

    The calibration is the known one; else that of a patched model; else the one that `onnxcal calibrate` would fit,
    measured as it would: on a half that was held out.
    """
    file = open_model(model)
    collected = collect_logits(
        file,
        data,
        labels=labels,
        preprocess=preprocess,
        label_column=label_column,
        head=head or (None if known is None else known.output),
        task=task,
        axis=axis,
        activation=activation,
        ignore_index=ignore_index,
        batch_size=batch_size,
        provider=provider,
        threads=threads,
        progress=progress,
    )
    how: dict[str, Any] = {"resamples": bootstrap, "seed": seed}
    for entry in calibrated_heads(file):
        if known is None and entry.head["output"] == collected.head.output:
            known = Calibration.from_dict(entry.calibration, where=f"the metadata of {file.name}")
    if known is None:
        found = fit_and_measure(collected, None, {}, holdout=True, **how)
    else:
        found = replace(measured(known, collected.labelled, split="eval", **how), output=collected.head.output)
    return Looked(found, class_names(collected.head), (*collected.warnings, *found.warnings))


def known_calibration(
    calibration: Calibration | str | os.PathLike[str] | None, temperature: float | None
) -> Calibration | None:
    """What the user passed as `calibration` or `temperature`; None if neither.

    Raises
    ------
    UsageError
        Both were passed, or T is not positive and finite.
    DataError
        The file is no CAL.json.
    """
    if calibration is not None and temperature is not None:
        raise UsageError("both a temperature and a calibration were passed", hint="pass one of them, or neither to fit")
    if temperature is not None:
        return Calibration(float(temperature))
    return calibration if calibration is None or isinstance(calibration, Calibration) else Calibration.load(calibration)


def class_names(head: Head) -> tuple[str, ...] | None:
    """What the model calls the classes of its logits, in their order.

    None if that is 0, 1, … or not known; also where a `ZipMap` names the classes of an output that shows them in
    another order than the logits, which is found when the model runs.
    """
    if head.classes is None or list(head.classes) == list(range(len(head.classes))):
        return None
    return None if head.keys is not None and moves_places(head) else tuple(map(str, head.classes))
