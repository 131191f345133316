"""Each runtime that is installed runs patched models of every kind as NumPy computes them in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy.special import expit, log_softmax, softmax

import onnxcal
from onnxcal.inference.runtimes.client import RuntimeFailed, RuntimeProcess
from onnxcal.inference.runtimes.registry import NAMES, find_runtime
from onnxcal.inference.runtimes.runtime import Job, Runtime
from tests import builders

T = 1.7
X = np.random.default_rng(5).normal(size=(6, 6)).astype(np.float32)
WORDS = np.random.default_rng(7).integers(0, 20, (6, 5))
PICTURES = np.random.default_rng(6).normal(size=(3, 3, 5, 7)).astype(np.float32)
KNOWN = {
    "tract": {"float16", "float64"},  # cannot load a Gemm of these
    "mnn": {"float16", "float64", "qdq", "qdq, opset 21"},
    "ncnn": {"float16", "float64", "qdq", "qdq, opset 21", "int64 inputs"},
    "opencv": {"float64", "qdq", "qdq, opset 21"},
    "onnx-reference": {"qdq"},  # no DequantizeLinear below opset 19
    "iree": {"dense, opset 11"},  # a Softmax below opset 13 behind a Transpose
}
"""What a runtime refuses to load; nothing that it runs may be wrong."""
COARSE = {("mnn", "qdq"): 2e-2, ("mnn", "qdq, opset 21"): 2e-2}  # it does not round the inputs to 8 bits


@dataclass(frozen=True)
class Graph:
    """A model, what it is fed, and what its patched form must give."""

    model: Callable[[], onnx.ModelProto]
    x: np.ndarray
    expected: Callable[[np.ndarray], np.ndarray]
    """Of the logits, which onnxruntime's unpatched model has as its output or before its activation."""
    tolerance: float = 1e-5


def act(op_type: str, **attributes: int) -> list[onnx.NodeProto]:
    return [helper.make_node(op_type, ["logits"], ["probs"], name="activation", **attributes)]


def dense(opset: int) -> onnx.ModelProto:
    w = numpy_helper.from_array(np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["logits"], pads=[1, 1, 1, 1], name="conv")],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 5, 7])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4, 5, 7])],
        [w],
    )
    return builders.model(graph, opset=opset, ir_version=8 if opset > 12 else 6)


def qdq(opset: int = 17) -> onnx.ModelProto:
    """The classifier with inputs and weights in 8 bits: x → Q → DQ → MatMul ← DQ ← w."""
    rng = np.random.default_rng(0)
    initializers = [
        numpy_helper.from_array(np.float32(0.03), "sx"),
        numpy_helper.from_array(np.int8(3), "zx"),
        numpy_helper.from_array(np.float32(0.05), "sw"),
        numpy_helper.from_array(np.int8(0), "zw"),
        numpy_helper.from_array(rng.integers(-127, 128, (6, 4)).astype(np.int8), "w"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["xq"], name="q"),
        helper.make_node("DequantizeLinear", ["xq", "sx", "zx"], ["xd"], name="dq"),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], name="dw"),
        helper.make_node("MatMul", ["xd", "wd"], ["logits"], name="fc"),
        *act("Softmax", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "qdq",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])],
        [helper.make_tensor_value_info("probs", TensorProto.FLOAT, ["N", 4])],
        initializers,
    )
    return builders.model(graph, opset=opset, ir_version=8 if opset < 21 else 10)


def with_unnamed_batch() -> onnx.ModelProto:
    model = of(act("Softmax", axis=1))()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].Clear()
    return model


def of_words() -> onnx.ModelProto:
    """Numbers of words to the mean of their rows of a table."""
    rng = np.random.default_rng(0)
    initializers = [
        numpy_helper.from_array(rng.normal(size=(20, 6)).astype(np.float32), "table"),
        numpy_helper.from_array(rng.normal(size=(6, 4)).astype(np.float32), "w"),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["rows"], name="gather"),
        helper.make_node("ReduceMean", ["rows"], ["mean"], axes=[1], keepdims=0, name="mean"),
        helper.make_node("MatMul", ["mean", "w"], ["logits"], name="fc"),
        *act("Softmax", axis=1),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.INT64, ["N", 5])
    probs = helper.make_tensor_value_info("probs", TensorProto.FLOAT, ["N", 4])
    return builders.model(helper.make_graph(nodes, "words", [x], [probs], initializers))


