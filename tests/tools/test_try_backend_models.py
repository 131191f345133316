"""The corpus tool: what it says of models that are known to go each way, and of a few of onnx's own."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.loader import DATA_DIR

import onnxcal
from tests.builders import classifier, model, save, softmax

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "try_backend_models.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("try_backend_models", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["try_backend_models"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, check=False
    )


def unary(op: str, elem_type: int = TensorProto.FLOAT, **attributes: Any) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(name, elem_type, [3, 4]) for name in "xy")
    return model(helper.make_graph([helper.make_node(op, ["x"], ["y"], **attributes)], op, [x], [y]))


def put(folder: Path, name: str, proto: onnx.ModelProto) -> None:
    (folder / name).mkdir()
    save(proto, folder / name / "model.onnx")


def test_a_folder_of_models_is_counted_by_what_became_of_them(tmp_path: Path) -> None:
    models, details = tmp_path / "models", tmp_path / "details.json"
    models.mkdir()
    put(models, "good", classifier([softmax()], output="probs"))
    put(models, "over the batch", unary("Softmax", axis=0))
    put(models, "no classifier", unary("Tan"))
    put(models, "no classifier either", unary("Tan"))
    save(classifier([softmax()], output="probs", batch=2), models / "fixed.onnx")
    (models / "broken.onnx").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")

    done = run(models, "--details", details)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    lines = [line.split() for line in done.stdout.splitlines()]
    for count, outcome in ((2, "verified"), (3, "refused"), (0, "failed"), (0, "bug"), (0, "crashed")):
        assert [str(count), outcome] in [line[:2] for line in lines]
    assert any(line[:1] == ["2"] and "Tan," in line for line in lines)
    assert "for example no classifier\n" in done.stdout
    assert str(tmp_path) not in done.stdout

    read = json.loads(details.read_text())
    assert [entry["name"] for entry in read["models"]] == sorted(
        ["broken.onnx", "fixed.onnx", "good", "no classifier", "no classifier either", "over the batch"]
    )
    (good,) = next(entry["trials"] for entry in read["models"] if entry["name"] == "good")
    assert (good["outcome"], good["output"], good["fed"]) == ("verified", "probs", ["random"])
    (broken,) = next(entry["trials"] for entry in read["models"] if entry["name"] == "broken.onnx")
    assert broken["hint"]


def test_only_some_of_the_models_of_onnx_can_be_tried() -> None:
    done = run(DATA_DIR, "--only", "squeezenet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("1 models, ")
    for expected in ("1  verified", "multiclass, softmax: ", "for example light/light_squeezenet.onnx, output 'soft"):
        assert expected in done.stdout


def test_a_model_that_takes_too_long_does_not_end_the_run(tmp_path: Path) -> None:
    put(tmp_path, "a", classifier([softmax()], output="probs"))
    put(tmp_path, "b", classifier([softmax()], output="probs"))
    done = run(tmp_path, "--timeout", "0.01", "--jobs", "1")
    assert done.returncode == 0
    assert "2  timed out" in done.stdout


def test_a_process_that_dies_does_not_end_the_run(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))  # a new process imports the tool by its name
    missing = tool.Model("missing", tmp_path / "missing.onnx")
    worker = tool.Worker()
    try:
        worker.start(missing, 60.0)
        worker._process.kill()
        worker._process.join()
        (trial,) = worker.result().trials
        assert trial.outcome == "crashed"
        worker.start(missing, 60.0)
        assert worker.pipe.poll(60.0)
        (trial,) = worker.result().trials
        assert trial.outcome == "refused"
    finally:
        worker.kill()


def test_every_head_is_tried_on_what_was_recorded_and_on_random_inputs(tool: ModuleType, tmp_path: Path) -> None:
    module = importlib.import_module("onnx.backend.test.case.node")
    importlib.import_module("onnx.backend.test.case.node.softmax")
    cases = [case for case in module._NodeTestCases if case.name == "test_softmax_default_axis"]
    tool.write_cases(cases, tmp_path)
    (found,) = tool.models_below(tmp_path)
    assert found.name == "test_softmax_default_axis"
    (trial,) = tool.try_model(found)
    assert (trial.outcome, trial.fed) == ("verified", ("recorded", "random"))

    inputs = onnxcal.inspect(found.path).inputs
    np.testing.assert_array_equal(tool.recorded(found.path, inputs)["x"], cases[0].data_sets[0][0][0])
    assert tool.random_inputs(inputs, 0)["x"].shape == (7, 4, 5)


def test_a_model_that_cannot_be_fed_is_patched_but_not_run(tool: ModuleType, tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 4])
    w = helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 5])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 5])
    put(tmp_path, "matmul", model(helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x, w], [y])))
    (found,) = tool.models_below(tmp_path)
    (trial,) = tool.try_model(found)
    assert trial.outcome == "not run"
    assert trial.hint


def test_a_traceback_and_wrong_numbers_are_bugs(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "good", classifier([softmax()], output="probs"))
    (found,) = tool.models_below(tmp_path)
    real = onnxcal.patch

    def too_hot(*arguments: Any, **options: Any) -> Any:
        done = real(*arguments, **options | {"temperature": 2.1})
        return replace(done, calibration=replace(done.calibration, temperature=2.0))

    monkeypatch.setattr(onnxcal, "patch", too_hot)
    (trial,) = tool.try_model(found)
    assert trial.outcome == "bug"
    assert "square roots" in trial.reason

    def broken(*arguments: Any, **options: Any) -> Any:
        raise KeyError("x")

    monkeypatch.setattr(onnxcal, "patch", broken)
    (trial,) = tool.try_model(found)
    assert (trial.outcome, trial.reason) == ("bug", "KeyError: 'x'")
    assert "Traceback" in trial.trace

    def failed(*arguments: Any, **options: Any) -> Any:
        raise onnxcal.VerificationError("FAILED: it is off")

    monkeypatch.setattr(onnxcal, "patch", failed)
    (trial,) = tool.try_model(found)
    assert trial.outcome == "failed"

    def talkative(*arguments: Any, **options: Any) -> Any:
        raise onnxcal.ModelError("one line\nand another")

    monkeypatch.setattr(onnxcal, "patch", talkative)
    (trial,) = tool.try_model(found)
    assert trial.outcome == "bug"


def test_a_bug_and_a_failed_verification_are_exit_1(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for outcome, code in (("verified", 0), ("refused", 0), ("crashed", 0), ("bug", 1), ("failed", 1)):
        result = tool.Result("m", (tool.Trial("refused", "no"), tool.Trial(outcome, "why")))
        monkeypatch.setattr(tool, "try_all", lambda *_, result=result: [result])
        assert tool.main([str(tmp_path)]) == code
        assert f"1  {outcome}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("reason", "left"),
    [
        ("output 'y' of 'a b.onnx' ends in Tan", "output '…' of '…' ends in Tan"),
        ("'user's.onnx' has 1,000 outputs, not 2.5e-3", "'…' has N outputs, not N"),
        ("ends in ReduceL2 over (3, -1)", "ends in ReduceL2 over (N, N)"),
        ("none of m: 'a' is no float; 'b' is no float; 'c' is odd", "none of m: '…' is no float; '…' is odd"),
    ],
)
def test_reasons_are_grouped_without_names_and_numbers(tool: ModuleType, reason: str, left: str) -> None:
    assert tool.without_names(reason) == left


@pytest.mark.parametrize("activation", ["none", "softmax", "log_softmax", "sigmoid"])
def test_square_roots_tell_the_right_temperature_from_a_wrong_one(tool: ModuleType, activation: str) -> None:
    z = np.random.default_rng(0).normal(scale=3, size=(20, 4))

    def outputs(temperature: float | None) -> np.ndarray:
        if temperature is None and activation == "none":
            return z
        scaled = z / (temperature or 1.0)
        p = np.exp(scaled) / np.exp(scaled).sum(axis=1, keepdims=True)
        of = {"none": p, "softmax": p, "log_softmax": np.log(p), "sigmoid": 1 / (1 + np.exp(-scaled))}
        return of[activation]

    (known,) = onnxcal.inspect(classifier([softmax()], output="probs")).heads
    task = "multilabel" if activation == "sigmoid" else "multiclass"
    head = replace(known, activation=activation, task=task)
    before = outputs(None)
    for temperature, right in ((2.0, True), (2.01, False), (1.0, False)):
        error, limit = tool.square_root_error(head, before, outputs(temperature))
        assert (error <= limit) == right


def test_recorded_inputs_that_are_no_tensors_are_left_out(tool: ModuleType, tmp_path: Path) -> None:
    put(tmp_path, "m", classifier())
    path = tmp_path / "m" / "model.onnx"
    data = path.parent / "test_data_set_0"
    data.mkdir()
    inputs = onnxcal.inspect(path).inputs
    assert tool.recorded(path, inputs) == {}
    (data / "input_0.pb").write_bytes(b"\xff")
    assert tool.recorded(path, inputs) == {}
    (data / "input_0.pb").write_bytes(numpy_helper.from_array(np.zeros((2, 6), np.float32)).SerializeToString())
    assert tool.recorded(path, inputs)["x"].shape == (2, 6)


def test_help_says_what_it_does() -> None:
    done = run("--help")
    assert done.returncode == 0
    for word in ("--only", "--details", "--timeout", "--jobs", "verified", "exit code"):
        assert word in done.stdout
