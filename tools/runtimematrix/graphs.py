"""The graphs of the matrix: every tail in every precision, patched in every form; opsets and batches take turns.

They are small networks with random weights: what differs between runtimes is how they load and compute a graph, not
how large it is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

OPSETS = {11: 6, 13: 7, 17: 8, 21: 10}
"""And the IR version that is written with each."""
BATCHES = ("any", 1, 4)
"""Samples a run: as many as come, or a fixed number."""
PRECISIONS = {
    "float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE,
    "8 bits": TensorProto.FLOAT
}  # fmt: skip
"""And the element type of inputs and outputs; what has 8 bits is quantised around them."""
FORMS: dict[str, dict[str, bool]] = {"Div": {}, "fold": {"fold": True}, "T as input": {"runtime_temperature": True}}
"""Ways to patch, and the options of `onnxcal.patch`."""
TAILS = {
    "logits": 4, "Softmax": 4, "LogSoftmax": 4, "softmax in pieces": 4, "Sigmoid, one column": 1,
    "Sigmoid, a column a class": 4, "[1-p, p]": 1, "dense Softmax": 4
}  # fmt: skip
"""How graphs end, and the columns of their logits."""
TEMPERATURE = 1.7
SAMPLES = 32
FEATURES, HIDDEN, PICTURE = 6, 16, (3, 5, 7)


@dataclass(frozen=True)
class Graph:
    """One graph of the matrix."""

    tail: str
    """One of `TAILS`."""
    precision: str
    """One of `PRECISIONS`."""
    form: str
    """One of `FORMS`."""
    opset: int
    """One of `OPSETS`."""
    batch: int | str
    """One of `BATCHES`."""

    @property
    def title(self) -> str:
        """All of it in a line."""
        return f"{self.tail}, {self.precision}, {self.form}, opset {self.opset}, batch {self.batch}"

    @property
    def dense(self) -> bool:
        """Whether its logits have a place for each pixel."""
        return self.tail.startswith("dense")

    def data(self) -> np.ndarray[Any, Any]:
        """Inputs, shape (SAMPLES, …)."""
        shape = (SAMPLES, *(PICTURE if self.dense else (FEATURES,)))
        dtype = helper.tensor_dtype_to_np_dtype(PRECISIONS[self.precision])
        return np.random.default_rng(1).normal(size=shape).astype(dtype)

    def model(self) -> onnx.ModelProto:
        """The unpatched model."""
        body = _convolutions(self) if self.dense and self.precision != "float64" else _layers(self)
        tail, output = _tail(self)
        made = _assembled(self, [*body.nodes, *tail], body.weights, output)
        return made if self.precision != "8 bits" else _quantised(made, self, [node.name for node in tail])


def graphs() -> Iterator[Graph]:
    """All of them: each two choices of different kinds meet in at least one."""
    opsets = list(OPSETS)
    for (i, tail), (j, precision), (k, form) in product(enumerate(TAILS), enumerate(PRECISIONS), enumerate(FORMS)):
        yield Graph(tail, precision, form, opsets[(i + j) % len(opsets)], BATCHES[(i + j + k) % len(BATCHES)])


@dataclass(frozen=True)
class _Body:
    nodes: list[NodeProto]
    weights: list[TensorProto]


def _random(name: str, shape: Sequence[int], scale: float, graph: Graph) -> TensorProto:
    drawn = scale * np.random.default_rng(list(name.encode())).normal(size=shape)
    return numpy_helper.from_array(drawn.astype(helper.tensor_dtype_to_np_dtype(PRECISIONS[graph.precision])), name)


def _layers(graph: Graph) -> _Body:
    """Two linear layers; for dense outputs in float64, where onnxruntime has no convolution, one over the channels."""
    classes = TAILS[graph.tail]
    if graph.dense:
        return _Body(
            [
                helper.make_node("Transpose", ["x"], ["pixels"], perm=[0, 2, 3, 1], name="to_last"),
                helper.make_node("MatMul", ["pixels", "w1"], ["scores"], name="layer"),
                helper.make_node("Transpose", ["scores"], ["logits"], perm=[0, 3, 1, 2], name="to_first"),
            ],
            [_random("w1", (PICTURE[0], classes), 1.0, graph)],
        )
    return _Body(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["hidden"], name="layer1"),
            helper.make_node("Relu", ["hidden"], ["rectified"], name="relu"),
            helper.make_node("Gemm", ["rectified", "w2", "b2"], ["logits"], name="layer2"),
        ],
        [
            _random("w1", (FEATURES, HIDDEN), 0.5, graph),
            _random("b1", (HIDDEN,), 0.5, graph),
            _random("w2", (HIDDEN, classes), 0.5, graph),
            _random("b2", (classes,), 0.5, graph),
        ],
    )


def _convolutions(graph: Graph) -> _Body:
    return _Body(
        [
            helper.make_node("Conv", ["x", "w1", "b1"], ["hidden"], pads=[1, 1, 1, 1], name="layer1"),
            helper.make_node("Relu", ["hidden"], ["rectified"], name="relu"),
            helper.make_node("Conv", ["rectified", "w2", "b2"], ["logits"], name="layer2"),
        ],
        [
            _random("w1", (HIDDEN, PICTURE[0], 3, 3), 0.25, graph),
            _random("b1", (HIDDEN,), 0.5, graph),
            _random("w2", (TAILS[graph.tail], HIDDEN, 1, 1), 0.5, graph),
            _random("b2", (TAILS[graph.tail],), 0.5, graph),
        ],
    )


def _tail(graph: Graph) -> tuple[list[NodeProto], str]:
    """What follows the logits, and the name of the output."""
    node = helper.make_node
    match graph.tail:
        case "logits":
            return [], "logits"
        case "Softmax" | "LogSoftmax" as op_type:
            return [node(op_type, ["logits"], ["y"], axis=1, name="activation")], "y"
        case "Sigmoid, one column" | "Sigmoid, a column a class":
            return [node("Sigmoid", ["logits"], ["y"], name="activation")], "y"
        case "[1-p, p]":
            one = helper.make_tensor("one", PRECISIONS[graph.precision], [1], [1.0])
            return [
                node("Sigmoid", ["logits"], ["p"], name="activation"),
                node("Constant", [], ["1"], value=one, name="one"),
                node("Sub", ["1", "p"], ["q"], name="complement"),
                node("Concat", ["q", "p"], ["y"], axis=1, name="both"),
            ], "y"
        case "softmax in pieces":
            return [
                *_reduced("ReduceMax", "logits", "largest", by_input=graph.opset >= 18),
                node("Sub", ["logits", "largest"], ["shifted"], name="shift"),
                node("Exp", ["shifted"], ["powers"], name="exp"),
                *_reduced("ReduceSum", "powers", "total", by_input=graph.opset >= 13),
                node("Div", ["powers", "total"], ["y"], name="normalise"),
            ], "y"
        case "dense Softmax" if graph.opset >= 13:
            return [node("Softmax", ["logits"], ["y"], axis=1, name="activation")], "y"
    return [  # before opset 13, Softmax goes over all axes from its own on
        node("Transpose", ["logits"], ["last"], perm=[0, 2, 3, 1], name="class_axis_last"),
        node("Softmax", ["last"], ["shares"], axis=3, name="activation"),
        node("Transpose", ["shares"], ["y"], perm=[0, 3, 1, 2], name="class_axis_first"),
    ], "y"


def _reduced(op_type: str, source: str, target: str, *, by_input: bool) -> list[NodeProto]:
    """A reduction over the classes, whose axis is an input in newer opsets."""
    if not by_input:
        return [helper.make_node(op_type, [source], [target], axes=[1], keepdims=1, name=target)]
    axes = helper.make_tensor(f"{target}_axes", TensorProto.INT64, [1], [1])
    return [
        helper.make_node("Constant", [], [axes.name], value=axes, name=axes.name),
        helper.make_node(op_type, [source, axes.name], [target], keepdims=1, name=target),
    ]


def _assembled(graph: Graph, nodes: list[NodeProto], weights: list[TensorProto], output: str) -> onnx.ModelProto:
    elem_type = PRECISIONS[graph.precision]
    batch = "N" if graph.batch == "any" else graph.batch
    columns = 2 if graph.tail == "[1-p, p]" else TAILS[graph.tail]
    made = helper.make_model(
        helper.make_graph(
            nodes,
            "classifier",
            [helper.make_tensor_value_info("x", elem_type, [batch, *graph.data().shape[1:]])],
            [helper.make_tensor_value_info(output, elem_type, [batch, columns, *(PICTURE[1:] if graph.dense else ())])],
            weights,
        ),
        opset_imports=[helper.make_opsetid("", graph.opset)],
        ir_version=OPSETS[graph.opset],
    )
    onnx.checker.check_model(made, full_check=True)
    return made


def _quantised(model: onnx.ModelProto, graph: Graph, tail: list[str]) -> onnx.ModelProto:
    """The body in 8 bits by onnxruntime's quantiser, weights and activations in QDQ form; the tail stays in float.

    Weights have 7 bits, as onnxruntime advises for processors without VNNI: there, its kernels and OpenVINO's add two
    products in 16 bits, which saturate, and what was wrong would be the reference.
    """
    size = 1 if graph.batch == "any" else int(graph.batch)

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            data = graph.data()
            self.left = iter([{"x": data[i : i + size]} for i in range(0, SAMPLES, size)])

        def get_next(self) -> dict[str, Any] | None:
            return next(self.left, None)

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises to preprocess, which these graphs do not need
    try:
        with TemporaryDirectory(prefix="onnxcal-") as folder:
            target = Path(folder, "quantised.onnx")
            quantize_static(
                model, target, Reader(), quant_format=QuantFormat.QDQ, reduce_range=True, nodes_to_exclude=tail
            )
            return onnx.ModelProto.FromString(target.read_bytes())
    finally:
        root.setLevel(level)
