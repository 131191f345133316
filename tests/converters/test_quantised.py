"""Networks after onnxruntime's quantiser: 8-bit operators, or quantise-dequantise pairs around float ones.

The logits are what the quantised model computes, tapped at the Dequantize output; the float model's are others.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from skl2onnx import to_onnx
from sklearn.neural_network import MLPClassifier

import onnxcal
from tests.converters import (
    Conversion,
    Reference,
    assert_calibrated,
    last_node,
    multiclass,
    pictures,
    quiet,
    run,
    softmax,
    tapped,
)
from tests.converters.test_torch import ENDINGS, LABELS, WithTail, export, network

ACTIVATIONS = ("Softmax", "LogSoftmax", "Sigmoid", "QLinearSoftmax", "QLinearSigmoid")
FORMATS = {"pairs": QuantFormat.QDQ, "8-bit operators": QuantFormat.QOperator}
OPTIONS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "per channel": {"per_channel": True},
    "unsigned": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QUInt8},
    "symmetric": {"extra_options": {"ActivationSymmetric": True, "WeightSymmetric": True}},
    "by entropy": {"calibrate_method": CalibrationMethod.Entropy},
}


class Reader(CalibrationDataReader):
    """Some of the inputs, in batches."""

    def __init__(self, x: np.ndarray) -> None:
        self.batches: Iterator[np.ndarray] = iter(np.array_split(x[:128], 2))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"x": batch}


@pytest.fixture(scope="module", autouse=True)
def silence() -> Iterator[None]:
    """The quantiser advises through the root logger."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@cache
def float_model(name: str, folder: Path) -> bytes:
    ending = ENDINGS[name]
    return export(WithTail(network(ending.kind), ending.tail).eval(), False, folder)


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """The float model with an ending of test_torch."""
    folder = tmp_path_factory.mktemp("float")
    return lambda name: float_model(name, folder)


def quantised(model: bytes, x: np.ndarray, folder: Path, *, dynamic: bool = False, **options: Any) -> bytes:
    source, target = folder / "float.onnx", folder / "quantised.onnx"
    source.write_bytes(model)
    with quiet(), contextlib.redirect_stdout(io.StringIO()):
        if dynamic:
            quantize_dynamic(source, target, **options)
        else:
            quantize_static(source, target, Reader(x), **options)
    return target.read_bytes()


def constants(model: bytes) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.ModelProto.FromString(model).graph.initializer}


def logits_of(model: bytes, x: np.ndarray, op_type: str = "") -> np.ndarray:
    """The logits that an activation reads, dequantised here if it reads 8-bit numbers."""
    node = last_node(model, op_type) if op_type else last_node(model, *ACTIVATIONS)
    if node.op_type not in ("QLinearSoftmax", "QLinearSigmoid"):
        return halved(model, node.input[0], x)
    scale, zero = (constants(model)[name].astype(np.float64) for name in node.input[1:3])
    return (tapped(model, node.input[0], x) - zero) * scale


def halved(model: bytes, tensor: str, x: np.ndarray) -> np.ndarray:
    """A float tensor, tapped behind a division by two, which is exact.

    onnxruntime fuses DequantizeLinear – Gemm – QuantizeLinear into a QGemm only as long as nobody else wants the
    dequantised result; without VNNI instructions a QGemm saturates, and differs from the Gemm by more than rounding.
    """
    proto = onnx.ModelProto.FromString(model)
    for node in proto.graph.node:
        node.input[:] = ["halved" if name == tensor else name for name in node.input]
    proto.graph.initializer.append(numpy_helper.from_array(np.array([2], np.float32), "two"))
    proto.graph.node.append(onnx.helper.make_node("Div", [tensor, "two"], ["halved"]))
    proto.graph.output.add(name="halved")
    return 2.0 * run(proto.SerializeToString(), x)["halved"].astype(np.float64)


def grid_of(model: bytes) -> tuple[float, float, float]:
    """Step, least and greatest value of the last quantised tensor."""
    node = last_node(model, "DequantizeLinear")
    scale, zero = (constants(model)[name] for name in node.input[1:3])
    limits = np.iinfo(zero.dtype)
    return float(scale), float((limits.min - int(zero)) * scale), float((limits.max - int(zero)) * scale)


def on_a_grid(form: Reference, grid: tuple[float, float, float]) -> Reference:
    return lambda z: form(z).clip(grid[1], grid[2])


def conversion(name: str, model: bytes, z: np.ndarray) -> Conversion:
    ending, data = ENDINGS[name], pictures()
    y = LABELS[ending.kind](data.x, data.y)
    return Conversion(
        model,
        data.x,
        y,
        z,
        ending.form,
        ending.task,
        ending.activation,
        raw=ending.raw,
        converter_tolerance=0.02,  # the rows of a quantised softmax sum to 0.98 … 1.01
    )


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", ["softmax", "sigmoid (N, 1)", "sigmoids of three labels", "dense"])
def test_pairs_around_the_activation(name: str, options: str, floats: Callable[[str], bytes], tmp_path: Path) -> None:
    """What comes out lies on the 8-bit grid still; the division is in float."""
    model = quantised(floats(name), pictures().x, tmp_path, quant_format=QuantFormat.QDQ, **OPTIONS[options])
    expected = conversion(name, model, logits_of(model, pictures().x))
    grid = grid_of(model)
    assert_calibrated(
        replace(expected, form=on_a_grid(expected.form, grid), tolerance=0.5001 * grid[0] + 1e-6), tmp_path
    )


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", ["softmax", "sigmoid (N, 1)", "sigmoids of three labels", "dense"])
def test_8_bit_activations_become_float(
    name: str, options: str, floats: Callable[[str], bytes], tmp_path: Path
) -> None:
    """`QLinearSoftmax` and `QLinearSigmoid` are passed by."""
    model = quantised(floats(name), pictures().x, tmp_path, quant_format=QuantFormat.QOperator, **OPTIONS[options])
    assert last_node(model, *ACTIVATIONS).domain == "com.microsoft"
    assert_calibrated(conversion(name, model, logits_of(model, pictures().x)), tmp_path)


