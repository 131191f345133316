"""What is printed says what was found: the numbers, rounded, and the right words around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import onnxcal
from onnxcal.report import terminal
from onnxcal.results import FitResult
from onnxcal.verification import Check, RuntimeCheck, Verification, verify
from tests import builders

X, Y = builders.labelled_data(200)
MODEL = builders.classifier([builders.softmax()], output="probs")


def printed(capsys: pytest.CaptureFixture[str], render: Callable[[Any, bool], None], result: Any) -> str:
    render(result, False)
    return " ".join(capsys.readouterr().out.split())


def verification(*, passed: bool) -> Verification:
    checks = (
        Check("untouched bytes", True, None, None, "as they were"),
        Check("probabilities of 'p'", passed, 2e-7 if passed else 0.25, 1e-5, "largest error 0.25 (limit 1e-05)"),
    )
    return Verification(passed, (RuntimeCheck("onnxruntime", "1.2.3", passed, 2e-7, 0, 1234),), checks)


def test_verdict_of_a_pass_has_error_limit_and_samples() -> None:
    assert terminal.verdict(verification(passed=True)) == (
        "PASSED (onnxruntime 1.2.3, 1,234 samples): largest error 2e-07 (limit 1e-05), 0 predictions changed"
    )


def test_verdict_of_a_failure_names_the_check() -> None:
    assert terminal.verdict(verification(passed=False)) == (
        "FAILED (onnxruntime 1.2.3, 1,234 samples): probabilities of 'p': largest error 0.25 (limit 1e-05)"
    )


def test_calibrate_shows_temperature_scores_and_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    result = onnxcal.calibrate(MODEL, (X, Y))
    text = printed(capsys, terminal.print_calibrated, result)
    assert f"T = {result.calibration.temperature:.5g} ± {result.calibration.stderr:.2g} (standard error)" in text
    assert not result.calibration.is_robust
    assert "fitted on 200 samples" in text
    assert "held-out half, 100 samples" in text
    before, after = result.metrics.before, result.metrics.after
    assert f"accuracy {before.accuracy:.2%} {after.accuracy:.2%}" in text
    assert f"NLL {before.nll:.4f} {after.nll:.4f}" in text
    assert f"ECE (15 bins) {before.ece:.4f} {after.ece:.4f}" in text
    assert f"Brier score {before.brier:.4f} {after.brier:.4f}" in text
    assert "PASSED" in text
    assert "then fitted on both" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"no_holdout": True}, "Measured on the samples that T was fitted on"),
        ({"eval_data": (X, Y)}, "evaluation set, 200 samples"),
    ],
)
def test_calibrate_says_what_was_measured_on(
    options: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in printed(capsys, terminal.print_calibrated, onnxcal.calibrate(MODEL, (X, Y), **options))


def test_inspect_tells_a_patched_model_from_another(capsys: pytest.CaptureFixture[str]) -> None:
    assert "patched no" in printed(capsys, terminal.print_inspection, onnxcal.inspect(MODEL))
    patched = onnxcal.patch(MODEL, temperature=1.75).proto
    assert patched is not None
    text = printed(capsys, terminal.print_inspection, onnxcal.inspect(patched))
    assert "patched 'probs': T = 1.75" in text
    assert "input x: float32 (N, 6)" in text


def test_markup_in_names_is_printed_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    """Names of tensors are not rich's markup or emoji codes."""
    name = "[red]probs[/red]:smile:"
    model = builders.classifier([builders.softmax(target=name)], output=name)
    assert f"head {name}: multiclass" in printed(capsys, terminal.print_inspection, onnxcal.inspect(model))


