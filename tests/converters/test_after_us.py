"""Files that are converted or quantised after they were calibrated, by the real converters: what is kept, and what
`verify` says of them; and T folded into quantised models."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, version_converter
from onnxconverter_common import float16
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from scipy.special import softmax

import onnxcal
from tests import builders
from tests.converters import quiet
from tests.graph.test_folding import raw_logits
from tests.graph.test_folding import run as outputs

X, Y = builders.labelled_data(300)
ENDS = {
    "its own Softmax": builders.classifier(
        [helper.make_node("Softmax", ["logits"], ["probs"], name="own", axis=1)], output="probs"
    ),
    "raw logits": builders.classifier(output="probs", tail=[helper.make_node("Identity", ["logits"], ["probs"])]),
}


class Reader(CalibrationDataReader):
    """The inputs in two batches."""

    def __init__(self) -> None:
        self.batches: Iterator[np.ndarray] = iter(np.array_split(X, 2))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"x": batch}


@pytest.fixture(scope="module", autouse=True)
def silence() -> Iterator[None]:
    """The quantiser advises through the root logger."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module", params=ENDS)
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model and its calibrated file."""
    folder = tmp_path_factory.mktemp("after")
    model = builders.save(ENDS[request.param], folder / "m.onnx")
    onnxcal.calibrate(model, (X, Y), output=folder / "out.onnx", bootstrap=0)
    return model, folder / "out.onnx"


def convert(calibrated: Path, how: str, target: Path) -> Path:
    with quiet(), contextlib.redirect_stdout(io.StringIO()):
        if how.startswith("float16"):
            proto = onnx.ModelProto.FromString(calibrated.read_bytes())
            builders.save(float16.convert_float_to_float16(proto, keep_io_types=how == "float16"), target)
        elif how == "dynamic":
            quantize_dynamic(calibrated, target)
        else:
            exclude = list(onnxcal.nodes_to_exclude(calibrated)) if how == "pairs, T excluded" else []
            quantize_static(calibrated, target, Reader(), quant_format=QuantFormat.QDQ, nodes_to_exclude=exclude)
    return target


def float_readers(path: Path) -> dict[str, str]:
    """For Div and Softmax, what makes the tensor that they read."""
    graph = onnx.ModelProto.FromString(path.read_bytes()).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    readers = {name: node.op_type for node in graph.node for name in node.input}
    return {n.op_type: f"{makers[n.input[0]]} {readers.get(n.output[0], '')}" for n in graph.node
            if n.op_type in ("Div", "Softmax")}  # fmt: skip


def test_nodes_to_exclude_are_all_that_were_put_in_also_before_the_division() -> None:
    named = onnx.helper.make_node("Softmax", ["logits"], ["probs"], name="own")
    half = builders.classifier([named], output="probs", dtype="float16")
    proto = onnxcal.patch(half, temperature=1.7).proto
    assert proto is not None
    behind = [node.name for node in proto.graph.node if node.name != "fc"]
    assert onnxcal.nodes_to_exclude(proto) == tuple(behind) == ("onnxcal_cast", "onnxcal_div", "own", "onnxcal_cast_1")


def test_nodes_to_exclude_keep_division_and_softmax_in_float(files: tuple[Path, Path], tmp_path: Path) -> None:
    names = onnxcal.nodes_to_exclude(files[1])
    assert names[0] == "onnxcal_div"
    assert any("softmax" in name or name == "own" for name in names)
    with_t = float_readers(convert(files[1], "pairs", tmp_path / "all.onnx"))
    without = float_readers(convert(files[1], "pairs, T excluded", tmp_path / "but.onnx"))
    assert "QuantizeLinear" in with_t["Div"]
    assert without["Div"].endswith(" Softmax")
    assert without["Softmax"] == "Div "
    document = onnxcal.inspect(files[1])
    assert document.nodes_to_exclude == names


def test_a_converter_that_drops_tags_does_not_hide_the_division(tmp_path: Path) -> None:
    """onnx.version_converter drops a node's metadata_props, simplifiers its doc_string; both keep its name."""
    named = helper.make_node("Softmax", ["logits"], ["probs"], name="own", axis=1)
    model = builders.save(builders.classifier([named], output="probs", opset=20, ir_version=10), tmp_path / "m.onnx")
    out = tmp_path / "out.onnx"
    onnxcal.patch(model, temperature=2.0, output=out)
    proto = version_converter.convert_version(onnx.ModelProto.FromString(out.read_bytes()), 21)
    assert not any(node.metadata_props or node.doc_string for node in proto.graph.node)
    converted = builders.save(proto, tmp_path / "converted.onnx")
    assert onnxcal.nodes_to_exclude(converted) == onnxcal.nodes_to_exclude(out) == ("onnxcal_div", "own")
    onnxcal.set_temperature(converted, 2.06)
    assert onnxcal.verify(model, converted, X).moved.max_abs_error < 1e-5

    (t,) = (each for each in proto.graph.initializer if each.name == "onnxcal_temperature")
    t.CopyFrom(numpy_helper.from_array(np.array([2.06], np.float32), t.name))
    said = onnxcal.verify(model, proto, X, tolerance=0.05).warnings
    assert any("divided by 2.06, and its calibration says 2" in warning for warning in said)
    for node in proto.graph.node:
        node.name = node.name.removeprefix("onnxcal_")
    said = onnxcal.verify(model, proto, X, tolerance=0.05).warnings
    assert any("division of 'probs' by T is not to be found" in warning for warning in said)


