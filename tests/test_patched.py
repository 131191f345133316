"""Patched files afterwards: reverted to their original, set to another T, run with a T that is fed."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from scipy.special import softmax

import onnxcal
from tests import builders
from tests.graph.test_folding import external, raw_logits

X, Y = builders.labelled_data(200)
MODEL = builders.classifier([builders.softmax()], output="probs")


def run(path: Path | onnx.ModelProto, **more: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # it advises against initializers that are inputs
    model = path.SerializeToString() if isinstance(path, onnx.ModelProto) else os.fspath(path)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["probs"], {"x": X, **more})[0])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return builders.save(MODEL, tmp_path / "m.onnx")


# revert --original


def test_a_folded_file_is_reverted_to_its_original(model: Path, tmp_path: Path, cli: Any) -> None:
    out, back = tmp_path / "out.onnx", tmp_path / "back.onnx"
    onnxcal.patch(model, temperature=1.7, fold=True, output=out)
    refused = cli("revert", out, "-o", back)
    assert refused.exit_code == 2
    assert "cannot be taken out of them exactly" in refused.stderr
    assert "--original MODEL" in refused.stderr
    assert not back.exists()
    assert cli("revert", out, "-o", back, "--original", model).exit_code == 0
    assert back.read_bytes() == model.read_bytes()


def test_another_original_is_refused_and_nothing_is_written(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    onnxcal.patch(model, temperature=1.7, fold=True, output=out)
    other = builders.save(builders.classifier([builders.softmax()], output="probs", seed=1), tmp_path / "other.onnx")
    for wrong in (other, out):
        with pytest.raises(onnxcal.ModelError, match="is not the model that"):
            onnxcal.revert(out, output=tmp_path / "back.onnx", original=wrong)
    with pytest.raises(onnxcal.ModelError, match="was not patched"):
        onnxcal.revert(other, output=tmp_path / "back.onnx", original=model)
    with pytest.raises(onnxcal.UsageError, match="read or written"):
        onnxcal.revert(out, output=model, original=model, force=True)
    assert not (tmp_path / "back.onnx").exists()


def test_a_changed_file_is_reverted_with_its_original(model: Path, tmp_path: Path) -> None:
    proto = onnxcal.patch(MODEL, temperature=1.7).proto
    proto.graph.node.reverse()
    changed = builders.save(proto, tmp_path / "changed.onnx")
    with pytest.raises(onnxcal.ModelError, match="changed since"):
        onnxcal.revert(changed, output=tmp_path / "back.onnx")
    assert onnxcal.revert(changed, output=tmp_path / "back.onnx", original=model).byte_identical


# set_temperature


@pytest.mark.parametrize("form", ["division", "input", "float64", "IR 3", "external data"])
def test_t_is_changed_in_place_and_all_else_stays(form: str, tmp_path: Path) -> None:
    source = external(tmp_path) if form == "external data" else tmp_path / "m.onnx"
    dtype = "float64" if form == "float64" else "float32"
    ir = {"ir_version": 3, "opset": 11} if form == "IR 3" else {}
    if form != "external data":
        builders.save(builders.classifier([builders.softmax(axis=1)], output="probs", dtype=dtype, **ir), source)
    feed = X.astype(dtype)
    out = tmp_path / "out.onnx"
    onnxcal.patch(source, temperature=1.7, output=out, runtime_temperature=form == "input")
    os.chmod(out, 0o640)
    before = onnx.ModelProto.FromString(out.read_bytes())
    onnxcal.set_temperature(out, 2.75)
    after = onnx.ModelProto.FromString(out.read_bytes())
    assert out.stat().st_mode & 0o777 == 0o640
    result = onnxcal.verify(source, out, feed)
    assert result.verification.passed
    assert any("set by hand" in warning for warning in result.warnings)
    assert onnxcal.inspect(out).patches[0].set_by_hand

    def but_for_t(proto: onnx.ModelProto) -> onnx.ModelProto:
        del proto.metadata_props[:]
        for tensor in [*proto.graph.initializer, *(a.t for n in proto.graph.node for a in n.attribute)]:
            if tensor.name.startswith("onnxcal_temperature"):
                assert set(numpy_helper.to_array(tensor).ravel()) <= {np.dtype(dtype).type(t) for t in (1.7, 2.75)}
                tensor.ClearField("raw_data")
        return proto

    assert but_for_t(after) == but_for_t(before)
    onnxcal.revert(out, output=tmp_path / "back.onnx")
    assert (tmp_path / "back.onnx").read_bytes() == source.read_bytes()


def test_what_was_known_of_the_fitted_t_is_not_said_of_the_new_one(tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    fitted = onnxcal.calibrate(MODEL, (X, Y), output=out).calibration
    first = onnxcal.set_temperature(out, 2.5)
    second = onnxcal.set_temperature(out, 3.5)
    assert (np.float32(first.before), second.before) == (np.float32(fitted.temperature), 2.5)
    told = onnxcal.inspect(out).calibration
    assert told is not None
    assert (told.temperature, told.replaced) == (3.5, float(str(np.float32(fitted.temperature))))
    assert (told.stderr, told.n_samples, told.data_sha256, told.converged) == (None, None, None, None)
    np.testing.assert_allclose(run(out), softmax(raw_logits(MODEL, X) / 3.5, axis=1), atol=1e-6)


def test_one_of_two_heads_is_named(tmp_path: Path) -> None:
    tail = [
        builders.softmax(),
        helper.make_node("Tanh", ["logits"], ["t"]),
        helper.make_node("Gemm", ["t", "v"], ["l"]),
        builders.softmax("l", "q"),
    ]
    q = helper.make_tensor_value_info("q", 1, ["N", 3])
    v = numpy_helper.from_array(np.ones((4, 3), np.float32), "v")
    proto = builders.classifier(tail, output="probs", more_outputs=[q], initializers=[v])
    out = tmp_path / "out.onnx"
    onnxcal.patch(proto, temperature=1.5, head=["probs", "q"], output=out)
    with pytest.raises(onnxcal.ModelError, match="several calibrated heads") as caught:
        onnxcal.set_temperature(out, 2.0)
    assert "probs, q" in str(caught.value.hint)
    assert onnxcal.set_temperature(out, 2.0, head="q").head == "q"
    assert [patch.temperature for patch in onnxcal.inspect(out).patches] == [1.5, 2.0]
    assert onnxcal.verify(proto, out, X).verification.passed


def test_the_command_sets_t_and_says_so(model: Path, tmp_path: Path, cli: Any) -> None:
    out = tmp_path / "out.onnx"
    onnxcal.patch(model, temperature=1.7, output=out)
    assert "T = 2.5, set by hand (was 1.7)" in cli("set-temperature", out, "2.5").stdout
    document = json.loads(cli("set-temperature", out, "3", "--json").stdout)
    assert (document["before"], document["calibration"]["temperature"]) == (2.5, 3.0)
    assert document["calibration"]["replaced"] == 1.7
    assert document["model"]["sha256"] != document["output"]["sha256"]
    assert "set by hand (was 1.7)" in " ".join(cli("inspect", out).stdout.split())


@pytest.mark.parametrize("text", ["-1", "-.5", "-inf", "-2e3"])
def test_a_negative_t_is_a_temperature_and_no_option(text: str, model: Path, tmp_path: Path, cli: Any) -> None:
    out = tmp_path / "out.onnx"
    onnxcal.patch(model, temperature=1.7, output=out)
    for arguments in ([out, text], [out, "--json", text], [out, "--", text]):
        result = cli("set-temperature", *arguments)
        assert result.exit_code == 2
        assert f"temperature {float(text)} is not a positive, finite number" in result.stderr
    assert "No such option '--hed'" in cli("set-temperature", out, "2", "--hed", "x").stderr


@pytest.mark.parametrize("stored", ["raw_data", "float_data", "external"])
def test_a_t_that_was_changed_by_something_else_is_said(stored: str, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    proto = onnxcal.patch(model, temperature=1.7, output=out).proto or onnx.ModelProto.FromString(out.read_bytes())
    (t,) = (tensor for tensor in proto.graph.initializer if tensor.name == "onnxcal_temperature")
    t.ClearField("raw_data")
    if stored == "float_data":
        t.float_data.append(9.0)
    else:
        t.raw_data = np.float32(9.0).tobytes()
    if stored == "external":
        (tmp_path / "t.bin").write_bytes(t.raw_data)
        t.ClearField("raw_data")
        t.data_location = onnx.TensorProto.EXTERNAL
        t.external_data.add(key="location", value="t.bin")
    builders.save(proto, out)
    said = "'probs' is divided by 9, and its calibration says 1.7"
    assert any(said in warning for warning in onnxcal.inspect(out).warnings)
    assert any(said in warning for warning in onnxcal.verify(model, out, X, tolerance=1.0).warnings)
    result = onnxcal.set_temperature(out, 3.0)
    assert result.before == 9.0
    assert any(said in warning for warning in result.warnings)
    assert not onnxcal.inspect(out).warnings
    assert (onnxcal.set_temperature(out, 2.0).before, onnxcal.set_temperature(out, 2.0).warnings) == (3.0, ())


@pytest.mark.parametrize("text", ["0", "nan", "inf", "1e-60", "1e60", "two"])
def test_a_t_that_is_none_is_refused_and_the_file_stays(text: str, model: Path, tmp_path: Path, cli: Any) -> None:
    out = tmp_path / "out.onnx"
    onnxcal.patch(model, temperature=1.7, output=out)
    before = out.read_bytes()
    result = cli("set-temperature", out, text)
    assert result.exit_code == 2
    assert result.stderr.startswith("onnxcal: error:")
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "out.onnx"]


def test_a_full_disk_leaves_the_file_as_it_was(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.onnx"
    onnxcal.patch(model, temperature=1.7, output=out)
    before = out.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(onnxcal.UsageError, match="No space left"):
        onnxcal.set_temperature(out, 2.0)
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "out.onnx"]


def test_files_without_a_t_to_set_are_refused(model: Path, tmp_path: Path) -> None:
    folded = tmp_path / "folded.onnx"
    onnxcal.patch(model, temperature=1.7, fold=True, output=folded)
    for path, words in ((model, "was not patched"), (folded, "folded into the weights")):
        with pytest.raises(onnxcal.ModelError, match=words):
            onnxcal.set_temperature(path, 2.0)
    with pytest.raises(onnxcal.UsageError, match="not a file"):
        onnxcal.set_temperature(onnxcal.patch(MODEL, temperature=2.0).proto, 2.0)


# --runtime-temperature


def test_t_is_an_optional_input_with_the_fitted_default(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    result = onnxcal.patch(model, temperature=1.7, runtime_temperature=True, output=out, data=X)
    (check,) = (c for c in result.verification.checks if c.name == "input 'onnxcal_temperature'")
    assert check.passed
    assert any("onnx.reference" in warning and "float16 converter" in warning for warning in result.warnings)
    z = raw_logits(MODEL, X)
    np.testing.assert_allclose(run(out), softmax(z / 1.7, axis=1), atol=1e-6)
    fed = np.float32([0.6])
    np.testing.assert_allclose(run(out, onnxcal_temperature=fed), softmax(z / 0.6, axis=1), atol=5e-6)
    reference = ReferenceEvaluator(os.fspath(out))
    (got,) = reference.run(None, {"x": X, "onnxcal_temperature": fed})
    np.testing.assert_allclose(got, softmax(z / 0.6, axis=1), atol=5e-6)
    onnx.checker.check_model(os.fspath(out), full_check=True)
    onnxcal.revert(out, output=tmp_path / "back.onnx")
    assert (tmp_path / "back.onnx").read_bytes() == model.read_bytes()


def test_two_forms_at_once_and_ir_3_are_refused() -> None:
    with pytest.raises(onnxcal.UsageError, match="cannot be an input"):
        onnxcal.patch(MODEL, temperature=1.7, runtime_temperature=True, fold=True)
    old = builders.classifier([builders.softmax(axis=1)], output="probs", ir_version=3, opset=11)
    with pytest.raises(onnxcal.ModelError, match="IR version 3"):
        onnxcal.patch(old, temperature=1.7, runtime_temperature=True)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_the_input_has_the_type_of_the_division(dtype: str) -> None:
    proto = builders.classifier([builders.softmax()], output="probs", dtype=dtype)
    result = onnxcal.patch(proto, temperature=1.7, runtime_temperature=True, data=X.astype(dtype))
    assert result.verification.passed
    (given,) = (i for i in result.proto.graph.input if i.name == "onnxcal_temperature")
    assert given.type.tensor_type.elem_type == (1 if dtype == "float16" else 11)
    assert [d.dim_value for d in given.type.tensor_type.shape.dim] == [1]


def test_an_input_that_is_ignored_is_found() -> None:
    """As a simplifier leaves it: T is a constant again."""
    proto = onnxcal.patch(MODEL, temperature=1.7, runtime_temperature=True).proto
    proto.graph.input.pop()
    failed = [c.name for c in onnxcal.verify(MODEL, proto, X).verification.checks if not c.passed]
    assert "input 'onnxcal_temperature'" in failed
    dead = onnxcal.patch(MODEL, temperature=1.7, runtime_temperature=True).proto
    dead.graph.initializer.append(numpy_helper.from_array(np.float32([1.7]), "another"))
    next(n for n in dead.graph.node if n.op_type == "Div").input[1] = "another"
    failed = [c.name for c in onnxcal.verify(MODEL, dead, X).verification.checks if not c.passed]
    assert "input 'onnxcal_temperature'" in failed


def test_the_tolerance_that_is_named_accepts_what_became_of_the_input() -> None:
    """A simplifier makes T a constant again; rounded weights are further off at another T than at the default."""
    simplified = onnxcal.patch(MODEL, temperature=1.7, runtime_temperature=True).proto
    simplified.graph.input.pop()
    rounded = onnxcal.patch(MODEL, temperature=1.7, runtime_temperature=True).proto
    weights = rounded.graph.initializer[0]
    weights.CopyFrom(numpy_helper.from_array(np.round(numpy_helper.to_array(weights), 1), weights.name))
    for proto in (simplified, rounded):
        moved = onnxcal.verify(MODEL, proto, X[:64]).moved
        assert moved is not None
        result = onnxcal.verify(MODEL, proto, X[:64], tolerance=moved.required_tolerance)
        assert result.verification.passed
        (check,) = (c for c in result.verification.checks if c.name == "input 'onnxcal_temperature'")
        assert ("no input of the graph any more" in check.detail) == (proto is simplified)
    below = onnxcal.verify(MODEL, rounded, X[:64], tolerance=moved.max_abs_error)
    assert [c.name for c in below.verification.checks if not c.passed] == ["input 'onnxcal_temperature'"]


def test_calibrating_again_keeps_the_input() -> None:
    proto = onnxcal.patch(MODEL, temperature=1.7, runtime_temperature=True).proto
    again = onnxcal.calibrate(proto, (X, Y), bootstrap=0)
    assert [patch.form for patch in onnxcal.inspect(again.proto).patches] == ["input"]
