"""The package as a Python user meets it: what comes back, and what is said to those who pass nonsense."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnxcal
from onnxcal.report.json import as_document
from onnxcal.verification import verify
from tests import builders

X, Y = builders.labelled_data(200)
MODEL = builders.classifier([builders.softmax()], output="probs")


def results() -> dict[str, Any]:
    calibrated = onnxcal.calibrate(MODEL, (X, Y))
    return {
        "calibrate": calibrated,
        "patch": onnxcal.patch(MODEL, temperature=2.0),
        "evaluate": onnxcal.evaluate(MODEL, (X, Y)),
        "inspect": onnxcal.inspect(MODEL),
        "verify": verify(MODEL, calibrated.proto, X),
    }


def test_the_contracts_python_example_works_in_one_session(tmp_path: Path) -> None:
    """In a fresh interpreter, for that is where an import order shows."""
    builders.save(MODEL, tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=X, labels=Y)
    program = """
import onnxcal
data = "d.npz"
heads = onnxcal.inspect("m.onnx").heads
result = onnxcal.calibrate("m.onnx", data, output="m.calibrated.onnx")
assert result.verification.passed and result.metrics.after.ece >= 0
logits = onnxcal.collect_logits("m.onnx", data)
cal = onnxcal.fit(logits.values, logits.labels)
assert abs(cal.temperature - result.calibration.temperature) < 1e-12 and cal.stderr > 0
onnxcal.patch("m.onnx", cal, output="out.onnx")
onnxcal.patch("m.onnx", temperature=1.7, output="out2.onnx")
assert onnxcal.verify("m.onnx", "out.onnx", data).verification.passed
onnxcal.evaluate("out.onnx", data)
onnxcal.revert("out.onnx", output="back.onnx")
p = cal.apply(logits.values)
assert p.dtype == "float64" and abs(p.sum(axis=1) - 1).max() < 1e-12
print(heads[0].output)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "probs"), done.stderr
    assert (tmp_path / "back.onnx").read_bytes() == (tmp_path / "m.onnx").read_bytes()


@pytest.mark.parametrize("name", ["calibrate", "patch", "evaluate", "inspect", "verify"])
def test_results_are_frozen_and_have_the_keys_of_the_json(name: str) -> None:
    result = results()[name]
    document = as_document(result)
    for key in document.keys() - {"schema"}:
        assert hasattr(result, key), key
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.warnings = ()
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_a_file_and_the_same_model_in_memory_give_the_same(tmp_path: Path) -> None:
    path = builders.save(MODEL, tmp_path / "m.onnx")
    for model in (path, str(path), MODEL):
        result = onnxcal.calibrate(model, (X, Y), output=tmp_path / "out.onnx", force=True)
        assert result.output.sha256 == results()["calibrate"].output.sha256


@pytest.mark.parametrize("model", [42, None, b"m.onnx", ["m.onnx"], onnx.GraphProto()], ids=repr)
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises((onnxcal.OnnxcalError, TypeError)):
        onnxcal.inspect(model)


@pytest.mark.parametrize("data", [42, None, 1.5, object(), [], "", "x.csv", "nosuch.npz", ":", "no_such_module:f"])
def test_what_is_no_data_is_refused(data: Any) -> None:
    with pytest.raises(onnxcal.DataError) as caught:
        onnxcal.calibrate(MODEL, data)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("task", "multi"),
        ("method", "platt"),
        ("activation", "relu"),
        ("provider", "abacus"),
        ("axis", 9),
        ("head", "x"),
    ],
)
def test_an_unknown_choice_is_named_in_the_error(option: str, value: Any) -> None:
    with pytest.raises(onnxcal.OnnxcalError) as caught:
        onnxcal.calibrate(MODEL, (X, Y), **{option: value})
    assert str(value) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("labels", [Y, Y.tolist(), Y.astype(np.uint8), Y.astype(float), Y[:, None], np.eye(4)[Y]])
def test_labels_in_any_common_form_give_the_same_temperature(labels: Any) -> None:
    assert onnxcal.calibrate(MODEL, (X, labels)).calibration.temperature == pytest.approx(
        results()["calibrate"].calibration.temperature, rel=1e-12
    )


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"schema": "onnxcal/1"},
        {"schema": "onnxcal/2", "calibration": {"temperature": 1.5}},
        {"schema": "onnxcal/1", "calibration": {"temperature": "1.5"}},
        {"schema": "onnxcal/1", "calibration": {"temperature": True}},
        {"schema": "onnxcal/1", "calibration": {"temperature": -1}},
        {"schema": "onnxcal/1", "calibration": {"temperature": 10**400}},
        {"schema": "onnxcal/1", "calibration": {"temperature": float("nan")}},
        {"schema": "onnxcal/1", "calibration": {"temperature": 1.5, "stderr": "small"}},
        {"schema": "onnxcal/1", "calibration": {"temperature": 1.5, "n_samples": "many"}},
        {"schema": "onnxcal/1", "calibration": {"temperature": 1.5, "task": "guessing"}},
        {"schema": "onnxcal/1", "calibration": {"temperature": 1.5, "output": 7}},
        {"schema": "onnxcal/1", "calibration": {"temperature": 1.5, "data_sha256": {"a": 1}}},
        {"schema": "onnxcal/1", "calibration": {"temperature": 1.5, "method": ["temperature"]}},
    ],
    ids=lambda document: json.dumps(document)[-60:],
)
def test_a_cal_json_that_is_none_is_refused(document: Any, tmp_path: Path) -> None:
    (tmp_path / "cal.json").write_text(json.dumps(document))
    with pytest.raises(onnxcal.DataError, match=r"cal\.json"):
        onnxcal.patch(MODEL, tmp_path / "cal.json")


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, "null", "\x00", '{"schema": "onnxcal/1", "calibration": 1e999}']
)
def test_a_file_that_is_no_json_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "cal.json").write_text(text)
    with pytest.raises(onnxcal.DataError, match=r"cal\.json"):
        onnxcal.Calibration.load(tmp_path / "cal.json")


def test_a_binary_calibration_does_not_fit_a_head_of_four_classes() -> None:
    """One logit's T on a softmax's logits: sigmoid nodes on a 4-class output would be a silent nonsense."""
    binary = onnxcal.fit(np.array([1.0, -2.0, 0.5, -0.3, 2.0]), np.array([1, 0, 0, 1, 1]))
    logits = builders.classifier()
    for model in (logits, MODEL):
        with pytest.raises(onnxcal.OnnxcalError, match="binary"):
            onnxcal.patch(model, binary)


@pytest.mark.parametrize("bridge", ["plots", "sklearn"])
def test_a_bridge_is_there_without_being_imported_by_name(bridge: str) -> None:
    program = f"import onnxcal; assert {bridge!r} in dir(onnxcal); print(onnxcal.{bridge}.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"onnxcal.{bridge}"
