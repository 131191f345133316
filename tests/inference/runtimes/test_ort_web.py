"""onnxruntime-web: what is no tensor of numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxcal.inference.runtimes.client import RuntimeProcess
from onnxcal.inference.runtimes.ort_web import RUNTIME
from onnxcal.inference.runtimes.runtime import Job
from tests import builders


def test_names_of_classes_come_back_as_texts(tmp_path: Path) -> None:
    if RUNTIME.missing:
        pytest.skip(f"{RUNTIME.name} is not installed: {RUNTIME.install}")
    names = ["none", "naïve", "日本"]
    node = helper.make_node(
        "LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", keys_int64s=[0, 1, 2], values_strings=names
    )
    x = helper.make_tensor_value_info("x", TensorProto.INT64, ["N"])
    y = helper.make_tensor_value_info("y", TensorProto.STRING, ["N"])
    model = builders.model(helper.make_graph([node], "names", [x], [y]))
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))
    path = builders.save(model, tmp_path / "m.onnx")
    with RuntimeProcess(RUNTIME, tmp_path, 60) as process:
        process.load("m", Job(path, {"x": (4,)}, ("y",), home=Path.cwd()))
        (found,) = process.run("m", {"x": np.array([2, 0, 1, 1])})
    assert found.tolist() == ["日本", "none", "naïve", "naïve"]