def test_an_input_that_is_left_out_is_not_taken_for_lost_logits() -> None:
    """Of a folded file whose head is not what it was, no node is known; a Clip without a minimum reads ''."""
    proto = builders.classifier([builders.softmax()], output="probs")
    proto.graph.node.insert(0, helper.make_node("Clip", ["x", "", "most"], ["clipped"], name="clip"))
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(3), "most"))
    proto.graph.node[1].input[0] = "clipped"
    folded = onnxcal.patch(proto, temperature=2.0, fold=True).proto
    folded.graph.node[2].op_type = "QuantizeLinear"
    assert onnxcal.nodes_to_exclude(folded) == ()


def test_an_activation_without_a_name_is_warned_of() -> None:
    proto = onnxcal.patch(builders.classifier([builders.softmax()], output="probs"), temperature=2.0).proto
    with pytest.warns(UserWarning, match="Softmax after the logits has no name"):
        assert onnxcal.nodes_to_exclude(proto) == ("onnxcal_div",)
    assert onnxcal.inspect(proto).nodes_to_exclude == ("onnxcal_div",)


@pytest.mark.parametrize("thing", [3, None, b"m.onnx"])
def test_what_is_no_model_is_refused_by_its_type(thing: Any) -> None:
    with pytest.raises(onnxcal.ModelError, match=f"of type {type(thing).__name__} cannot be read"):
        onnxcal.nodes_to_exclude(thing)


def test_what_is_not_patched_has_no_nodes_to_exclude(files: tuple[Path, Path]) -> None:
    assert onnxcal.nodes_to_exclude(files[0]) == ()


