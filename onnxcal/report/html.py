"""`--report`: a calibration as one HTML file, without scripts and without anything from elsewhere.

Names come out of files that anyone may have made: the template escapes all of them, and what is no printable character
is shown as an escape sequence.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import onnx

from onnxcal.atomic import write_file
from onnxcal.calibrators import Calibration
from onnxcal.errors import UsageError
from onnxcal.graph.inspect import Inspection, inspect
from onnxcal.graph.modelfile import ModelFile
from onnxcal.metrics import Intervals, Metrics
from onnxcal.report.drawing import draw
from onnxcal.report.figures import Picture, Pictures
from onnxcal.report.printable import printable
from onnxcal.report.runtimes import figures, own_checks, runtime_outcome
from onnxcal.report.verdict import outcome, sentence
from onnxcal.results import CalibratedHead, CalibrateResult
from onnxcal.verification import Check, RuntimeCheck
from onnxcal.version import __version__

_WIDTH = 96
_LONGEST = 400
_COMMAND = 20_000
_SPLITS = {
    "holdout": "held-out half, measured with the T of the other half",
    "eval": "evaluation set",
    "fit": "the samples that T was fitted on",
}
_SCORES = (
    ("accuracy, %", "accuracy", 100.0, "{:.2f}"),
    ("mean confidence, %", "confidence", 100.0, "{:.2f}"),
    ("NLL, nats", "nll", 1.0, "{:.4f}"),
    ("ECE, 15 bins of the top label", "ece", 1.0, "{:.4f}"),
    ("Brier score", "brier", 1.0, "{:.4f}"),
)
"""Name, metric, the unit's factor, and form: of shares in % the change is in points."""


def check_report_libraries() -> None:
    """Raise UsageError unless what draws and renders a report is installed."""
    missing = [
        name for name, module in (("Jinja2", "jinja2"), ("matplotlib", "matplotlib")) if find_spec(module) is None
    ]
    if missing:
        raise UsageError(f"a report needs {' and '.join(missing)}", hint="pip install 'onnxcal[report]'")


def write_report(
    result: CalibrateResult,
    original: ModelFile,
    path: str | os.PathLike[str],
    *,
    pictures: Pictures,
    command: str,
    force: bool,
) -> None:
    """Write the report of a calibration.

    Parameters
    ----------
    result : what `calibrate` did.
    original : the model without a patch.
    path : the .html file.
    pictures : of the heads.
    command : what was run.
    force : whether the file may be replaced.

    Raises
    ------
    UsageError
        Jinja2 is not installed, or the file cannot be written.
    """
    patched = result.proto if result.output.path is None else result.output.path
    assert patched is not None
    text = _render(result, inspect(original), inspect(patched), pictures, command)
    write_file(path, lambda file: file.write(text.encode()), force=force)  # type: ignore[arg-type]


