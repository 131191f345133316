"""Plots, from Python: functions that draw into matplotlib axes, and `figure` and `save` for what goes on a slide.

::

    calibration = onnxcal.fit(logits, labels)
    onnxcal.plots.save(onnxcal.plots.figure("reliability", calibration), "reliability.svg")

    fig, (left, right) = plt.subplots(1, 2)
    onnxcal.plots.reliability_diagram(calibration, at="before", ax=left)
    onnxcal.plots.reliability_diagram(calibration, at="after", ax=right)

Needs matplotlib: ``pip install 'onnxcal[report]'``. Colours follow the axes' background, light or dark.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from onnxcal.atomic import check_apart, check_writable, write_file
from onnxcal.calibrators import Calibration
from onnxcal.data import paths_of
from onnxcal.data.names import class_names_of
from onnxcal.errors import UsageError
from onnxcal.graph.filerecord import FileRecord, file_digest
from onnxcal.graph.head import Activation
from onnxcal.inference.collect import Progress
from onnxcal.inference.options import DEFAULT_BATCH_SIZE, BatchSize
from onnxcal.logits import Task, check_task
from onnxcal.metrics.bootstrap import DEFAULT_RESAMPLES
from onnxcal.metrics.confidences import confidence_histograms
from onnxcal.metrics.diagrams import class_diagram, class_diagrams, reliability_diagrams
from onnxcal.metrics.diagrams import reliability_sweep as sweep_of
from onnxcal.metrics.risk import risk_coverages
from onnxcal.metrics.subject import Subject
from onnxcal.metrics.temperatures import temperature_curve as curve_of
from onnxcal.report.plots import draw, find_plot, require_matplotlib, write_figure
from onnxcal.report.plots.kinds import KINDS, check_style, check_suffix
from onnxcal.results import PlotResult
from onnxcal.subjects import known_calibration, of_arrays, of_model, of_stored, subject_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "KINDS", "class_reliability_diagram", "confidence_histogram", "figure", "plot", "reliability_diagram",
    "reliability_sweep", "risk_coverage_curve", "save", "subject", "temperature_curve",
]  # fmt: skip

ClassNames: TypeAlias = "Sequence[str] | str | os.PathLike[str]"
At: TypeAlias = Literal["before", "after"]
Seen: TypeAlias = "Calibration | Subject"
"""What `onnxcal.fit` returned, `.calibration` of what `onnxcal.calibrate` returned, or a `subject`."""


def subject(
    logits: Any,
    labels: Any,
    temperature: Calibration | float | None = None,
    *,
    task: Task | None = None,
    axis: int | None = None,
    ignore_index: int | None = None,
    sample_weight: Any = None,
    class_names: ClassNames | None = None,
    bootstrap: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> Subject:
    """Logits to look at, at T = 1 and at another temperature.

    Parameters
    ----------
    logits, labels, task, axis, ignore_index, sample_weight : as for `onnxcal.fit`.
    temperature : T or a calibration; None to fit it.
    class_names : names of the classes in the order of their indices, or a text file with one a line.
    bootstrap, seed : resamples for the intervals of scores, 0 for none; and of their generator.

    Raises
    ------
    DataError
        Arrays that do not fit each other.
    FitError
        No positive, finite temperature is best.
    """
    check_task(task)
    known = Calibration(float(temperature)) if isinstance(temperature, (int, float)) else temperature
    found = of_arrays(
        logits, labels, known, task=task, axis=axis, ignore_index=ignore_index, sample_weight=sample_weight,
        bootstrap=bootstrap, seed=seed,
    )  # fmt: skip
    return _named(subject_of(found), class_names)


def reliability_diagram(seen: Seen, *, at: At = "after", ax: Axes | None = None, legend: bool = True) -> Axes:
    """Accuracy per bin of confidence with Wilson intervals, the gap to the confidence, ECE; the counts below.

    The counts take room from `ax`, and are the axes that were added last to its figure.

    Parameters
    ----------
    seen : what to look at.
    at : `before` (T = 1) or `after`.
    ax : matplotlib axes, default those of a new figure.
    legend : whether the axes get one, where it hides least.

    Returns
    -------
    The axes of the diagram.
    """
    from onnxcal.report.plots.reliability import draw_diagram

    ax, both = _axes(ax), reliability_diagrams(_subject(seen))
    one = both.before if _check_at(at) == "before" else both.after
    draw_diagram(ax, one, title=f"{at}: T = {one.temperature:.3g}", corner="above")
    return _with_legend(ax) if legend else ax


def class_reliability_diagram(
    seen: Seen, *, index: int | None = None, ax: Axes | None = None, legend: bool = True
) -> Axes:
    """The same of the samples that are predicted to be of one class (top-label calibration); marks for T = 1.

    Parameters
    ----------
    seen, ax, legend : as for `reliability_diagram`.
    index : the class, default the one that adds most to the ECE after calibration; for multilabel, the label.

    Raises
    ------
    UsageError
        Nothing is predicted to be of this class.
    """
    from onnxcal.report.plots.classes import draw_class

    ax, what = _axes(ax), _subject(seen)
    draw_class(ax, class_diagrams(what, count=1).worst[0] if index is None else class_diagram(what, index))
    return _with_legend(ax) if legend else ax


def temperature_curve(seen: Seen, *, ax: Axes | None = None, legend: bool = True) -> Axes:
    """NLL, and below it ECE, against T on a log axis: T with its interval, and T = 1, are marked.

    Parameters and return value as for `reliability_diagram`; of a calibration, on the samples that T was fitted on.
    """
    from onnxcal.report.plots.temperature import draw_curve

    ax = _axes(ax)
    draw_curve(ax, curve_of(_subject(seen, fitted=True)))
    return _with_legend(ax) if legend else ax


def reliability_sweep(
    seen: Seen, *, temperatures: Sequence[float] | None = None, ax: Axes | None = None, legend: bool = True
) -> Axes:
    """Reliability as lines, at T = 1, at the calibration's T, and at others.

    Parameters
    ----------
    seen, ax, legend : as for `reliability_diagram`.
    temperatures : the others; default a quarter, half, twice and four times the calibration's.
    """
    from onnxcal.report.plots.sweep import draw_sweep

    ax = _axes(ax)
    others = None if temperatures is None else tuple(Calibration(float(t)).temperature for t in temperatures)
    draw_sweep(ax, sweep_of(_subject(seen), others))
    return _with_legend(ax) if legend else ax


def risk_coverage_curve(seen: Seen, *, ax: Axes | None = None, legend: bool = True) -> Axes:
    """Share of errors among the surest predictions, before and after, with the area under each curve (AURC).

    Parameters and return value as for `reliability_diagram`.
    """
    from onnxcal.report.plots.risk_coverage import draw_curves

    ax = _axes(ax)
    draw_curves(ax, risk_coverages(_subject(seen)))
    return _with_legend(ax) if legend else ax


def confidence_histogram(seen: Seen, *, at: At = "after", ax: Axes | None = None, legend: bool = True) -> Axes:
    """Confidences of right predictions upwards and of wrong ones downwards, as shares of their own number.

    Parameters and return value as for `reliability_diagram`.
    """
    from onnxcal.report.plots.confidence import draw_histogram

    ax, both = _axes(ax), confidence_histograms(_subject(seen))
    one = both.before if _check_at(at) == "before" else both.after
    draw_histogram(ax, one, title=f"{at}: T = {one.temperature:.3g}")
    return _with_legend(ax) if legend else ax


def figure(kind: str, seen: Seen, *, style: str = "light") -> Figure:
    """A whole figure, ready for a slide: what `onnxcal plot KIND` draws.

    Parameters
    ----------
    kind : one of `KINDS`.
    seen : what to look at.
    style : `light` or `dark`.

    Raises
    ------
    UsageError
        The kind or style is not known, or matplotlib is not installed.
    """
    fitted = find_plot(kind).fitted
    return draw(kind, _subject(seen, fitted=fitted), style=style)


def save(figure: Figure, path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write a figure as `.svg`, `.png` or `.pdf`, without dates: the same figure gives the same bytes.

    Raises
    ------
    UsageError
        The suffix is another, `path` exists and `force` is False, or it cannot be written.
    """
    suffix = Path(path).suffix
    check_suffix(suffix)
    write_file(path, lambda file: write_figure(figure, file, suffix), force=force)


