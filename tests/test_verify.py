"""The verification catches what it is there for: every kind of damage, by the right check."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import onnxcal
from onnxcal import Head, ModelError, VerificationError
from onnxcal.graph.head import Fed
from onnxcal.inference.expected import activated as reference
from onnxcal.verification import Verification, verify
from tests import builders
from tests.inference.test_session import external

X, Y = builders.labelled_data(200)
MODEL = builders.classifier([builders.softmax()], output="probs")
Damage = Callable[[onnx.ModelProto], None]


def patched(model: onnx.ModelProto = MODEL, temperature: float = 2.0, **options: Any) -> onnx.ModelProto:
    proto = onnxcal.patch(model, temperature=temperature, **options).proto
    assert proto is not None
    return proto


def damaged(damage: Damage, model: onnx.ModelProto = MODEL) -> onnx.ModelProto:
    proto = patched(model)
    before = proto.SerializeToString()
    damage(proto)
    assert proto.SerializeToString() != before
    return proto


def failed(verification: Verification) -> list[str]:
    return [check.name for check in verification.checks if not check.passed]


def node(proto: onnx.ModelProto, op_type: str) -> onnx.NodeProto:
    (found,) = (n for n in proto.graph.node if n.op_type == op_type)
    return found


# The reference


def head_for(task: str, activation: str, axis: int, flatten: bool = False) -> Head:
    return Head("p", "z", task, activation, axis, None, "float32", Fed((0,), "p", True), flatten)  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [0.01, 0.5, 1.0, 1.83, 300.0])
@pytest.mark.parametrize(("shape", "axis"), [((50, 4), 1), ((5, 4, 3, 2), 1), ((5, 3, 4), 2), ((4, 7), 0)])
def test_reference_is_torchs_softmax_in_double(temperature: float, shape: tuple[int, ...], axis: int) -> None:
    z = 30 * np.random.default_rng(0).normal(size=shape)
    scaled = torch.from_numpy(z) / temperature
    softmax = reference(z.astype(np.float64), head_for("multiclass", "softmax", axis), temperature)
    np.testing.assert_allclose(softmax, torch.softmax(scaled, axis).numpy(), rtol=1e-13, atol=1e-300)
    logs = reference(z, head_for("multiclass", "log_softmax", axis), temperature)
    np.testing.assert_allclose(logs, torch.log_softmax(scaled, axis).numpy(), rtol=1e-13, atol=1e-13)
    none = reference(z, head_for("multiclass", "none", axis), temperature)
    np.testing.assert_array_equal(none, softmax)


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_reference_is_torchs_sigmoid_in_double(task: str) -> None:
    z = np.concatenate([60 * np.random.default_rng(0).normal(size=(40, 3)), [[0.0, 800.0, -700.0]]])
    found = reference(z, head_for(task, "sigmoid", 1), 1.7)
    np.testing.assert_allclose(found, torch.sigmoid(torch.from_numpy(z) / 1.7).numpy(), rtol=1e-13, atol=0)


def test_reference_flattens_as_softmax_below_opset_13_does() -> None:
    z = np.random.default_rng(0).normal(size=(5, 2, 3))
    found = reference(z, head_for("multiclass", "softmax", 1, flatten=True), 2.0)
    expected = torch.softmax(torch.from_numpy(z).reshape(5, 6) / 2, 1).numpy().reshape(5, 2, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


# What is sound passes


@pytest.mark.parametrize("temperature", [0.05, 1.0, 1.7, 40.0])
@pytest.mark.parametrize("options", [{}, {"keep_logits": True}, {"output_name": "calibrated"}])
def test_a_patch_passes_every_check(temperature: float, options: dict[str, Any]) -> None:
    result = verify(MODEL, patched(temperature=temperature, **options), X)
    assert result.verification.passed
    assert failed(result.verification) == []
    (runtime,) = result.verification.runtimes
    assert (runtime.name, runtime.passed, runtime.n_samples) == ("onnxruntime", True, 200)
    assert 0 <= runtime.max_abs_error < 1e-5
    names = [check.name.split(" of ")[0] for check in result.verification.checks]
    assert names == ["untouched bytes", "onnx.checker", "probabilities", "arg max", "head 'probs'"]


def test_labels_are_not_needed() -> None:
    assert verify(MODEL, patched(), {"x": X}).verification.passed


def test_the_first_model_may_be_a_patched_one_itself() -> None:
    assert verify(patched(temperature=5.0), patched(), X).verification.passed


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_the_batch_size_does_not_matter(batch_size: int) -> None:
    result = verify(MODEL, patched(), X, batch_size=batch_size).verification
    assert result.passed
    assert result.runtimes[0].n_samples == 200


# What is damaged fails, at the right check


def other_temperature(proto: onnx.ModelProto) -> None:
    (t,) = (i for i in proto.graph.initializer if i.name.startswith("onnxcal"))
    t.CopyFrom(numpy_helper.from_array(np.array([2.001], np.float32), t.name))


def other_recorded_temperature(proto: onnx.ModelProto) -> None:
    (entry,) = (p for p in proto.metadata_props if p.key == "onnxcal.calibration")
    document = json.loads(entry.value)
    document["heads"][0]["calibration"]["temperature"] = 2.001
    entry.value = json.dumps(document)


def other_axis(proto: onnx.ModelProto) -> None:
    node(proto, "Softmax").attribute.append(helper.make_attribute("axis", 0))


def divided_after_the_softmax(proto: onnx.ModelProto) -> None:
    div, softmax = node(proto, "Div"), node(proto, "Softmax")
    div.input[0], softmax.input[0] = "raw_probs", "logits"
    div.output[0], softmax.output[0] = "probs", "raw_probs"
    kept = [n for n in proto.graph.node if n.op_type not in ("Div", "Softmax")] + [softmax, div]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in kept]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)


def multiplied_instead(proto: onnx.ModelProto) -> None:
    node(proto, "Div").op_type = "Mul"


def bypassed(proto: onnx.ModelProto) -> None:
    node(proto, "Softmax").input[0] = "logits"


WRONG = (
    other_temperature,
    other_recorded_temperature,
    other_axis,
    divided_after_the_softmax,
    multiplied_instead,
    bypassed,
)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_probability_that_is_no_number_is_the_worst_error() -> None:
    def damage(proto: onnx.ModelProto) -> None:
        (t,) = (i for i in proto.graph.initializer if i.name.startswith("onnxcal"))
        t.CopyFrom(numpy_helper.from_array(np.array([np.nan], np.float32), t.name))

    verification = verify(MODEL, damaged(damage), X).verification
    assert "probabilities of 'probs'" in failed(verification)
    assert verification.runtimes[0].max_abs_error == np.inf


@pytest.mark.parametrize("damage", WRONG)
def test_wrong_probabilities_are_found_and_told(damage: Damage) -> None:
    verification = verify(MODEL, damaged(damage), X).verification
    assert not verification.passed
    assert "probabilities of 'probs'" in failed(verification)
    (check,) = (c for c in verification.checks if c.name == "probabilities of 'probs'")
    assert check.value is not None
    assert check.limit is not None
    assert check.limit == pytest.approx(1e-5, rel=0.02)  # and what rounding explains
    assert check.value > check.limit
    assert "largest error" in check.detail
    assert "of the batch from sample" in check.detail
    assert f"minimum required tolerance {check.value:.3g}" in check.detail
    assert not verification.runtimes[0].passed
    with pytest.raises(VerificationError, match="FAILED: "):
        verification.raise_if_failed()


def test_the_largest_error_is_where_it_is_said_to_be() -> None:
    proto = damaged(other_temperature)
    z = X.astype(np.float64) @ numpy_helper.to_array(MODEL.graph.initializer[0]) + numpy_helper.to_array(
        MODEL.graph.initializer[1]
    )
    error = np.abs(
        torch.softmax(torch.from_numpy(z / 2.001), 1).numpy() - torch.softmax(torch.from_numpy(z / 2), 1).numpy()
    )
    verification = verify(MODEL, proto, X, batch_size=64).verification
    assert verification.runtimes[0].max_abs_error == pytest.approx(error.max(), abs=2e-6)
    row, column = np.unravel_index(error.argmax(), error.shape)
    (check,) = (c for c in verification.checks if c.name == "probabilities of 'probs'")
    assert f"[{row % 64}, {column}] of the batch from sample {row - row % 64}:" in check.detail


def weight_byte(proto: onnx.ModelProto) -> None:
    """The lowest bit of one weight: no number over the data need show it."""
    (w,) = (i for i in proto.graph.initializer if i.name == "w")
    data = bytearray(w.raw_data)
    data[0] ^= 1
    w.raw_data = bytes(data)


def doc_string(proto: onnx.ModelProto) -> None:
    proto.doc_string = "changed"


def new_name(proto: onnx.ModelProto) -> None:
    proto.graph.name = "another"


def metadata(proto: onnx.ModelProto) -> None:
    proto.metadata_props.add(key="author", value="somebody else")


@pytest.mark.parametrize("damage", [weight_byte, doc_string, new_name, metadata])
def test_a_changed_byte_is_found_though_the_numbers_are_right(damage: Damage) -> None:
    verification = verify(MODEL, damaged(damage), X).verification
    assert "untouched bytes" in failed(verification)
    assert not verification.passed


def two_outputs(**kwargs: Any) -> onnx.ModelProto:
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 4])
    relu = helper.make_node("Relu", ["logits"], ["features"])
    return builders.classifier([relu, builders.softmax()], output="probs", more_outputs=[features], **kwargs)


def test_another_output_stays_as_it_was_bit_for_bit() -> None:
    model = two_outputs()
    verification = verify(model, patched(model), X).verification
    (check,) = (c for c in verification.checks if c.name == "other outputs")
    assert (check.passed, verification.passed) == (True, True)


@pytest.mark.parametrize("op_type", ["Abs", "Neg", "Sigmoid"])
def test_a_changed_other_output_is_found(op_type: str) -> None:
    model = two_outputs()

    def damage(proto: onnx.ModelProto) -> None:
        node(proto, "Relu").op_type = op_type

    verification = verify(model, damaged(damage, model), X).verification
    assert {"other outputs", "untouched bytes"} <= set(failed(verification))
    (check,) = (c for c in verification.checks if c.name == "other outputs")
    assert "'features' (from sample 0)" in check.detail


def test_a_file_that_the_checker_refuses_is_found() -> None:
    """Nodes out of order: onnxruntime sorts them and computes the right numbers, other runtimes may not."""

    def damage(proto: onnx.ModelProto) -> None:
        nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in proto.graph.node]
        del proto.graph.node[:]
        proto.graph.node.extend(reversed(nodes))

    verification = verify(MODEL, damaged(damage), X).verification
    assert {"onnx.checker", "untouched bytes"} == set(failed(verification))


def shifted(amount: float) -> Damage:
    """A constant added to class 0 after the division: a wrong class for those that were close."""

    def damage(proto: onnx.ModelProto) -> None:
        softmax = node(proto, "Softmax")
        offset = numpy_helper.from_array(np.array([amount, 0, 0, 0], np.float32), "offset")
        proto.graph.initializer.append(offset)
        add = helper.make_node("Add", [softmax.input[0], "offset"], ["pushed"])
        softmax.input[0] = "pushed"
        at = next(i for i, n in enumerate(proto.graph.node) if n.op_type == "Softmax")
        proto.graph.node.insert(at, add)

    return damage


def test_a_changed_prediction_is_counted() -> None:
    z = X.astype(np.float64) @ numpy_helper.to_array(MODEL.graph.initializer[0]) + numpy_helper.to_array(
        MODEL.graph.initializer[1]
    )
    pushed = z / 2 + [3.0, 0, 0, 0]
    wanted = int((z.argmax(axis=1) != pushed.argmax(axis=1)).sum())
    assert wanted > 10
    verification = verify(MODEL, damaged(shifted(3.0)), X).verification
    assert verification.runtimes[0].argmax_changed == wanted
    assert "arg max of 'probs'" in failed(verification)


def test_a_sigmoid_that_crosses_one_half_is_a_changed_prediction() -> None:
    model = builders.classifier(
        [helper.make_node("Sigmoid", ["logits"], ["p"])], output="p", output_shape=["N", 1], classes=1
    )

    def damage(proto: onnx.ModelProto) -> None:
        sigmoid = node(proto, "Sigmoid")
        proto.graph.initializer.append(numpy_helper.from_array(np.array([2.0], np.float32), "offset"))
        add = helper.make_node("Add", [sigmoid.input[0], "offset"], ["pushed"])
        sigmoid.input[0] = "pushed"
        at = next(i for i, n in enumerate(proto.graph.node) if n.op_type == "Sigmoid")
        proto.graph.node.insert(at, add)

    verification = verify(model, damaged(damage, model), X).verification
    assert verification.runtimes[0].argmax_changed > 0
    assert "arg max of 'p'" in failed(verification)


# Extreme numbers must not blind the check


def test_one_huge_sample_does_not_hide_a_wrong_temperature_in_all_others() -> None:
    """Rounding of a logit of 1e8 excuses an error in that row, not in the 199 rows of ordinary size."""

    def damage(proto: onnx.ModelProto) -> None:
        (t,) = (i for i in proto.graph.initializer if i.name.startswith("onnxcal"))
        t.CopyFrom(numpy_helper.from_array(np.array([4.0], np.float32), t.name))

    x = X.copy()
    x[7] *= 1e7
    assert verify(MODEL, patched(), x).verification.passed
    assert not verify(MODEL, damaged(damage), x).verification.passed


@pytest.mark.parametrize("recorded", [1e-7, 1e-12, 1e-30])
def test_a_tiny_recorded_temperature_does_not_make_the_tolerance_infinite(recorded: float) -> None:
    """The file says T → 0 but computes T = 2: an error of nearly 1 in a probability is never rounding."""

    def damage(proto: onnx.ModelProto) -> None:
        (entry,) = (p for p in proto.metadata_props if p.key == "onnxcal.calibration")
        document = json.loads(entry.value)
        document["heads"][0]["calibration"]["temperature"] = recorded
        entry.value = json.dumps(document)

    verification = verify(MODEL, damaged(damage), X).verification
    assert verification.runtimes[0].max_abs_error > 0.4
    assert not verification.passed


# Files


@pytest.fixture
def on_disk(tmp_path: Path) -> tuple[Path, Path]:
    """A model with external data, and a patched copy in a folder of its own."""
    model = external(tmp_path / "a")
    out = tmp_path / "b" / "out.onnx"
    out.parent.mkdir()
    onnxcal.patch(model, temperature=2.0, output=out)
    return model, out


def test_external_data_that_are_the_same_pass(on_disk: tuple[Path, Path]) -> None:
    model, out = on_disk
    assert sorted(path.name for path in out.parent.iterdir()) == ["out.onnx", "weights.bin"]
    assert verify(model, out, X).verification.passed


def test_a_changed_external_file_is_found(on_disk: tuple[Path, Path]) -> None:
    model, out = on_disk
    data = bytearray((out.parent / "weights.bin").read_bytes())
    data[2] ^= 1
    (out.parent / "weights.bin").write_bytes(data)
    verification = verify(model, out, X).verification
    assert "untouched bytes" in failed(verification)
    (check,) = (c for c in verification.checks if c.name == "untouched bytes")
    assert "weights.bin" in check.detail


@pytest.mark.parametrize("which", ["itself", "swapped", "another"])
def test_a_file_that_was_not_patched_is_refused(which: str, tmp_path: Path) -> None:
    model = builders.save(MODEL, tmp_path / "m.onnx")
    out = builders.save(patched(), tmp_path / "out.onnx")
    pairs = {"itself": (model, model), "swapped": (out, model), "another": (out, builders.save(MODEL, tmp_path / "o"))}
    with pytest.raises(ModelError, match="carries no calibration") as caught:
        verify(*pairs[which], X)
    assert "original first" in str(caught.value.hint)


@pytest.mark.parametrize("options", [{}, {"fold": True}])
@pytest.mark.parametrize("tolerance", [None, 1.0])
def test_a_patch_of_another_model_fails_with_any_tolerance(tolerance: float | None, options: dict[str, Any]) -> None:
    other = builders.classifier([builders.softmax()], output="probs", seed=5)
    result = verify(other, patched(**options), X, tolerance=tolerance)
    assert "untouched bytes" in failed(result.verification)
    (check,) = (c for c in result.verification.checks if c.name == "untouched bytes")
    assert "is not the model that" in check.detail
    assert result.moved is None
    assert not any("changed after" in warning for warning in result.warnings)


def test_an_output_that_is_gone_is_refused() -> None:
    proto = patched()
    proto.graph.output[0].name = node(proto, "Softmax").output[0] = "renamed"
    with pytest.raises(ModelError, match="has no output 'probs'"):
        verify(MODEL, proto, X)


def entries(key: str) -> list[tuple[Any, ...]]:
    values: list[Any] = [None, "abc", -1, 1.5, [], {}, True]
    paths = {
        "onnxcal.calibration": [
            ("heads",), ("heads", 0), ("heads", 0, "head"), ("heads", 0, "head", "output"),
            ("heads", 0, "head", "axis"), ("heads", 0, "head", "task"), ("heads", 0, "head", "activation"),
            ("heads", 0, "calibration"), ("heads", 0, "calibration", "temperature"),
            ("heads", 0, "output_name"), ("heads", 0, "keep_logits"),
        ],
        "onnxcal.undo": [("sha256",), ("edit",), ("edit", "graph"), ("edit", "lengths"), ("edit", "graph", "1")],
    }[key]  # fmt: skip
    return [(key, path, value) for path, value in itertools.product(paths, values)]


@pytest.mark.parametrize(
    ("key", "path", "value"), [*entries("onnxcal.calibration"), *entries("onnxcal.undo")], ids=repr
)
def test_damaged_metadata_are_an_error_and_no_crash(
    key: str, path: tuple[Any, ...], value: Any, tmp_path: Path
) -> None:
    """Whatever stands in the metadata, each command does its work or says in one sentence that it cannot."""
    proto = patched()
    (entry,) = (p for p in proto.metadata_props if p.key == key)
    document = json.loads(entry.value)
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    entry.value = json.dumps(document)
    for work in (
        lambda: onnxcal.inspect(proto),
        lambda: onnxcal.patch(proto, temperature=3.0),
        lambda: verify(MODEL, proto, X[:20]),
        lambda: onnxcal.revert(proto, output=tmp_path / "reverted.onnx", force=True),
    ):
        with contextlib.suppress(onnxcal.OnnxcalError):
            work()


# On the command line


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    np.savez(tmp_path / "data.npz", x=X, labels=Y)
    return {
        "model": builders.save(MODEL, tmp_path / "m.onnx"),
        "good": builders.save(patched(), tmp_path / "good.onnx"),
        "bad": builders.save(damaged(other_temperature), tmp_path / "bad.onnx"),
        "data": tmp_path / "data.npz",
    }


def test_command_prints_passed_and_exits_0(cli: Any, files: dict[str, Path]) -> None:
    result = cli("verify", files["model"], files["good"], "--data", files["data"])
    assert result.exit_code == 0
    assert "PASSED" in result.stdout
    assert "FAIL" not in result.stdout
    assert result.stderr == ""


def test_command_prints_failed_and_exits_1(cli: Any, files: dict[str, Path]) -> None:
    result = cli("verify", files["model"], files["bad"], "--data", files["data"])
    text = " ".join(result.stdout.split())
    assert result.exit_code == 1
    assert "FAILED (onnxruntime" in text
    for words in ("largest error", "of the batch from sample", "minimum required tolerance"):
        assert words in text
    assert "PASSED" not in text


def test_quiet_command_says_failed_on_stderr(cli: Any, files: dict[str, Path]) -> None:
    result = cli("verify", files["model"], files["bad"], "--data", files["data"], "-q")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("FAILED")
    assert cli("verify", files["model"], files["good"], "--data", files["data"], "-q").output == ""


@pytest.mark.parametrize(("which", "code"), [("good", 0), ("bad", 1)])
def test_json_says_the_same_as_the_exit_code(which: str, code: int, cli: Any, files: dict[str, Path]) -> None:
    result = cli("verify", files["model"], files[which], "--data", files["data"], "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == code
    assert set(document) == {"schema", "verification", "moved", "warnings"}
    assert (document["moved"] is None) == (which == "good")
    assert document["verification"]["passed"] is (code == 0)
    (runtime,) = document["verification"]["runtimes"]
    contract = {"name", "version", "passed", "max_abs_error", "argmax_changed", "n_samples"}
    more = {"setting", "counts", "tolerance", "tolerance_needed", "max_abs_error_before", "nll", "ece"}
    assert set(runtime) == contract | more | {"blame", "detail"}
    assert runtime["passed"] is (code == 0)
    assert runtime["n_samples"] == 200


# A calibration that fails its own verification


@pytest.fixture
def no_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the runtime computed something else: nothing but exact equality passes."""
    room = sys.modules["onnxcal.verification.head"]
    monkeypatch.setattr(room, "TOLERANCE", dict.fromkeys(room.TOLERANCE, 0.0))
    monkeypatch.setattr(room, "LOGIT_ROUNDING", dict.fromkeys(room.LOGIT_ROUNDING, 0.0))


