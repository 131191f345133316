"""What the commands print on a terminal: plain sentences and small tables, legible in 80 columns without colour."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onnxcal.calibrators import Calibration
from onnxcal.graph.head import Head
from onnxcal.graph.inspect import Inspection, ModelInput
from onnxcal.graph.targets import TargetFit
from onnxcal.graph.way import Way
from onnxcal.metrics import Metrics, Scores
from onnxcal.report.bars import bar_glyphs_for, reliability_lines
from onnxcal.report.console import (
    LABEL_WIDTH,
    Styled,
    console,
    print_line,
    print_next,
    print_rows,
    print_warnings,
    width,
    wrapped,
)
from onnxcal.report.drawing import draw, glyphs_for, sizes
from onnxcal.report.runtimes import own_checks, print_runtime_checks
from onnxcal.report.scores import SPLITS, print_metrics, print_scores
from onnxcal.report.verdict import sentence
from onnxcal.results import (
    CalibrateResult,
    EvaluateResult,
    FitResult,
    LogitsResult,
    PatchResult,
    PlotResult,
    RevertResult,
    SetTemperatureResult,
)

if TYPE_CHECKING:
    from onnxcal.verification import Moved, Verification, VerifyResult

_DRAWN = {"": "", "patch": "bold cyan", "activation": "bold", "caption": "dim"}
_FORMS = {"division": "", "folded": "; folded into the weights", "input": "; default of the input '{}'"}


def print_inspection(result: Inspection, verbose: bool) -> None:
    """`inspect`."""
    nodes = "1 node" if result.nodes == 1 else f"{result.nodes:,} nodes"
    opsets = ", ".join(f"{domain} {version}" for domain, version in result.opset.items())
    rows = [("file", _path(result.model.path)), ("graph", f"{nodes}, opset {opsets}, IR {result.ir_version}")]
    rows += [("input", _value(entry)) for entry in result.inputs]
    print_rows(rows)
    for head, way in zip(result.heads, result.ways, strict=True):
        print_rows([("head", _task(head)), (" ends in", head.evidence)])
        if way is not None:
            _print_drawing(way)
    rows = [] if result.heads else [("head", "none that can be calibrated")]
    rows += [("other output", _value(entry)) for entry in result.others]
    rows += [
        ("patched", f"'{c.output}': {_temperature(c)}{_FORMS[p.form].format(p.temperature_input)}")
        for c, p in zip(result.calibrations, result.patches, strict=True)
    ] or [("patched", "no")]
    if result.external_data:
        rows.append(("external", ", ".join(result.external_data)))
    if verbose:
        rows.append(("sha256", result.model.sha256))
    print_rows([*rows, *_targets(result.targets)])
    print_warnings(result.warnings)


def _targets(found: Sequence[TargetFit]) -> list[tuple[str, str | Styled]]:
    return [
        ("target", Styled(f"{fit.target}: {fit.detail}", "green"))
        if fit.passed
        else ("target", Styled(f"FAILED {fit.target}: {fit.detail}; {fit.remedy}", "bold red"))
        for fit in found
    ]


def print_calibrated(result: CalibrateResult, verbose: bool) -> None:
    """`calibrate`."""
    for one in result.heads:
        print_rows([("head", _head(one.head)), *_fitted(one.calibration), *_folded(result.folded)])
        print_metrics(one.metrics)
        print_rows([("verdict", sentence(one.calibration, one.metrics))])
    print_rows([("gate", check.detail) for check in result.gates])
    _print_verification(result.verification, verbose)
    print_warnings(result.warnings)
    print_rows([("written", _path(result.output.path))])


def print_also(**paths: Path | None) -> None:
    """What else was written, by what it is."""
    print_rows((name, _path(str(path))) for name, path in paths.items() if path is not None)


def print_fit(result: FitResult, verbose: bool) -> None:
    """`fit`."""
    print_rows(_fitted(result.calibration))
    if result.metrics is not None:
        print_metrics(result.metrics)
        print_rows([("verdict", sentence(result.calibration, result.metrics))])
    print_warnings(result.warnings)


def print_logits(result: LogitsResult, verbose: bool) -> None:
    """`logits`."""
    path = _path(result.output.path)
    print_rows([("head", _head(result.head)), ("written", f"{path}: {result.n_samples:,} rows of logits, and labels")])
    print_warnings(result.warnings)
    print_next(f"onnxcal fit {path}")


def print_patched(result: PatchResult, verbose: bool) -> None:
    """`patch`."""
    heads = [("head", _head(head)) for head in result.heads]
    print_rows([*heads, ("temperature", _temperature(result.calibration)), *_folded(result.folded)])
    if result.verification is not None:
        _print_verification(result.verification, verbose)
    print_rows(_targets(result.targets))
    print_warnings(result.warnings)
    written, model = _path(result.output.path), _path(result.model.path)
    if result.verification is not None:
        print_rows([("written", written)])
        return
    print_rows([("written", f"{written}; its structure was checked, but it was not run")])
    if written != model:
        print_next(f"onnxcal verify {model} {written} --data DATA")


def print_verified(result: VerifyResult, verbose: bool) -> None:
    """`verify`."""
    _print_verification(result.verification, verbose=True)
    if result.moved is not None:
        print_rows([("moved", _moved(result.moved, passed=result.verification.passed))])
    print_warnings(result.warnings)


def print_evaluated(result: EvaluateResult, verbose: bool) -> None:
    """`evaluate`."""
    print_rows([("head", _head(result.head))])
    print_scores(result.metrics)
    print_warnings(result.warnings)


def print_plotted(result: PlotResult, verbose: bool) -> None:
    """`plot`."""
    split = "" if result.split == "eval" else f", {SPLITS[result.split]}"
    print_rows([("shown", f"{result.n_samples:,} samples{split}, at T = 1 and at T = {result.temperature:.5g}")])
    print_warnings(result.warnings)
    print_rows([("written", _path(result.output.path))])


def print_reverted(result: RevertResult, verbose: bool) -> None:
    """`revert`."""
    how = "the original, byte for byte" if result.byte_identical else "without the patch"
    print_rows([("written", f"{_path(result.output.path)}: {how}")])
    print_warnings(result.warnings)


def print_temperature_set(result: SetTemperatureResult, verbose: bool) -> None:
    """`set-temperature`."""
    path = _path(result.output.path)
    print_rows([("output", result.head), ("temperature", _temperature(result.calibration)), ("written", path)])
    print_warnings(result.warnings)
    print_next(f"onnxcal verify MODEL {path} --data DATA")


def print_demo(result: CalibrateResult, verbose: bool) -> None:
    """`demo`: the same facts as `calibrate`, told."""
    before, after = result.metrics.before, result.metrics.after
    runtime = result.verification.runtimes[0]
    model, patched = _path(result.model.path), _path(result.output.path)
    folder = os.path.dirname(patched)
    for paragraph in (
        "A small convolutional network, trained on 200 images of handwritten digits until it knew them by heart.",
        f"On {result.metrics.n_samples:,} images that neither the training nor the fit saw, it is "
        f"{before.confidence:.1%} sure on average, but only {before.accuracy:.1%} of its answers are right. "
        f"{_sure_but_wrong(before)}",
        f"Dividing its logits by one number, fitted on the other half of the images, mends that: now it is "
        f"{after.confidence:.1%} sure, and as often right as before. {_sure_but_wrong(after)}",
    ):
        print_line(("\n".join(wrapped(paragraph, width())) + "\n", ""))
    print_rows(_fitted(result.calibration))
    print_metrics(result.metrics)
    _print_verification(result.verification, verbose)
    print_rows(
        [
            ("model", f"{model}, as it came"),
            ("data", f"{os.path.join(folder, 'digits.npz')}, {runtime.n_samples:,} images and labels"),
            ("calibrated", f"{patched}, ready to ship: same input, same output name, now probabilities"),
        ]
    )
    print_warnings(result.warnings)
    print_next(
        f"onnxcal inspect {patched}",
        "onnxcal calibrate YOUR.onnx --data YOUR.npz   # arrays named as the input, labels",
    )


def print_reliability(metrics: Metrics | Scores | None) -> None:
    """`--plot`: a reliability diagram in text."""
    if metrics is None:
        return
    screen = console()
    both = [("", metrics)] if isinstance(metrics, Scores) else [("before", metrics.before), ("after", metrics.after)]
    panels = [(title, scores.bins) for title, scores in both]
    screen.print()
    for line in reliability_lines(panels, screen.width - 2, bar_glyphs_for(screen.encoding)):
        print_line(("  " + line, ""))
    screen.print()


def verdict(verification: Verification) -> str:
    """PASSED or FAILED, in one line, with the largest error and the tolerance that would have passed."""
    runtime = verification.runtimes[0]
    where = f"{runtime.name} {runtime.version}, {runtime.n_samples:,} samples"
    failed = [check for check in verification.checks if not check.passed]
    if failed:
        return f"FAILED ({where}): {failed[0].name}: {failed[0].detail}"
    limits = [check.limit for check in verification.checks if check.limit and "probabilities of" in check.name]
    return (
        f"PASSED ({where}): largest error {runtime.max_abs_error:.2g} (limit {min(limits):.2g}), "
        f"{runtime.argmax_changed} predictions changed" + _elsewhere(verification)
    )


def _elsewhere(verification: Verification) -> str:
    """The other runtimes in which it had to be right too."""
    others = [entry for entry in verification.runtimes[1:] if entry.counts]
    if not others:
        return ""
    least, most = min(entry.n_samples for entry in others), max(entry.n_samples for entry in others)
    samples = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    return f"; right in {', '.join(dict.fromkeys(entry.name for entry in others))} ({samples} samples)"


def _sure_but_wrong(scores: Scores) -> str:
    """What became of the predictions that were called more than 93 % sure: the last bin of fifteen."""
    bins = scores.bins
    share, right = bins.counts[-1] / bins.counts.sum(), bins.accuracy[-1]
    low = f"{bins.edges[-2]:.0%}"
    if not bins.counts[-1]:
        return f"It calls none of them more than {low} sure."
    sure = f"{bins.confidence[-1]:.1%} on average"
    return f"It calls {share:.0%} of them more than {low} sure ({sure}): {right:.1%} of those are right."


def _head(head: Head) -> str:
    return f"{_task(head)}; {head.evidence}"


def _task(head: Head) -> str:
    count = "? classes" if head.num_classes is None else f"{head.num_classes} class{'es' * (head.num_classes != 1)}"
    what = "binary" if head.task == "binary" else f"{head.task}, {count} on axis {head.axis}"
    return f"{head.output}: {what}, {head.dtype}"


def _value(value: ModelInput) -> str:
    shape = "of unknown shape" if value.shape is None else sizes(value.shape)
    return f"{value.name}: {value.dtype} {shape}"


def _fitted(calibration: Calibration) -> list[tuple[str, str]]:
    """T, how sure it is, and whether that is enough."""
    rows = [("temperature", _temperature(calibration))]
    if calibration.interval is not None and calibration.n_samples is not None:
        low, high = calibration.interval
        p = calibration.p_value
        test = "" if p is None else f"; T = 1 {'is ruled out' if p <= 0.05 else 'is not ruled out'} ({_p_value(p)})"
        rows.append((" 95 % int.", f"{low:.4g} to {high:.4g}{test}"))
        needed = calibration.enough_samples
        if needed is not None and needed > calibration.n_samples:
            rows.append((" enough", f"about {_rounded(needed):,} such samples would give T to ±5 %"))
    if calibration.precision is not None:
        rows.append((" precision", f"{calibration.precision:.1g} of T, by a single pass over the logits"))
    if calibration.gradient is not None:
        rows.append((" gradient", f"{calibration.gradient:.1e} nats in log T, at the optimum 0"))
    return rows


def _moved(moved: Moved, *, passed: bool) -> str:
    """How far a changed file is from its calibration, and what would accept it."""
    text = f"by up to {moved.max_abs_error:.2g}, {moved.argmax_changed:,} predictions changed"
    if moved.calibrated is not None and moved.converted is not None:
        before, after = moved.calibrated, moved.converted
        text += f"; NLL {before.nll:.4f} → {after.nll:.4f}, ECE {before.ece:.4f} → {after.ece:.4f}"
        text += f", accuracy {before.accuracy:.4f} → {after.accuracy:.4f}"
    return text if passed else f"{text}; --tolerance {moved.required_tolerance:g} accepts its probabilities"


def _folded(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Which weights T is folded into."""
    return [(" folded", f"into {', '.join(repr(name) for name in names)}")] if names else []


