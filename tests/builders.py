"""Small graphs in one line: a random linear classifier with whatever stands behind its logits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ELEM_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "float64": TensorProto.DOUBLE,
    "bfloat16": TensorProto.BFLOAT16,
}


def classifier(
    tail: Sequence[onnx.NodeProto] = (),
    *,
    output: str = "logits",
    features: int = 6,
    classes: int = 4,
    opset: int = 17,
    ir_version: int = 8,
    dtype: str = "float32",
    output_dtype: str | None = None,
    output_shape: Sequence[int | str | None] | None = ("N", 4),
    batch: int | str = "N",
    more_outputs: Sequence[onnx.ValueInfoProto] = (),
    initializers: Sequence[onnx.TensorProto] = (),
    scale: float = 3.0,
    seed: int = 0,
) -> onnx.ModelProto:
    """`x` (batch, features) → Gemm → tensor `logits` (batch, classes) → `tail` → `output`.

    Weights are float of the model's dtype, `scale` large, seeded; a model below IR 4 lists them as inputs too.
    """
    rng = np.random.default_rng(seed)
    w = numpy_helper.from_array((scale * rng.normal(size=(features, classes))).astype(dtype), "w")
    b = numpy_helper.from_array(rng.normal(size=classes).astype(dtype), "b")
    elem_type = ELEM_TYPES[dtype]
    inputs = [helper.make_tensor_value_info("x", elem_type, [batch, features])]
    if ir_version < 4:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in (w, b, *initializers)]
    if output_shape == ("N", 4):
        output_shape = (batch, classes)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["logits"], name="fc"), *tail],
        "classifier",
        inputs,
        [helper.make_tensor_value_info(output, ELEM_TYPES[output_dtype or dtype], output_shape), *more_outputs],
        [w, b, *initializers],
    )
    return model(graph, opset=opset, ir_version=ir_version)


def model(graph: onnx.GraphProto, *, opset: int = 17, ir_version: int = 8, **kwargs: object) -> onnx.ModelProto:
    """A model of a graph at an opset and IR version that every onnxruntime of the last years reads."""
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **kwargs)
    made.ir_version = ir_version
    return made


def softmax(source: str = "logits", target: str = "probs", **attributes: int) -> onnx.NodeProto:
    """A Softmax node."""
    return helper.make_node("Softmax", [source], [target], **attributes)


def save(proto: onnx.ModelProto, path: Path) -> Path:
    """Write a model as it is."""
    path.write_bytes(proto.SerializeToString())
    return path


def labelled_data(
    n: int = 200, *, features: int = 6, classes: int = 4, dtype: str = "float32", seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Random inputs, and labels that `classifier()` of the same sizes gets right about as often as not."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, features)).astype(dtype)
    weights = np.random.default_rng(0)
    w, b = 3.0 * weights.normal(size=(features, classes)), weights.normal(size=classes)
    z = (x.astype(np.float64) @ w + b) / 4.0
    noise = rng.gumbel(size=z.shape)
    return x, (z + noise).argmax(axis=1).astype(np.int64)
