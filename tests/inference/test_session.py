"""onnxruntime, behind one door: providers, files that do not load, external data, tapped tensors."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.external_data_helper import convert_model_to_external_data

from onnxcal import ModelError, UsageError, collect_logits, inspect
from onnxcal.graph.modelfile import open_model
from onnxcal.inference import InputSpec, open_session
from tests import builders

X, Y = builders.labelled_data(40)
MODEL = builders.classifier([builders.softmax()], output="probs")


def external(folder: Path, location: str = "weights.bin") -> Path:
    """The model with its weights in a file of their own."""
    model = onnx.ModelProto.FromString(MODEL.SerializeToString())
    convert_model_to_external_data(model, location=location, size_threshold=0)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    onnx.save_model(model, path)
    return path


def test_a_session_knows_inputs_outputs_and_version() -> None:
    session = open_session(open_model(MODEL), tap=["logits"])
    assert session.inputs == (InputSpec("x", "float32", (None, 6)),)
    assert set(session.outputs) == {"probs", "logits"}
    assert session.version[0].isdigit()


def test_an_input_without_a_declared_shape_takes_any() -> None:
    """onnxruntime tells of no shape what it tells of rank 0."""
    model = onnx.ModelProto.FromString(MODEL.SerializeToString())
    model.graph.input[0].type.tensor_type.ClearField("shape")
    model.graph.input.add(name="factor").type.CopyFrom(onnx.helper.make_tensor_type_proto(1, []))
    model.graph.node.insert(0, onnx.helper.make_node("Mul", ["x", "factor"], ["scaled"]))
    model.graph.node[1].input[0] = "scaled"
    assert open_session(open_model(model)).inputs == (
        InputSpec("x", "float32", None),
        InputSpec("factor", "float32", ()),
    )
    del model.graph.input[1], model.graph.node[0]
    model.graph.node[0].input[0] = "x"
    assert collect_logits(model, (X, Y)).values.tobytes() == collect_logits(MODEL, (X, Y)).values.tobytes()


def test_initializers_that_are_inputs_need_not_be_fed() -> None:
    model = builders.classifier([builders.softmax()], output="probs", ir_version=3, opset=8)
    assert [spec.name for spec in open_session(open_model(model)).inputs] == ["x"]


def test_a_tapped_tensor_that_is_an_output_already_is_not_added_twice() -> None:
    assert open_session(open_model(MODEL), tap=["probs", "logits", "logits"]).outputs == ("probs", "logits")


@pytest.mark.parametrize("name", ["cpu", "CPU", "CPUExecutionProvider", "cpuexecutionprovider"])
def test_a_provider_may_be_called_by_its_short_name(name: str) -> None:
    open_session(open_model(MODEL), provider=name)


@pytest.mark.parametrize("name", ["bogus", "", "GPU"])
def test_an_unknown_provider_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(UsageError, match="is not available") as caught:
        collect_logits(MODEL, (X, Y), provider=name)
    assert "CPUExecutionProvider" in str(caught.value.hint)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_does_not_change_results(threads: int) -> None:
    many = collect_logits(MODEL, (X, Y)).values
    np.testing.assert_allclose(collect_logits(MODEL, (X, Y), threads=threads).values, many, rtol=1e-6, atol=1e-6)


def test_a_model_that_does_not_load_says_why_in_one_line() -> None:
    model = builders.classifier([onnx.helper.make_node("Frobnicate", ["logits"], ["f"]), builders.softmax("f", axis=1)],
                                output="probs")  # fmt: skip
    with pytest.raises(ModelError, match="onnxruntime cannot load the model") as caught:
        collect_logits(model, (X, Y))
    assert "Frobnicate" in caught.value.message
    assert "\n" not in caught.value.message


def test_an_input_that_is_no_tensor_is_refused() -> None:
    value = onnx.helper.make_tensor_sequence_value_info("x", onnx.TensorProto.FLOAT, None)
    node = onnx.helper.make_node("SequenceAt", ["x", "zero"], ["at"])
    fc = onnx.helper.make_node("MatMul", ["at", "w"], ["logits"])
    graph = onnx.helper.make_graph(
        [node, fc, builders.softmax(axis=1)],
        "sequence",
        [value],
        [onnx.helper.make_tensor_value_info("probs", onnx.TensorProto.FLOAT, ["N", 4])],
        [
            onnx.numpy_helper.from_array(np.array(0, np.int64), "zero"),
            onnx.numpy_helper.from_array(np.ones((6, 4), np.float32), "w"),
        ],
    )
    with pytest.raises(ModelError, match="cannot be fed"):
        collect_logits(builders.model(graph), (X, Y))


# External data


@pytest.mark.parametrize("location", ["weights.bin", "parts/weights.bin"])
def test_logits_are_tapped_from_a_model_with_external_data(location: str, tmp_path: Path) -> None:
    (tmp_path / "m" / location).parent.mkdir(parents=True)
    path = external(tmp_path / "m", location)
    assert inspect(path).external_data == (location,)
    found = collect_logits(path, (X, Y))
    np.testing.assert_array_equal(found.values, collect_logits(MODEL, (X, Y)).values)


def test_external_data_are_found_whatever_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = external(tmp_path / "m")
    for folder in (tmp_path, tmp_path / "m"):
        monkeypatch.chdir(folder)
        assert collect_logits(os.path.relpath(path, folder), (X, Y)).n_samples == 40


def test_missing_external_data_are_named(tmp_path: Path) -> None:
    path = external(tmp_path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"external data 'weights.bin' of .* is missing"):
        collect_logits(path, (X, Y))


def test_external_data_that_are_cut_off_do_not_crash(tmp_path: Path) -> None:
    path = external(tmp_path)
    (tmp_path / "weights.bin").write_bytes(b"\0" * 8)
    with pytest.raises(ModelError, match="onnxruntime cannot load"):
        collect_logits(path, (X, Y))


@pytest.mark.parametrize("how", ["symlink", "hard link", "parent", "absolute"])
def test_external_data_outside_the_folder_are_refused(how: str, tmp_path: Path) -> None:
    path = external(tmp_path / "m")
    weights, outside = tmp_path / "m" / "weights.bin", tmp_path / "outside.bin"
    if how in ("symlink", "hard link"):
        weights.rename(outside)
        (weights.symlink_to if how == "symlink" else weights.hardlink_to)(outside)
    else:
        location = "../outside.bin" if how == "parent" else str(outside)
        model = onnx.ModelProto.FromString(path.read_bytes())
        for tensor in model.graph.initializer:
            next(entry for entry in tensor.external_data if entry.key == "location").value = location
        weights.rename(outside)
        path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="external data") as caught:
        collect_logits(path, (X, Y))
    assert caught.value.hint


def test_a_model_in_memory_has_no_external_data(tmp_path: Path) -> None:
    model = onnx.ModelProto.FromString(external(tmp_path).read_bytes())
    with pytest.raises(ModelError, match="was not read from a file"):
        collect_logits(model, (X, Y))