@pytest.mark.parametrize("name", ["\x1b[2J\x1b]0;title\x07", "a\r\nwarning: b", "\u202egnp.exe", "a\x9bJ"], ids=ascii)
def test_control_characters_in_names_are_shown_not_sent(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    label = builders.helper.make_tensor_value_info(f"label{name}", builders.TensorProto.INT64, [name])
    nodes = [
        builders.softmax(f"x{name}", name),
        builders.helper.make_node("Identity", ["logits"], [f"x{name}"]),
        builders.helper.make_node("ArgMax", ["logits"], [label.name], axis=1, keepdims=0),
    ]
    odd = builders.helper.make_tensor_value_info(f"odd{name}", builders.TensorProto.FLOAT, ["N", 4])
    nodes.append(builders.helper.make_node("Erf", [name], [odd.name]))
    model = builders.classifier(nodes, output=name, batch=name, more_outputs=[label, odd])
    patched = onnxcal.patch(model, temperature=2.0).proto
    for each in (model, patched):
        terminal.print_inspection(onnxcal.inspect(each), True)
    text = capsys.readouterr().out
    assert name.encode("unicode_escape").decode() in text
    assert all(c.isprintable() or c == "\n" for c in text)
    assert [line for line in text.splitlines() if line.startswith("warning: b")] == []


def test_inspect_draws_each_head_and_says_how_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_inspection(onnxcal.inspect(MODEL), False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[lines.index(" ends in     Softmax over axis 1 of 'logits'") + 1 :][:2] == [
        "             Gemm ─► logits (N, 4) ─►[ ÷ T ]─► Softmax ─► probs",
        "                     logits          to add    activation",
    ]


def test_labels_beside_a_head_are_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    label = builders.helper.make_tensor_value_info("label", builders.TensorProto.INT64, ["N"])
    argmax = builders.helper.make_node("ArgMax", ["probs"], ["label"], axis=1, keepdims=0)
    model = builders.classifier([builders.softmax(), argmax], output="probs", more_outputs=[label])
    text = printed(capsys, terminal.print_inspection, onnxcal.inspect(model))
    assert "other output label: int64 (N)" in text
    assert "warning" not in text


def test_verify_lists_every_check(capsys: pytest.CaptureFixture[str]) -> None:
    patched = onnxcal.patch(MODEL, temperature=1.75).proto
    text = printed(capsys, terminal.print_verified, verify(MODEL, patched, X))  # type: ignore[arg-type]
    for name in ("untouched bytes", "onnx.checker", "probabilities of 'probs'", "arg max of 'probs'"):
        assert f"ok {name}" in text


def misspecified() -> onnxcal.Calibration:
    """Logits of which every row is there four times: no four samples, which only the robust error knows."""
    rng = np.random.default_rng(0)
    z = np.repeat(3 * rng.normal(size=(60, 5, 1)), 4, axis=2)
    y = (z[:, :, 0] / 2 + rng.gumbel(size=(60, 5))).argmax(axis=1)
    return onnxcal.fit(z, np.repeat(y[:, None], 4, axis=1), axis=1, bootstrap=20)


def test_the_error_beside_a_temperature_is_that_of_its_interval(capsys: pytest.CaptureFixture[str]) -> None:
    calibration = misspecified()
    assert calibration.is_robust
    assert calibration.stderr is not None
    assert calibration.robust_stderr is not None
    assert calibration.robust_stderr > 1.5 * calibration.stderr
    text = printed(capsys, terminal.print_fit, FitResult.of(calibration))
    assert f"T = {calibration.temperature:.5g} ± {calibration.robust_stderr:.2g} (robust standard error)" in text


@pytest.mark.parametrize("columns", [40, 60, 71, 72, 80, 200])
@pytest.mark.parametrize("bootstrap", [0, 20])
def test_no_figure_is_lost_in_a_narrow_terminal(
    columns: int, bootstrap: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    result = onnxcal.calibrate(MODEL, (X, Y), bootstrap=bootstrap)
    metrics = result.metrics
    terminal.print_calibrated(result, False)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in text
    for scores in (metrics.before, metrics.after):
        assert all(f"{value:.4f}" in text for value in (scores.nll, scores.ece, scores.brier))
    if metrics.intervals is not None:
        low, high = metrics.intervals.difference.ece
        assert f"{low:+.4f} to {high:+.4f}" in text
