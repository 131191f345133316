"""Nodes that move or cast values, behind the activation or behind raw logits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto

from tests.corpus.form import Form, build, ints, node, unsqueeze, value, weights
from tests.corpus.forms.register import behind, family, form


@form()
def identity() -> onnx.ModelProto:
    return behind([node("Identity", "p", "probs")], ["N", 4])


@form(after=lambda p: p.reshape(-1, 2, 2))
def reshape() -> onnx.ModelProto:
    return behind([node("Reshape", "p s", "probs")], ["N", 2, 2], {"s": ints(-1, 2, 2)})


@form(after=lambda p: p.reshape(-1))
def reshape_flat() -> onnx.ModelProto:
    return behind([node("Reshape", "p s", "probs")], ["M"], {"s": ints(-1)}, opset=9)


@form(after=lambda p: p.T)
def transpose() -> onnx.ModelProto:
    return behind([node("Transpose", "p", "probs")], [4, "N"])


@form(after=lambda p: p[None])
def unsqueezed() -> onnx.ModelProto:
    made, axes = unsqueeze("p", "probs", 0, 11)
    return behind([made], [1, "N", 4], axes, opset=11)


@form(after=lambda p: p[:, :, None])
def unsqueezed_behind() -> onnx.ModelProto:
    made, axes = unsqueeze("p", "probs", 2, 13)
    return behind([made], ["N", 4, 1], axes, opset=13)


@form(after=lambda p: p.reshape(1, -1))
def flatten() -> onnx.ModelProto:
    return behind([node("Flatten", "p", "probs", axis=0)], [1, "M"])


@form(after=lambda p: p.astype(np.float64))
def cast_to_float64() -> onnx.ModelProto:
    return behind([node("Cast", "p", "probs", to=TensorProto.DOUBLE)], ["N", 4], dtype="float64")


@form(after=lambda p: p.astype(np.float16))
def cast_to_float16() -> onnx.ModelProto:
    return behind([node("Cast", "p", "probs", to=TensorProto.FLOAT16)], ["N", 4], dtype="float16")


@form(activation="log_softmax", after=lambda p: p.astype(np.float64))
def cast_log_softmax_to_float64() -> onnx.ModelProto:
    nodes = [node("Cast", "p", "probs", to=TensorProto.DOUBLE)]
    return behind(nodes, ["N", 4], dtype="float64", activation="LogSoftmax")


@form(after=lambda p: p.reshape(-1, 2, 2).transpose(2, 0, 1).astype(np.float64)[None])
def several_moves() -> onnx.ModelProto:
    made, axes = unsqueeze("d", "probs", 0, 17)
    nodes = [
        node("Reshape", "p s", "a"),
        node("Identity", "a", "b"),
        node("Transpose", "b", "c", perm=[2, 0, 1]),
        node("Cast", "c", "d", to=TensorProto.DOUBLE),
        made,
    ]
    return behind(nodes, [1, 2, "N", 2], {"s": ints(-1, 2, 2)} | axes, dtype="float64")


@form(after=lambda p: p.T.reshape(2, 2, -1).transpose(2, 1, 0))
def two_transposes() -> onnx.ModelProto:
    nodes = [
        node("Transpose", "p", "a", perm=[1, 0]),
        node("Reshape", "a s", "b"),
        node("Transpose", "b", "probs"),
    ]
    return behind(nodes, ["N", 2, 2], {"s": ints(2, 2, -1)})


@form(dtype="float16", after=lambda p: p.T.astype(np.float32))
def float16_body_with_moves() -> onnx.ModelProto:
    nodes = [
        node("MatMul", "x w", "logits"),
        node("Softmax", "logits", "p", axis=-1),
        node("Transpose", "p", "t"),
        node("Cast", "t", "probs", to=TensorProto.FLOAT),
    ]
    constants = {"w": weights(6, 4, dtype="float16")}
    return build(nodes, [value("x", ["N", 6], "float16")], [value("probs", [4, "N"])], constants)


@form(logits="logits32")
def float16_body_with_float32_softmax() -> onnx.ModelProto:
    nodes = [
        node("MatMul", "x w", "logits"),
        node("Cast", "logits", "logits32", to=TensorProto.FLOAT),
        node("Softmax", "logits32", "p"),
        node("Cast", "p", "probs", to=TensorProto.FLOAT16),
    ]
    constants = {"w": weights(6, 4, dtype="float16")}
    return build(nodes, [value("x", ["N", 6], "float16")], [value("probs", ["N", 4], "float16")], constants)


# Logits behind nodes that move values


@family
def raw_logits_after_moves() -> Iterator[Form]:
    x, w = value("x", ["N", 6]), {"w": weights(6, 4)}
    made = [node("MatMul", "x w", "a"), node("Identity", "a", "logits")]
    yield Form(
        "raw logits out of Identity", build(made, [x], [value("logits", ["N", 4])], w), "logits", activation="none"
    )
    made = [node("MatMul", "x w", "a"), node("Cast", "a", "logits", to=TensorProto.DOUBLE)]
    yield Form(
        "raw logits cast to float64",
        build(made, [x], [value("logits", ["N", 4], "float64")], w),
        "logits",
        activation="none",
        dtype="float64",
    )
    made = [node("Conv", "x k", "a"), node("GlobalAveragePool", "a", "b"), node("Flatten", "b", "logits")]
    image = value("x", ["N", 3, 4, 5])
    kernel = {"k": weights(4, 3, 1, 1)}
    yield Form(
        "pooled and flattened logits",
        build(made, [image], [value("logits", ["N", 4])], kernel),
        "logits",
        activation="none",
    )
    made = [node("MatMul", "x w", "a"), node("Transpose", "a", "logits")]
    yield Form(
        "raw logits with classes first",
        build(made, [x], [value("logits", [4, "N"])], w),
        "logits",
        activation="none",
        axis=0,
        options={"axis": 0},
    )
    for divisor in (node("Constant", [], "t", value_float=2.0), None):
        made = [node("MatMul", "x w", "a"), node("Div", "a t", "logits")]
        if divisor is not None:
            made.insert(0, divisor)
        constants = w if divisor is not None else w | {"t": np.array([2.0], np.float32)}
        yield Form(
            f"raw logits over a constant {'node' if divisor is not None else 'initializer'}",
            build(made, [x], [value("logits", ["N", 4])], constants),
            "logits",
            activation="none",
        )
    made = [node("MatMul", "x w", "a"), node("Identity", "b", "same"), node("Add", "a same", "logits")]
    yield Form(
        "bias through an Identity",
        build(made, [x], [value("logits", ["N", 4])], w | {"b": weights(4)}),
        "logits",
        activation="none",
    )