def of(nodes: list[onnx.NodeProto], **options: Any) -> Callable[[], onnx.ModelProto]:
    return lambda: builders.classifier(nodes, output="probs" if nodes else "logits", **options)


GRAPHS = {
    "mlp": Graph(of(act("Softmax", axis=1)), X, lambda z: softmax(z / T, axis=1)),
    "logits": Graph(of([]), X, lambda z: softmax(z / T, axis=1)),
    "binary": Graph(of(act("Sigmoid"), classes=1), X, lambda z: expit(z / T)),
    "multilabel": Graph(of(act("Sigmoid")), X, lambda z: expit(z / T)),
    "log-softmax": Graph(of(act("LogSoftmax", axis=1)), X, lambda z: log_softmax(z / T, axis=1)),
    "float16": Graph(
        of(act("Softmax", axis=1), dtype="float16"), X.astype(np.float16), lambda z: softmax(z / T, axis=1), 3e-3
    ),
    "dense, opset 11": Graph(lambda: dense(11), PICTURES, lambda z: softmax(z / T, axis=1)),
    "dense, opset 17": Graph(lambda: dense(17), PICTURES, lambda z: softmax(z / T, axis=1)),
    "qdq": Graph(qdq, X, lambda z: softmax(z / T, axis=1)),
    "qdq, opset 21": Graph(lambda: qdq(21), X, lambda z: softmax(z / T, axis=1)),
    "float64": Graph(
        of(act("Softmax", axis=1), dtype="float64"), X.astype(np.float64), lambda z: softmax(z / T, axis=1)
    ),
    "unnamed batch": Graph(with_unnamed_batch, X, lambda z: softmax(z / T, axis=1)),
    "int64 inputs": Graph(of_words, WORDS, lambda z: softmax(z / T, axis=1)),
}


def logits_of(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    if "logits" not in {value.name for value in tapped.graph.output}:
        tapped.graph.output.append(onnx.ValueInfoProto(name="logits"))
    session = onnxruntime.InferenceSession(tapped.SerializeToString())
    return np.asarray(session.run(["logits"], {"x": x})[0], np.float64)


@pytest.fixture(scope="module", params=NAMES)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    runtime = find_runtime(request.param)
    if runtime.missing:
        pytest.skip(f"{runtime.name} is not installed: {runtime.install}")
    folder = tmp_path_factory.mktemp(runtime.name)
    with RuntimeProcess(runtime, folder, 300) as process:
        yield runtime, process, folder


@pytest.mark.parametrize("name", GRAPHS)
def test_a_patched_model_is_right(name: str, running: tuple[Runtime, RuntimeProcess, Path]) -> None:
    runtime, process, folder = running
    graph = GRAPHS[name]
    model = graph.model()
    stem = name.replace(", ", "-").replace(" ", "-")
    path = folder / f"{stem}.onnx"
    builders.save(model, folder / "original.onnx")
    onnxcal.patch(folder / "original.onnx", temperature=T, output=path, force=True)
    output = model.graph.output[0].name
    expected = graph.expected(logits_of(model, graph.x))
    size = 1 if runtime.single else len(graph.x)
    for setting in runtime.settings():
        job = Job(path, {"x": (size, *graph.x.shape[1:])}, (output,), setting.name, folder, Path.cwd())
        refused = name in KNOWN.get(runtime.name, set())
        try:
            process.load(stem, job)
            parts = [process.run(stem, {"x": graph.x[i : i + size]})[0] for i in range(0, len(graph.x), size)]
        except RuntimeFailed as error:
            if not refused:
                raise
            pytest.skip(f"{runtime.name} does not load it: {error}")
        found = np.concatenate([np.asarray(part, np.float64).reshape(size, *expected.shape[1:]) for part in parts])
        if setting.counts:
            np.testing.assert_allclose(found, expected, rtol=0, atol=COARSE.get((runtime.name, name), graph.tolerance))