def plot(
    kind: str,
    source: Any,
    *,
    output: str | os.PathLike[str],
    data: Any = None,
    labels: Any = None,
    preprocess: Any = None,
    label_column: str | None = None,
    temperature: float | None = None,
    calibration: Calibration | str | os.PathLike[str] | None = None,
    head: str | None = None,
    task: Task | None = None,
    axis: int | None = None,
    activation: Activation | None = None,
    ignore_index: int | None = None,
    batch_size: BatchSize = DEFAULT_BATCH_SIZE,
    provider: str | None = None,
    threads: int | None = None,
    style: str = "light",
    class_names: ClassNames | None = None,
    bootstrap: int = DEFAULT_RESAMPLES,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> PlotResult:
    """Draw a model, or stored logits, before and after calibration, into a file.

    Parameters
    ----------
    kind : one of `KINDS`.
    source : a model, with `data`; or a LOGITS.npz.
    output : where to, `.svg`, `.png` or `.pdf`.
    data, labels, preprocess, label_column : labelled data to run a model on, see `onnxcal.data.open_source`.
    temperature, calibration : what to look at. Without either, T is that of a patched model; else it is fitted, as
        `calibrate` (of a model: measured on a held-out half) and `fit` (of stored logits) would.
    style : `light` or `dark`.
    class_names : names of the classes in the order of their indices, or a text file with one a line; default what the
        model calls them.
    head, task, axis, activation, ignore_index, batch_size, provider, threads, bootstrap, seed, progress : as for
        `calibrate`.
    force : replace an `output` that exists.

    Raises
    ------
    ModelError, DataError, UsageError
        Something that was passed cannot be used, or matplotlib is not installed.
    FitError
        No positive, finite temperature is best.
    """
    check_task(task)
    kind_of_plot = find_plot(kind)
    check_style(style)
    check_suffix(Path(output).suffix)
    require_matplotlib()
    check_writable(Path(output), force=force)
    check_apart([Path(output)], [source, *paths_of(data), labels, calibration, class_names])
    known = known_calibration(calibration, temperature)
    if data is None:
        unused = {"preprocess": preprocess, "label-column": label_column}
        _check_stored(source, labels=labels, head=head, activation=activation, **unused)
        looked = of_stored(
            Path(source), known, task=task, axis=axis, ignore_index=ignore_index, bootstrap=bootstrap, seed=seed
        )
    else:
        looked = of_model(
            source, data, known, labels=labels, preprocess=preprocess, label_column=label_column, head=head, task=task,
            axis=axis, activation=activation, ignore_index=ignore_index, batch_size=batch_size, provider=provider,
            threads=threads, bootstrap=bootstrap, seed=seed, progress=progress,
        )  # fmt: skip
    what = _named(looked.subject(fitted=kind_of_plot.fitted), class_names)
    numbers = kind_of_plot.data(what)
    save(draw(kind, what, numbers, style=style), output, force=force)
    return PlotResult(
        kind=kind,
        output=FileRecord(os.fspath(output), lambda: file_digest(output)),
        temperature=what.temperature,
        n_samples=what.sample.logits.n_samples,
        split=what.split,
        data=numbers,
        warnings=looked.warnings,
    )


def _check_stored(source: Any, **options: object) -> None:
    if not isinstance(source, (str, os.PathLike)) or Path(source).suffix == ".onnx":
        raise UsageError("a model is looked at on data, and there is none", hint="pass --data DATA, or a LOGITS.npz")
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"--{name} does nothing without --data", hint="pass --data too, or neither")


def _named(what: Subject, names: ClassNames | None) -> Subject:
    return what if names is None else replace(what, classes=class_names_of(names, what.sample.logits.num_classes))


def _subject(seen: Seen, *, fitted: bool = False) -> Subject:
    if isinstance(seen, Subject):
        return seen
    if isinstance(seen, Calibration):
        return subject_of(seen, fitted=fitted)
    raise UsageError(
        f"a {type(seen).__name__} cannot be plotted",
        hint="pass what onnxcal.fit returned, .calibration of what onnxcal.calibrate returned, or a plots.subject",
    )


def _check_at(at: str) -> str:
    if at not in ("before", "after"):
        raise UsageError(f"at={at!r} is not known", hint="use 'before' or 'after'")
    return at


def _axes(ax: Axes | None) -> Axes:
    require_matplotlib()
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    made: Axes = plt.subplots(layout="constrained")[1]
    return made


def _with_legend(ax: Axes) -> Axes:
    ax.legend(loc="best", fontsize="small", framealpha=0.85)
    return ax