def _render(
    result: CalibrateResult,
    before: Inspection,
    after: Inspection,
    pictures: Pictures,
    command: str,
) -> str:
    import jinja2

    loader = jinja2.PackageLoader("onnxcal.report", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    model = "the model in memory" if result.model.path is None else os.path.basename(result.model.path)
    runtime = result.verification.runtimes[0]
    return environment.get_template("report.html").render(
        model=_shown(model),
        subtitle=f"onnxcal {__version__}; {runtime.name} {runtime.version}; {runtime.n_samples:,} samples",
        heads=[_head(one, before, after, pictures.heads[one.head.output], result.folded) for one in result.heads],
        left_out=pictures.left_out,
        verified=f"The calibrated file was run on all {runtime.n_samples:,} samples: its largest error is "
        f"{runtime.max_abs_error:.1e}, and {runtime.argmax_changed} predictions changed.",
        runtime=f"{runtime.name} {runtime.version}, {runtime.n_samples:,} samples, against softmax(z/T) or σ(z/T) in "
        "float64 from the logits of the model as it came",
        runtimes=[_runtime(entry) for entry in result.verification.runtimes[1:]],
        checks=[_check(check) for check in own_checks(result.verification)],
        warnings=[_shown(warning) for warning in result.warnings],
        run=_run(result),
        command=_shown(command, _COMMAND),
        revert=_shown(_revert(result), _COMMAND),
    )


def _check(check: Check) -> dict[str, Any]:
    return {
        "name": _shown(check.name),
        "passed": check.passed,
        "value": "" if check.value is None else f"{check.value:.2g}",
        "limit": "" if check.limit is None else f"{check.limit:.2g}",
        "detail": _shown(check.detail),
    }


def _runtime(entry: RuntimeCheck) -> dict[str, Any]:
    return {
        "title": f"{_shown(entry.title)} {_shown(entry.version)}",
        "passed": entry.passed,
        "outcome": runtime_outcome(entry),
        "figures": figures(entry),
        "n_samples": f"{entry.n_samples:,}",
        "detail": _shown(entry.detail),
    }


def _revert(result: CalibrateResult) -> str:
    """The command that brings the original back."""
    command = f"onnxcal revert {_path(result.output.path)} -o original.onnx"
    return f"{command} --original {_path(result.model.path)}" if result.folded else command


def _head(
    one: CalibratedHead, before: Inspection, after: Inspection, figures: Sequence[Picture], folded: Sequence[str]
) -> dict[str, Any]:
    metrics, sure = one.metrics, one.metrics.intervals
    drawings = [
        *_drawings("As it came; what the patch adds is marked.", one, before),
        *_drawings("As it is now; what the patch added is marked.", one, after),
    ]
    if folded:
        drawings = _drawings(f"As it is now; T is folded into the weights {', '.join(folded)}.", one, after)
    return {
        "output": _shown(one.head.output),
        "verdict": sentence(one.calibration, metrics),
        "tone": {"better": "good", "worse": "bad"}.get(outcome(one.calibration, metrics), "soft"),
        "split": f"{_SPLITS[metrics.split]}, {metrics.n_samples:,} samples",
        "level": sure is not None,
        "resamples": "" if sure is None else f"{sure.resamples:,}",
        "scores": [_score(*row, metrics, sure) for row in _SCORES],
        "floor": f"An ECE is never 0: of {metrics.n_samples:,} samples, perfectly calibrated probabilities would show "
        f"about {metrics.after.ece_floor:.4f}. NLL is what T was fitted to; ECE may rise while it falls.",
        "fit": [(name, _shown(value)) for name, value in _fit(one.calibration, one.head.evidence)],
        "plots": [{"svg": _safe(figure.svg), "caption": _shown(figure.caption)} for figure in figures],
        "drawings": drawings,
    }


def _score(name: str, key: str, unit: float, form: str, metrics: Metrics, sure: Intervals | None) -> dict[str, Any]:
    before, after = unit * getattr(metrics.before, key), unit * getattr(metrics.after, key)
    signed = form.replace("{:", "{:+")
    cells = []
    for value, shape, side in (
        (before, form, "before"),
        (after, form, "after"),
        (after - before, signed, "difference"),
    ):
        ends = getattr(getattr(sure, side), key, None) if sure is not None else None
        interval = "" if ends is None else "[" + ", ".join(shape.format(unit * end) for end in ends) + "]"
        cells.append({"value": shape.format(value), "interval": interval})
    return {"name": name, "cells": cells}


def _fit(calibration: Calibration, evidence: str) -> list[tuple[str, str]]:
    rows = [("head", evidence), ("T", f"{calibration.temperature:.7g}, fitted on {calibration.n_samples:,} samples")]
    if calibration.interval is not None:
        low, high = calibration.interval
        rows.append(("95 % interval of T", f"{low:.4g} to {high:.4g}"))
        rows.append(("standard error of T", _standard_errors(calibration)))
    if calibration.p_value is not None:
        p = "p < 0.001" if calibration.p_value < 0.001 else f"p = {calibration.p_value:.2g}"
        rows.append(("likelihood-ratio test of T = 1", p))
    if calibration.enough_samples is not None:
        rows.append(("samples for T to ±5 %", f"about {float(f'{calibration.enough_samples:.2g}'):,.0f}"))
    return rows


def _standard_errors(calibration: Calibration) -> str:
    plain = f"{calibration.stderr:.2g} (observed information)"
    if calibration.robust_stderr is None:
        return plain
    robust = f"{calibration.robust_stderr:.2g} (robust, sandwich)"
    if calibration.is_robust:
        return f"{robust}, which the interval is made of; {plain} holds for independent samples of a model that fits"
    return f"{plain}, which the interval is made of; {robust}"


def _drawings(title: str, one: CalibratedHead, seen: Inspection) -> list[dict[str, Any]]:
    name = one.head.output
    ways = [way for head, way in zip(seen.heads, seen.ways, strict=True) if head.output == name and way is not None]
    if not ways:
        return []
    lines = draw(ways[0], _WIDTH)
    text = " / ".join("".join(piece for piece, _ in line).strip() for line in lines)
    return [{"title": _shown(title), "lines": lines, "text": _shown(text)}]


def _run(result: CalibrateResult) -> list[tuple[str, str]]:
    runtime = result.verification.runtimes[0]
    rows = [
        ("model", f"{_path(result.model.path)}, SHA-256 {result.model.sha256}"),
        ("calibrated model", f"{_path(result.output.path)}, SHA-256 {result.output.sha256}"),
        ("data", f"SHA-256 {result.calibration.data_sha256}"),
        (
            "versions",
            f"onnxcal {__version__}, {runtime.name} {runtime.version}, onnx {onnx.__version__}, NumPy {np.__version__}",
        ),
    ]
    return [(name, _shown(value)) for name, value in rows]


def _path(path: str | None) -> str:
    return "the model in memory" if path is None else shlex.quote(path)


def _shown(text: str, longest: int = _LONGEST) -> str:
    """Printable text of a bearable length."""
    clean = printable(text)
    return clean if len(clean) <= longest else f"{clean[:longest]}… ({len(clean):,} characters)"


def _safe(svg: str) -> Any:
    """An element that was made here, which the template is to leave as it is."""
    import markupsafe

    return markupsafe.Markup(svg)
