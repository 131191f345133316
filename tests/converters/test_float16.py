"""Networks after a conversion to float16, by onnxconverter-common and by onnxruntime's own copy of it.

The logits are the float16 numbers that the converted model computes; the tail is calibrated in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime.transformers.float16
import pytest
from onnxconverter_common import float16 as common
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

import onnxcal
from tests.converters import Conversion, assert_calibrated, last_node, multiclass, pictures, quiet, tapped
from tests.converters.test_torch import ENDINGS, LABELS, WithTail, export, network

CONVERTERS = {"onnxconverter-common": common, "onnxruntime": onnxruntime.transformers.float16}
IO = {"float inputs and outputs": True, "half inputs and outputs": False}
ACTIVATIONS = ("Softmax", "LogSoftmax", "Sigmoid")


@cache
def float_model(name: str, folder: Path) -> bytes:
    ending = ENDINGS[name]
    return export(WithTail(network(ending.kind), ending.tail).eval(), False, folder)


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """The float model with an ending of test_torch."""
    folder = tmp_path_factory.mktemp("float")
    return lambda name: float_model(name, folder)


def halved(model: bytes, converter: str, keep_io_types: bool, **options: Any) -> bytes:
    with quiet():
        made = CONVERTERS[converter].convert_float_to_float16(
            onnx.ModelProto.FromString(model), keep_io_types=keep_io_types, **options
        )
    return made.SerializeToString()


def logits_of(model: bytes) -> str:
    """The tensor that the activation reads, or that the last matrix product makes."""
    proto = onnx.ModelProto.FromString(model)
    nodes = [node for node in proto.graph.node if node.op_type in ACTIVATIONS]
    return nodes[-1].input[0] if nodes else last_node(model, "Gemm", "Conv").output[0]


@pytest.mark.parametrize("keep_io_types", IO)
@pytest.mark.parametrize("converter", CONVERTERS)
@pytest.mark.parametrize(
    "name",
    [
        "softmax",
        "log_softmax",
        "softmax by hand",
        "sigmoid (N, 1)",
        "sigmoid (N,), squeezed",
        "[1 - p, p] concatenated",
        "sigmoids of three labels",
        "logits",
        "dense",
    ],
)
def test_it_is_calibrated(
    name: str, converter: str, keep_io_types: str, floats: Callable[[str], bytes], tmp_path: Path
) -> None:
    """onnxruntime's converter leaves its Casts at the end of the file: nodes are out of order."""
    ending, data = ENDINGS[name], pictures()
    model = halved(floats(name), converter, IO[keep_io_types])
    x = data.x if IO[keep_io_types] else data.x.astype(np.float16)
    tensor = last_node(model, "ReduceMax").input[0] if "hand" in name else logits_of(model)
    expected = Conversion(
        model,
        x,
        LABELS[ending.kind](data.x, data.y),
        tapped(model, tensor, x).astype(np.float64),
        ending.form,
        ending.task,
        ending.activation,
        raw=ending.raw,
        tolerance=2e-3,
        converter_tolerance=1e-2,
        temperature_tolerance=1e-4,
    )
    assert_calibrated(expected, tmp_path)


@pytest.mark.parametrize("keep_io_types", IO)
@pytest.mark.parametrize("converter", CONVERTERS)
def test_a_softmax_that_was_left_in_float(
    converter: str, keep_io_types: str, floats: Callable[[str], bytes], tmp_path: Path
) -> None:
    data = pictures()
    model = halved(floats("softmax"), converter, IO[keep_io_types], op_block_list=["Softmax"])
    x = data.x if IO[keep_io_types] else data.x.astype(np.float16)
    z = tapped(model, logits_of(model), x).astype(np.float64)
    expected = Conversion(model, x, data.y, z, tolerance=2e-3, converter_tolerance=1e-2, temperature_tolerance=1e-4)
    assert_calibrated(expected, tmp_path)


def test_a_scikit_learn_network(tmp_path: Path) -> None:
    """Its labels are the arg max of float16 probabilities, among which there are ties."""
    data = multiclass()
    with quiet():
        fitted = MLPClassifier((12,), max_iter=80, random_state=0).fit(data.x_train, data.y_train)
        exported = to_onnx(fitted, data.x[:1], options={"zipmap": False})
    model = halved(exported.SerializeToString(), "onnxruntime", True)
    z = tapped(model, logits_of(model), data.x).astype(np.float64)
    expected = Conversion(
        model,
        data.x,
        data.y,
        z,
        outputs=["probabilities"],
        tolerance=2e-3,
        converter_tolerance=1e-2,
        temperature_tolerance=1e-4,
    )
    assert_calibrated(expected, tmp_path)


def test_a_linear_classifier_between_casts(tmp_path: Path) -> None:
    """Operators of ai.onnx.ml have no float16: their scores are float, and cast afterwards."""
    data = multiclass()
    with quiet():
        fitted = LogisticRegression().fit(data.x_train, data.y_train)
        exported = to_onnx(fitted, data.x[:1], options={"zipmap": False})
    model = halved(exported.SerializeToString(), "onnxruntime", True)
    z = fitted.decision_function(data.x.astype(np.float64))
    assert_calibrated(
        Conversion(model, data.x, data.y, z, tolerance=5e-3, converter_tolerance=1e-2, temperature_tolerance=1e-3),
        tmp_path,
    )


@pytest.mark.parametrize("keep_io_types", IO)
def test_a_conversion_that_onnxruntime_does_not_load_is_refused(keep_io_types: str, tmp_path: Path) -> None:
    """onnxconverter-common gives a Cast that makes float an output of float16."""
    data = multiclass()
    with quiet():
        fitted = MLPClassifier((12,), max_iter=80, random_state=0).fit(data.x_train, data.y_train)
        exported = to_onnx(fitted, data.x[:1], options={"zipmap": False})
    path = tmp_path / "model.onnx"
    path.write_bytes(halved(exported.SerializeToString(), "onnxconverter-common", IO[keep_io_types]))
    with pytest.raises(onnxcal.ModelError, match="onnxruntime"):
        onnxcal.calibrate(path, (data.x if IO[keep_io_types] else data.x.astype(np.float16), data.y))