@pytest.mark.parametrize("quant_format", FORMATS)
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sigmoid (N, 1)", "dense"])
def test_a_float_activation_behind_a_quantised_network(
    name: str, quant_format: str, floats: Callable[[str], bytes], tmp_path: Path
) -> None:
    activation = last_node(floats(name), *ACTIVATIONS).name
    model = quantised(
        floats(name), pictures().x, tmp_path, quant_format=FORMATS[quant_format], nodes_to_exclude=[activation]
    )
    assert not last_node(model, *ACTIVATIONS).domain
    assert_calibrated(conversion(name, model, logits_of(model, pictures().x)), tmp_path)


@pytest.mark.parametrize("quant_format", FORMATS)
def test_a_softmax_by_hand_behind_a_quantised_network(
    quant_format: str, floats: Callable[[str], bytes], tmp_path: Path
) -> None:
    name = "softmax by hand"
    model = quantised(floats(name), pictures().x, tmp_path, quant_format=FORMATS[quant_format])
    z = logits_of(model, pictures().x, "ReduceMax")
    assert_calibrated(conversion(name, model, z), tmp_path)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("quant_format", FORMATS)
@pytest.mark.parametrize("name", ["logits", "one logit", "dense logits"])
def test_quantised_logits(
    name: str, quant_format: str, per_channel: bool, floats: Callable[[str], bytes], tmp_path: Path
) -> None:
    """The last operator is a QGemm or QLinearConv, dequantised."""
    model = quantised(floats(name), pictures().x, tmp_path, quant_format=FORMATS[quant_format], per_channel=per_channel)
    assert_calibrated(conversion(name, model, tapped(model, "out", pictures().x).astype(np.float64)), tmp_path)


def test_sixteen_bit_activations(floats: Callable[[str], bytes], tmp_path: Path) -> None:
    model = quantised(
        floats("softmax"),
        pictures().x,
        tmp_path,
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt16,
        extra_options={"UseQDQContribOps": True},
    )
    assert last_node(model, "DequantizeLinear").domain == "com.microsoft"
    expected = conversion("softmax", model, logits_of(model, pictures().x))
    assert_calibrated(replace(expected, form=on_a_grid(softmax, grid_of(model)), tolerance=3e-5), tmp_path)


@pytest.mark.parametrize("weight_type", [QuantType.QInt8, QuantType.QUInt8], ids=str)
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sigmoid (N, 1)", "[1 - p, p] concatenated", "logits"])
def test_dynamic_quantisation(
    name: str, weight_type: QuantType, floats: Callable[[str], bytes], tmp_path: Path
) -> None:
    """What such a model says of a sample depends on what else is in the batch: all is fed as one."""
    model = quantised(floats(name), pictures().x, tmp_path, dynamic=True, weight_type=weight_type)
    x = pictures().x
    z = tapped(model, "out", x).astype(np.float64) if name == "logits" else logits_of(model, x)
    assert_calibrated(replace(conversion(name, model, z), options={"batch_size": len(x)}), tmp_path)


@cache
def perceptron() -> bytes:
    """Its labels are the arg max of its probabilities, in the graph."""
    data = multiclass()
    with quiet():
        fitted = MLPClassifier((12,), max_iter=80, random_state=0).fit(data.x_train, data.y_train)
        return to_onnx(fitted, data.x[:1], options={"zipmap": False}, name="x").SerializeToString()


@pytest.mark.parametrize("kind", ["dynamic", "8-bit operators", "pairs"])
def test_labels_of_a_quantised_scikit_learn_model(kind: str, tmp_path: Path) -> None:
    data = multiclass()
    proto = onnx.ModelProto.FromString(perceptron())
    source = proto.graph.input[0].name
    for node in proto.graph.node:
        node.input[:] = ["x" if name == source else name for name in node.input]
    proto.graph.input[0].name = "x"
    options: dict[str, Any] = {"dynamic": True} if kind == "dynamic" else {"quant_format": FORMATS[kind]}
    model = quantised(proto.SerializeToString(), data.x, tmp_path, **options)
    expected = Conversion(
        model,
        data.x,
        data.y,
        logits_of(model, data.x),
        outputs=["probabilities"],
        converter_tolerance=0.1,
        options={"batch_size": len(data.x)},
    )
    if kind == "pairs":
        grid = grid_of(model)
        expected = replace(expected, form=on_a_grid(softmax, grid), tolerance=1.01 * grid[0])
    assert_calibrated(expected, tmp_path)


@pytest.mark.parametrize("quant_format", FORMATS)
def test_columns_that_were_quantised_apart_are_refused_in_a_sentence(
    quant_format: str, floats: Callable[[str], bytes], tmp_path: Path
) -> None:
    """Of [1 − p, p] each column was rounded by itself, so that they need not add up to 1."""
    model = quantised(floats("[1 - p, p] concatenated"), pictures().x, tmp_path, quant_format=FORMATS[quant_format])
    (tmp_path / "model.onnx").write_bytes(model)
    with pytest.raises(
        onnxcal.ModelError, match=r"ends in \w*Concat.*not understood|ends in DequantizeLinear"
    ) as caught:
        onnxcal.calibrate(tmp_path / "model.onnx", (pictures().x, pictures().y % 2))
    assert caught.value.hint
