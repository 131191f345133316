"""The class axis first, in the middle, last; and Softmax below opset 13, which flattens."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from tests.corpus.form import Form, build, node, value, weights
from tests.corpus.forms.register import ACTIVATIONS, family, form


@form(axis=0, options={})
def classes_first() -> onnx.ModelProto:
    nodes = [node("MatMul", "x w", "a"), node("Transpose", "a", "logits"), node("Softmax", "logits", "probs", axis=0)]
    return build(nodes, [value("x", ["N", 6])], [value("probs", [4, "N"])], {"w": weights(6, 4)}, opset=13)


@form(axis=0, activation="log_softmax", after=lambda p: p.T)
def classes_first_log_softmax_then_transposed() -> onnx.ModelProto:
    nodes = [
        node("MatMul", "x w", "a"),
        node("Transpose", "a", "logits"),
        node("LogSoftmax", "logits", "p", axis=-2),
        node("Transpose", "p", "probs"),
    ]
    return build(nodes, [value("x", ["N", 6])], [value("probs", ["N", 4])], {"w": weights(6, 4)}, opset=17)


@family
def dense_softmax() -> Iterator[Form]:
    for opset in (13, 21):
        for activation in ("softmax", "log_softmax"):
            for axis in (1, -3):
                op = ACTIVATIONS[activation]
                nodes = [node("Conv", "x w", "logits"), node(op, "logits", "probs", axis=axis)]
                made = build(
                    nodes,
                    [value("x", ["N", 3, 4, 5])],
                    [value("probs", ["N", 4, 4, 5])],
                    {"w": weights(4, 3, 1, 1)},
                    opset=opset,
                )
                yield Form(f"dense {activation} over axis {axis}, opset {opset}", made, activation=activation)


@family
def dense_logits() -> Iterator[Form]:
    for opset in (7, 12, 13):
        for shape in (["N", 4, 4, 5], [7, 4, 4, 5], ["N", 4, "H", "W"]):
            nodes = [node("Conv", "x w", "logits")]
            x = value("x", [shape[0], 3, *shape[2:]])
            made = build(nodes, [x], [value("logits", shape)], {"w": weights(4, 3, 1, 1)}, opset=opset)
            yield Form(f"dense logits {shape}, opset {opset}", made, output="logits", activation="none")


@family
def dense_logits_of_other_types() -> Iterator[Form]:
    for dtype in ("float16", "float64"):
        for opset in (11, 13):
            nodes = [node("MatMul", "x w", "a"), node("Transpose", "a", "logits", perm=[0, 3, 1, 2])]
            x, constants = value("x", ["N", 4, 5, 3], dtype), {"w": weights(3, 4, dtype=dtype)}
            made = build(nodes, [x], [value("logits", ["N", 4, 4, 5], dtype)], constants, opset=opset)
            yield Form(
                f"dense {dtype} logits, opset {opset}",
                made,
                output="logits",
                activation="none",
                dtype=dtype,
                options={"axis": 1},
            )


@family
def flattening_softmax() -> Iterator[Form]:
    """Below opset 13 the axes from `axis` on are one."""
    for opset in (7, 12):
        for op, activation in (("Softmax", "softmax"), ("LogSoftmax", "log_softmax")):
            for rank, axis in ((3, None), (3, 1), (3, 2), (4, 1), (4, 2), (4, 3)):
                shape = (2, 3, 4)[: rank - 1]
                nodes = [
                    node("Mul", "x w", "logits"),
                    node(op, "logits", "probs", **({} if axis is None else {"axis": axis})),
                ]
                made = build(
                    nodes,
                    [value("x", ["N", *shape])],
                    [value("probs", ["N", *shape])],
                    {"w": weights(*shape)},
                    opset=opset,
                )
                first = 1 if axis is None else axis
                yield Form(
                    f"{op} of rank {rank} at axis {axis}, opset {opset}",
                    made,
                    activation=activation,
                    axis=first,
                    over=tuple(range(first, rank)),
                    classes=int(np.prod(shape[first - 1 :])),
                )


@form()
def flattening_softmax_over_ones() -> onnx.ModelProto:
    nodes = [
        node("Conv", "x k", "a"),
        node("GlobalAveragePool", "a", "logits"),
        node("Softmax", "logits", "probs", axis=1),
    ]
    constants = {"k": weights(4, 3, 1, 1)}
    return build(nodes, [value("x", ["N", 3, 4, 5])], [value("probs", ["N", 4, 1, 1])], constants, opset=9)


@form(axis=3, after=lambda p: p.transpose(0, 3, 1, 2))
def transpose_softmax_transpose_below_opset_13() -> onnx.ModelProto:
    nodes = [
        node("Conv", "x k", "a"),
        node("Transpose", "a", "logits", perm=[0, 2, 3, 1]),
        node("Softmax", "logits", "p", axis=3),
        node("Transpose", "p", "probs", perm=[0, 3, 1, 2]),
    ]
    constants = {"k": weights(4, 3, 1, 1)}
    return build(nodes, [value("x", ["N", 3, 4, 5])], [value("probs", ["N", 4, 4, 5])], constants, opset=11)


@form(axis=3, activation="none", output="logits")
def channels_last_logits_after_a_convolution() -> onnx.ModelProto:
    """As converters from TensorFlow write a segmentation network: nothing but the Transpose tells the class axis."""
    nodes = [node("Conv", "x k", "a"), node("Transpose", "a", "logits", perm=[0, 2, 3, 1])]
    constants = {"k": weights(4, 3, 1, 1)}
    return build(nodes, [value("x", ["N", 3, 4, 5])], [value("logits", ["N", 4, 5, 4])], constants, opset=13)


@form(axis=2, activation="none", output="logits")
def logits_a_token() -> onnx.ModelProto:
    nodes = [node("MatMul", "x w", "logits")]
    return build(nodes, [value("x", ["N", 3, 6])], [value("logits", ["N", 3, 4])], {"w": weights(6, 4)}, opset=11)


@form(axis=2)
def softmax_a_token() -> onnx.ModelProto:
    nodes = [node("MatMul", "x w", "logits"), node("Softmax", "logits", "probs", axis=2)]
    return build(nodes, [value("x", ["N", 3, 6])], [value("probs", ["N", 3, 4])], {"w": weights(6, 4)}, opset=11)