@pytest.mark.usefixtures("no_tolerance")
@pytest.mark.parametrize("older", [True, False])
@pytest.mark.parametrize("command", ["calibrate", "patch"])
def test_a_failed_verification_leaves_no_output(
    command: str, older: bool, cli: Any, files: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out" / "out.onnx"
    out.parent.mkdir()
    if older:
        out.write_bytes(b"the older one")
    words = ["--temperature", 2.3] if command == "patch" else []
    result = cli(command, files["model"], "--data", files["data"], "-o", out, "--force", *words)
    assert result.exit_code == 1
    assert result.stderr.startswith("onnxcal: error: FAILED: probabilities of 'probs': largest error")
    assert "minimum required tolerance" in result.stderr
    assert [p.read_bytes() for p in out.parent.iterdir()] == ([b"the older one"] if older else [])


@pytest.mark.usefixtures("no_tolerance")
def test_all_checks_are_shown_with_verbose_as_the_hint_promises(cli: Any, files: dict[str, Path]) -> None:
    result = cli("calibrate", files["model"], "--data", files["data"])
    assert "rerun with -v for all checks" in result.stderr
    again = cli("calibrate", files["model"], "--data", files["data"], "-v")
    assert again.exit_code == 1
    for check in ("untouched bytes", "onnx.checker", "arg max"):
        assert check in again.output


@pytest.mark.usefixtures("no_tolerance")
def test_in_place_leaves_the_model_alone_when_it_fails(cli: Any, files: dict[str, Path], tmp_path: Path) -> None:
    before = sorted((p.name, p.read_bytes()) for p in tmp_path.iterdir())
    assert cli("calibrate", files["model"], "--data", files["data"], "--in-place").exit_code == 1
    assert sorted((p.name, p.read_bytes()) for p in tmp_path.iterdir()) == before


def test_external_data_that_go_missing_after_patching_are_an_error(on_disk: tuple[Path, Path]) -> None:
    model, out = on_disk
    shutil.move(out.parent / "weights.bin", out.parent / "elsewhere.bin")
    with pytest.raises(ModelError, match="is missing"):
        verify(model, out, X)


def test_kept_logits_are_checked_too() -> None:
    """The output that --keep-logits added must be z/T; here it is z, and everything else is right."""
    proto = patched(keep_logits=True)
    assert verify(MODEL, proto, X).verification.passed
    proto.graph.output[1].name = "logits"
    assert not verify(MODEL, proto, X).verification.passed


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
def test_a_masked_class_is_compared_without_a_warning(op_type: str) -> None:
    """A logit of −inf is probability 0, log-probability −inf, in the reference as in the graph."""
    model = builders.classifier([helper.make_node(op_type, ["logits"], ["p"])], output="p")
    bias = numpy_helper.from_array(np.array([0, 0, 0, -np.inf], np.float32), "b")
    model.graph.initializer[1].CopyFrom(bias)
    assert onnxcal.calibrate(model, (X, np.minimum(Y, 2))).verification.passed