def test_of_a_folded_file_the_activation_is_excluded(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "folded.onnx"
    onnxcal.patch(files[0], temperature=1.7, fold=True, output=out)
    assert onnxcal.nodes_to_exclude(out)
    assert float_readers(convert(out, "pairs, T excluded", tmp_path / "q.onnx"))["Softmax"].endswith(" ")


@pytest.mark.parametrize("how", ["float16", "float16 inputs", "dynamic", "pairs", "pairs, T excluded"])
def test_verify_says_how_far_a_converted_file_has_moved(
    how: str, files: tuple[Path, Path], tmp_path: Path, cli: Any
) -> None:
    model, calibrated = files
    converted = convert(calibrated, how, tmp_path / "converted.onnx")
    temperature = onnxcal.inspect(calibrated).calibration.temperature
    result = onnxcal.verify(model, converted, (X, Y))
    moved = result.moved
    assert moved is not None
    assert not result.verification.passed

    inputs = X.astype(np.float16) if how == "float16 inputs" else X
    reference = softmax(raw_logits(onnx.ModelProto.FromString(model.read_bytes()), X) / temperature, axis=1)
    batches = [inputs[i : i + 64] for i in range(0, len(X), 64)]  # scales of a dynamic one depend on the batch
    got = np.concatenate([run(converted, batch) for batch in batches]).astype(np.float64)
    assert moved.max_abs_error == pytest.approx(np.abs(got - reference).max(), rel=1e-3)
    assert moved.required_tolerance >= moved.max_abs_error * 0.99
    assert moved.argmax_changed == (got.argmax(axis=1) != reference.argmax(axis=1)).sum()
    assert moved.calibrated.nll == pytest.approx(-np.log(reference[np.arange(len(Y)), Y]).mean(), rel=1e-5)
    scaled = np.maximum(got, 2.0**-23)
    scaled /= scaled.sum(axis=1, keepdims=True)
    assert moved.converted.nll == pytest.approx(-np.log(scaled[np.arange(len(Y)), Y]).mean(), rel=1e-4)

    np.savez(tmp_path / "d.npz", x=X, labels=Y)
    words = ("verify", model, converted, "--data", tmp_path / "d.npz")
    failed = cli(*words)
    assert failed.exit_code == 1
    assert f"--tolerance {moved.required_tolerance:g}" in " ".join(failed.stdout.split())
    assert "by rounding alone" not in cli(*words, "--tolerance", moved.required_tolerance).stdout
    accepted = cli(*words, "--tolerance", moved.required_tolerance, "--json")
    assert accepted.exit_code == 0
    assert json.loads(accepted.stdout)["moved"]["converted"]["ece"] == pytest.approx(moved.converted.ece)
    assert cli(*words, "--tolerance", moved.max_abs_error / 10).exit_code == 1


def run(path: Path, batch: np.ndarray) -> np.ndarray:
    return outputs(path.read_bytes(), batch, "probs")[0]


def test_without_labels_the_error_is_said_alone(files: tuple[Path, Path], tmp_path: Path) -> None:
    converted = convert(files[1], "float16", tmp_path / "converted.onnx")
    moved = onnxcal.verify(files[0], converted, X).moved
    assert moved is not None
    assert moved.max_abs_error > 1e-6
    assert (moved.calibrated, moved.converted) == (None, None)


def test_t_is_set_in_a_file_that_was_converted_since(files: tuple[Path, Path], tmp_path: Path) -> None:
    converted = convert(files[1], "float16", tmp_path / "converted.onnx")
    onnxcal.set_temperature(converted, 3.3)
    moved = onnxcal.verify(files[0], converted, X).moved
    assert moved is not None
    assert moved.max_abs_error < 5e-3


# Float16 after us


@pytest.mark.parametrize(("temperature", "harmful"), [(0.013, True), (0.1, True), (1.7, False)])
def test_a_float16_conversion_that_would_do_harm_is_warned_of(
    temperature: float, harmful: bool, tmp_path: Path
) -> None:
    """The warning holds what the converter really does to within a factor of three."""
    out = tmp_path / "out.onnx"
    model = ENDS["its own Softmax"]
    result = onnxcal.patch(model, temperature=temperature, output=out, data=X)
    warned = [warning for warning in result.warnings if "converted to float16 later" in warning]
    assert bool(warned) == harmful
    converted = convert(out, "float16", tmp_path / "half.onnx")
    moved = onnxcal.verify(model, converted, X).moved
    assert moved is not None
    if harmful:
        told = float(warned[0].split("off by up to ")[1].split(":")[0])
        assert moved.max_abs_error / 3 < told < moved.max_abs_error * 3
    else:
        assert moved.max_abs_error < 0.01


def test_a_t_that_float16_cannot_hold_is_warned_of_without_data() -> None:
    small, usual = (onnxcal.patch(ENDS["raw logits"], temperature=t).warnings for t in (2e-5, 1.7))
    assert any("float16" in warning for warning in small)
    assert not any("float16" in warning for warning in usual)


# T folded into quantised models


@pytest.mark.parametrize("quant_format", [QuantFormat.QDQ, QuantFormat.QOperator])
@pytest.mark.parametrize("per_channel", [False, True])
def test_t_is_folded_into_the_scale_of_the_last_dequantizelinear(
    quant_format: QuantFormat, per_channel: bool, tmp_path: Path
) -> None:
    source, target = builders.save(ENDS["its own Softmax"], tmp_path / "m.onnx"), tmp_path / "q.onnx"
    with quiet(), contextlib.redirect_stdout(io.StringIO()):
        quantize_static(source, target, Reader(), quant_format=quant_format, per_channel=per_channel,
                        nodes_to_exclude=["own"])  # fmt: skip
    divided = onnxcal.patch(target, temperature=1.7, output=tmp_path / "d.onnx", data=X)
    folded = onnxcal.patch(target, temperature=1.7, fold=True, output=tmp_path / "f.onnx", data=X)
    assert divided.verification.passed
    assert folded.verification.passed
    assert len(folded.folded) == 1
    before, after = (onnx.ModelProto.FromString(path.read_bytes()) for path in (target, tmp_path / "f.onnx"))
    assert [n.op_type for n in before.graph.node] == [n.op_type for n in after.graph.node]
    one, other = (run(tmp_path / name, X) for name in ("d.onnx", "f.onnx"))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_t_is_folded_into_the_scale_of_dynamically_quantised_weights(tmp_path: Path) -> None:
    source, target = builders.save(ENDS["its own Softmax"], tmp_path / "m.onnx"), tmp_path / "q.onnx"
    with quiet(), contextlib.redirect_stdout(io.StringIO()):
        quantize_dynamic(source, target)
    result = onnxcal.patch(target, temperature=1.7, fold=True, output=tmp_path / "f.onnx", data=X)
    assert result.verification.passed
    assert len(result.folded) == 2
    operators = [[n.op_type for n in onnx.ModelProto.FromString(p.read_bytes()).graph.node]
                 for p in (target, tmp_path / "f.onnx")]  # fmt: skip
    assert operators[0] == operators[1]


@pytest.mark.parametrize("factor", [1.03, 1.0])
def test_a_temperature_that_no_conversion_makes_is_said_within_the_tolerance_too(
    factor: float, tmp_path: Path, cli: Any
) -> None:
    builders.save(builders.classifier(), tmp_path / "m.onnx")
    onnxcal.patch(tmp_path / "m.onnx", temperature=2.0, output=tmp_path / "p.onnx")
    np.savez(tmp_path / "d.npz", x=builders.labelled_data(50)[0])
    changed = onnx.ModelProto.FromString((tmp_path / "p.onnx").read_bytes())
    changed.producer_name = "another tool"
    (t,) = (each for each in changed.graph.initializer if each.name == "onnxcal_temperature")
    t.CopyFrom(numpy_helper.from_array(np.array([2.0 * factor], np.float32), t.name))
    builders.save(changed, tmp_path / "p.onnx")
    result = cli("verify", tmp_path / "m.onnx", tmp_path / "p.onnx", "--data", tmp_path / "d.npz", "--tolerance", 0.05)
    assert result.exit_code == 0
    assert ("'logits' is divided by 2.06" in " ".join((result.stdout + result.stderr).split())) == (factor != 1.0)
    assert "(limit 0.05)," in result.stdout


@pytest.mark.parametrize("factor", [1.03, 1.0])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_weights_with_another_temperature_folded_in_are_said(
    factor: float, half: bool, shared: bool, tmp_path: Path
) -> None:
    more = [helper.make_tensor_value_info("a", 1, [6, 4])] if shared else []
    tail = [helper.make_node("Softmax", ["logits"], ["probs"], name="own", axis=1)]
    tail += [helper.make_node("Abs", ["w"], ["a"], name="other")] if shared else []
    model = builders.classifier(tail, output="probs", more_outputs=more)
    folded = onnxcal.patch(model, temperature=2.0, fold=True, output=tmp_path / "f.onnx").folded
    proto = onnx.ModelProto.FromString((tmp_path / "f.onnx").read_bytes())
    for tensor in proto.graph.initializer:
        if tensor.name in folded:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) / np.float32(factor), tensor.name))
    if half:
        with quiet():
            proto = float16.convert_float_to_float16(proto, keep_io_types=True)
    elif factor == 1.0:
        proto.producer_name = "another tool"
    warnings = onnxcal.verify(model, proto, X, tolerance=0.05).warnings
    said = [warning for warning in warnings if "no conversion rounds T so far" in warning]
    assert len(said) == (2 if factor != 1.0 else 0)
    assert all("divided by 2.0" in each and "the calibration says 2:" in each for each in said)