def _p_value(p: float) -> str:
    return "likelihood ratio, p < 0.001" if p < 0.001 else f"likelihood ratio, p = {p:.2g}"


def _rounded(count: int) -> int:
    """Two digits of a number that is no better known."""
    return int(float(f"{count:.2g}"))


def _temperature(calibration: Calibration) -> str:
    text = f"T = {calibration.temperature:.5g}"
    if calibration.stderr is not None:
        robust = calibration.robust_stderr if calibration.is_robust else None
        error, kind = (calibration.stderr, "standard") if robust is None else (robust, "robust standard")
        text += f" ± {error:.2g} ({kind} error)"
    if calibration.replaced is not None:
        text += f", set by hand (was {calibration.replaced:.5g})"
    if calibration.n_samples is not None:
        text += f", fitted on {calibration.n_samples:,} samples"
    return text


def _print_verification(verification: Verification, verbose: bool) -> None:
    style = "bold green" if verification.passed else "bold red"
    rows: list[tuple[str, str | Styled]] = [("verified", Styled(verdict(verification), style))]
    if verbose:
        rows += [
            (" ok" if check.passed else " FAIL", f"{check.name}: {check.detail}") for check in own_checks(verification)
        ]
    print_rows(rows)
    print_runtime_checks(verification.runtimes[1:])


def _print_drawing(way: Way) -> None:
    """How a head ends, in the column of the values."""
    screen = console()
    for line in draw(way, screen.width - LABEL_WIDTH, glyphs_for(screen.encoding)):
        pieces = [(text, _DRAWN[style]) for text, style in line]
        print_line((" " * LABEL_WIDTH, ""), *pieces)


def _path(path: str | None) -> str:
    return "the model in memory" if path is None else shlex.quote(path)
