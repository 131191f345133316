"""Gates: which limits let a calibration pass, and what is said of all that do not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxcal
from onnxcal.errors import GateError, UsageError
from onnxcal.gates import Gates
from tests import builders

X, Y = builders.labelled_data(400)
MODEL = builders.classifier([builders.softmax()], output="probs")


@pytest.fixture(scope="module")
def plain() -> Any:
    return onnxcal.calibrate(MODEL, (X, Y))


@pytest.mark.parametrize(("option", "score"), [("max_ece", "ece"), ("max_nll", "nll")])
def test_an_upper_limit_passes_what_is_just_as_large_and_nothing_larger(option: str, score: str, plain: Any) -> None:
    measured = getattr(plain.metrics.after, score)
    (check,) = onnxcal.calibrate(MODEL, (X, Y), **{option: measured}).gates
    assert (check.passed, check.value, check.limit) == (True, measured, measured)
    with pytest.raises(GateError, match=f"more than --{option.replace('_', '-')}"):
        onnxcal.calibrate(MODEL, (X, Y), **{option: np.nextafter(measured, 0)})


def test_a_lower_limit_passes_what_is_just_as_large_and_nothing_smaller(plain: Any) -> None:
    measured = plain.metrics.after.accuracy
    assert onnxcal.calibrate(MODEL, (X, Y), min_accuracy=measured).gates[0].passed
    with pytest.raises(GateError, match="less than --min-accuracy"):
        onnxcal.calibrate(MODEL, (X, Y), min_accuracy=np.nextafter(measured, 1))


def test_the_temperature_is_held_against_the_output_that_is_there(tmp_path: Path, plain: Any) -> None:
    """By |T / T_last − 1|, T_last being what the file to be replaced divides by."""
    model = builders.save(MODEL, tmp_path / "m.onnx")
    out = tmp_path / "o.onnx"
    t = plain.calibration.temperature
    onnxcal.patch(model, temperature=t * 1.25, output=out)
    older = out.read_bytes()
    with pytest.raises(GateError, match=r"by 0\.2 of it, more than --max-temperature-change 0\.19") as caught:
        onnxcal.calibrate(model, (X, Y), output=out, force=True, max_temperature_change=0.19)
    assert "remove the older output" in str(caught.value.hint)
    assert out.read_bytes() == older
    result = onnxcal.calibrate(model, (X, Y), output=out, force=True, max_temperature_change=0.21)
    assert result.gates[0].value == pytest.approx(0.2, rel=1e-6)
    again = onnxcal.calibrate(model, (X, Y), output=out, force=True, max_temperature_change=0)
    assert again.gates[0].value == 0


@pytest.mark.parametrize(
    "older", [None, b"", b"no model", MODEL.SerializeToString()], ids=["none", "empty", "?", "raw"]
)
def test_without_a_last_build_the_change_of_temperature_passes_and_says_so(older: bytes | None, tmp_path: Path) -> None:
    model = builders.save(MODEL, tmp_path / "m.onnx")
    if older is not None:
        (tmp_path / "o.onnx").write_bytes(older)
    result = onnxcal.calibrate(model, (X, Y), output=tmp_path / "o.onnx", force=True, max_temperature_change=0.0)
    assert result.gates[0].passed
    assert "no last build" in result.gates[0].detail


def test_a_last_temperature_of_zero_is_infinitely_far_away(plain: Any) -> None:
    """No build writes it, but a file can say so."""
    (check,) = Gates(max_temperature_change=1e6).judge(plain.calibration, plain.metrics, dtype="float32", last=0.0)
    assert (check.passed, check.value) == (False, math.inf)


def test_an_improvement_is_one_whose_whole_interval_is_below_zero(plain: Any) -> None:
    """Logits as they should be leave nothing to improve; those of three times the size do."""
    low, high = plain.metrics.intervals.difference.nll
    assert low < high < 0
    assert onnxcal.calibrate(MODEL, (X, Y), require_improvement=True).gates[0].passed
    raw = builders.classifier([builders.softmax()], output="probs", scale=3.0 / plain.calibration.temperature)
    z = onnxcal.collect_logits(raw, (X, Y)).values.astype(np.float64)
    y = (z + np.random.default_rng(4).gumbel(size=z.shape)).argmax(axis=1)  # drawn from softmax(z): T = 1 is the truth
    with pytest.raises(GateError, match="which is not below 0, as --require-improvement wants it"):
        onnxcal.calibrate(raw, (X, y), require_improvement=True)


def test_all_that_fail_are_named_in_text_and_in_json(cli: Any, tmp_path: Path) -> None:
    builders.save(MODEL, tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=X, labels=Y)
    limits = ["--max-ece", "1e-6", "--max-nll", "1e-6", "--min-accuracy", "1"]
    result = cli("calibrate", tmp_path / "m.onnx", "--data", tmp_path / "d.npz", *limits, "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert [(gate["name"], gate["passed"]) for gate in document["gates"]] == [
        ("max-ece", False), ("max-nll", False), ("min-accuracy", False),
    ]  # fmt: skip
    for option in limits[::2]:
        assert option in document["error"]
        assert option in result.stderr
    assert not (tmp_path / "m.calibrated.onnx").exists()


def test_what_passed_is_told_too(cli: Any, tmp_path: Path) -> None:
    builders.save(MODEL, tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=X, labels=Y)
    limits = ["--max-ece", "0.9", "--max-temperature-change", "0.2"]
    shown = cli("calibrate", tmp_path / "m.onnx", "--data", tmp_path / "d.npz", *limits).stdout
    assert "not more than --max-ece 0.9" in shown
    assert "there is no last build" in shown


def test_of_several_heads_each_is_judged_and_named() -> None:
    from onnx import helper

    second = helper.make_node("Softmax", ["twice"], ["q"])
    double = helper.make_node("Add", ["logits", "logits"], ["twice"])
    model = builders.classifier(
        [builders.softmax(), double, second], output="probs",
        more_outputs=[helper.make_tensor_value_info("q", 1, ["N", 4])],
    )  # fmt: skip
    with pytest.raises(GateError) as caught:
        onnxcal.calibrate(model, (X, Y), head=["probs", "q"], max_ece=1e-9)
    assert "'probs': ECE" in caught.value.message
    assert "'q': ECE" in caught.value.message


@pytest.mark.parametrize(
    "options",
    [
        {"max_ece": -1}, {"max_ece": 2}, {"max_nll": -1}, {"max_nll": float("nan")}, {"max_nll": float("inf")},
        {"min_accuracy": 1.1}, {"max_temperature_change": -0.1},
        {"require_improvement": True, "no_holdout": True}, {"require_improvement": True, "bootstrap": 0},
    ],
    ids=str,
)  # fmt: skip
def test_limits_that_mean_nothing_are_refused_before_any_work(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        onnxcal.calibrate(MODEL, "no-such-file.npz", **options)
