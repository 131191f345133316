"""Checking calibrated models by themselves, on inputs that are drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onnxcal
from onnxcal.verification.committed import check
from tests import builders

MODEL = builders.classifier([builders.softmax()], output="probs")


@pytest.fixture
def patched(tmp_path: Path) -> Path:
    onnxcal.patch(MODEL, temperature=1.7, output=tmp_path / "p.onnx")
    return tmp_path / "p.onnx"


def changed_temperature(path: Path) -> None:
    model = onnx.load_model(path)
    for tensor in model.graph.initializer:
        if "temperature" in tensor.name:
            tensor.CopyFrom(numpy_helper.from_array(np.array([9], np.float32), tensor.name))
    builders.save(model, path)


def changed_weight(path: Path) -> None:
    content = path.read_bytes()
    weights = numpy_helper.to_array(MODEL.graph.initializer[0]).tobytes()
    other = bytes([weights[0] ^ 1]) + weights[1:]
    assert content.count(weights) == 1
    path.write_bytes(content.replace(weights, other))


def changed_record(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"temperature":1.7', b'"temperature":1.8'))


def test_what_patch_wrote_passes_and_was_run(patched: Path) -> None:
    (found,) = check([patched]).files
    assert (found.passed, found.exit_code, found.temperatures) == (True, 0, {"probs": 1.7})
    assert found.verification is not None
    assert found.verification.runtimes[0].n_samples == 16


@pytest.mark.parametrize("change", [changed_temperature, changed_weight, changed_record], ids=lambda f: f.__name__)
def test_whatever_is_changed_afterwards_is_found(change: Any, patched: Path, cli: Any) -> None:
    change(patched)
    result = cli("check", patched, "-q")
    assert result.exit_code == 1
    assert "p.onnx: FAILED: " in result.stderr


def test_folded_weights_are_not_called_changed_but_not_checkable(tmp_path: Path) -> None:
    onnxcal.patch(MODEL, temperature=1.7, fold=True, output=tmp_path / "p.onnx")
    (found,) = check([tmp_path / "p.onnx"]).files
    assert (found.passed, found.exit_code, found.temperatures) == (False, 2, {"probs": 1.7})
    assert "cannot be checked without its original" in str(found.error)


def test_each_file_is_told_of_and_the_worst_is_the_exit_code(patched: Path, tmp_path: Path, cli: Any) -> None:
    raw = builders.save(MODEL, tmp_path / "raw.onnx")
    result = cli("check", patched, raw, tmp_path / "gone.onnx", "--json")
    assert result.exit_code == 2
    files = json.loads(result.stdout)["files"]
    assert [file["exit_code"] for file in files] == [0, 2, 2]
    assert "was not patched by onnxcal" in files[1]["error"]
    assert "onnxcal: error: 2 of 3 files could not be checked" in result.stderr


def test_a_model_that_cannot_be_run_on_drawn_inputs_is_checked_by_its_bytes_and_says_so(tmp_path: Path) -> None:
    """Half of the integers drawn are beyond a table of one row."""
    table = numpy_helper.from_array(np.ones((1, 4), np.float32), "table")
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "i"], ["z"]), helper.make_node("Softmax", ["z"], ["p"])],
        "g", [helper.make_tensor_value_info("i", onnx.TensorProto.INT64, ["N"])],
        [helper.make_tensor_value_info("p", onnx.TensorProto.FLOAT, ["N", 4])], [table],
    )  # fmt: skip
    onnxcal.patch(builders.model(graph), temperature=2, output=tmp_path / "p.onnx")
    result = check([tmp_path / "p.onnx"])
    (found,) = result.files
    assert (found.passed, found.exit_code) == (True, 0)
    assert found.verification is not None
    assert found.verification.runtimes == ()
    assert "was not run on drawn inputs" in result.warnings[0]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("batch", ["N", 3])
def test_models_of_any_float_type_and_batch_are_run(dtype: str, batch: int | str, tmp_path: Path) -> None:
    model = builders.classifier([builders.softmax()], output="probs", dtype=dtype, batch=batch)
    onnxcal.patch(model, temperature=1.7, output=tmp_path / "p.onnx")
    (found,) = check([tmp_path / "p.onnx"]).files
    assert found.passed, found
    assert found.verification is not None
    assert found.verification.runtimes
