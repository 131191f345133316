"""Classifiers as they are found in the wild, and the truth about each: `FORMS`. One function a form or family."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.builders import classifier, softmax
from tests.corpus.form import (
    IR_OF_OPSET,
    OPSETS,
    Form,
    build,
    ints,
    node,
    squeeze,
    unsqueeze,
    value,
    weights,
)

FORMS: list[Form] = []
ACTIVATIONS = {"softmax": "Softmax", "log_softmax": "LogSoftmax", "sigmoid": "Sigmoid", "none": None}

Builder = Callable[[], onnx.ModelProto]


def form(**truth: Any) -> Callable[[Builder], Builder]:
    """Add the model that a function makes to `FORMS`, under the function's name."""

    def add(function: Builder) -> Builder:
        FORMS.append(Form(function.__name__.replace("_", " "), function(), **truth))
        return function

    return add


def family(function: Callable[[], Iterator[Form]]) -> None:
    """Add the forms that a function yields."""
    FORMS.extend(function())


# Endings, at every opset, IR version and float type


def dense_layer(activation: str, *, classes: int = 4, **kwargs: Any) -> onnx.ModelProto:
    """A linear classifier with one activation."""
    op = ACTIVATIONS[activation]
    if op is None:
        return classifier(classes=classes, **kwargs)
    return classifier([node(op, "logits", "probs")], output="probs", classes=classes, **kwargs)


def ending(name: str, activation: str, *, dtype: str = "float32", classes: int = 4, **kwargs: Any) -> Form:
    if dtype == "float16":  # larger logits are rounded by more than 1e-3, or not, as onnxruntime likes
        kwargs["scale"] = 0.3
    task = "multiclass" if activation in ("softmax", "log_softmax") else "multilabel"
    if activation == "none":
        task = "multiclass"
    if classes == 1:
        task = "binary"
    return Form(
        name,
        dense_layer(activation, dtype=dtype, classes=classes, **kwargs),
        output="logits" if activation == "none" else "probs",
        task=task,
        activation=activation,
        classes=2 if task == "binary" else classes,
        dtype=dtype,
    )


@family
def every_opset() -> Iterator[Form]:
    for opset in OPSETS:
        for activation in ACTIVATIONS:
            yield ending(f"{activation} at opset {opset}", activation, opset=opset, ir_version=IR_OF_OPSET[opset])


@family
def every_ir_version() -> Iterator[Form]:
    for ir_version in range(3, 14):
        for activation in ("softmax", "none")[ir_version % 2 :]:
            yield ending(f"{activation} in IR {ir_version}", activation, opset=11, ir_version=ir_version)


@family
def every_float_type() -> Iterator[Form]:
    for dtype in ("float16", "float64"):
        for opset in (7, 13):
            for activation in ACTIVATIONS:
                yield ending(
                    f"{activation} of {dtype} at opset {opset}",
                    activation,
                    dtype=dtype,
                    opset=opset,
                    ir_version=IR_OF_OPSET[opset],
                )


@family
def one_logit() -> Iterator[Form]:
    for dtype in ("float16", "float32", "float64"):
        for opset in (7, 17):
            for activation in ("sigmoid", "none"):
                yield ending(
                    f"one {dtype} logit, {activation}, opset {opset}",
                    activation,
                    classes=1,
                    dtype=dtype,
                    opset=opset,
                    ir_version=IR_OF_OPSET[opset],
                )


@family
def fixed_and_unknown_sizes() -> Iterator[Form]:
    yield Form("batch of three", classifier([softmax()], output="probs", batch=3), samples=7)
    yield Form("batch of one", classifier([softmax()], output="probs", batch=1), samples=4)
    yield Form("no declared output shape", classifier([softmax()], output="probs", output_shape=None))
    yield Form("dimensions without names", classifier([softmax()], output="probs", output_shape=(None, None)))
    wrong = classifier([softmax()], output="probs", output_shape=("N", 4))
    for dim in (
        wrong.graph.output[0].type.tensor_type.shape.dim[0],
        wrong.graph.input[0].type.tensor_type.shape.dim[0],
    ):
        dim.dim_value = -1
    yield Form("a dimension of −1", wrong)


# Binary and multilabel


@family
def vector_of_scores() -> Iterator[Form]:
    for opset in (11, 13):
        for last in ("Sigmoid", None):
            squeezed, axes = squeeze("column", "logits", 1, opset)
            nodes = [node("MatMul", "x w", "column"), squeezed]
            output = "logits"
            if last is not None:
                nodes.append(node(last, "logits", "probs"))
                output = "probs"
            yield Form(
                f"scores of shape (N,), {last or 'logits'}, opset {opset}",
                build(nodes, [value("x", ["N", 6])], [value(output, ["N"])], {"w": weights(6, 1)} | axes, opset=opset),
                output=output,
                task="binary",
                activation="sigmoid" if last else "none",
                axis=0,
                classes=2,
            )


@form(task="binary", activation="sigmoid", classes=2, after=lambda p: p.reshape(-1))
def sigmoid_then_squeeze() -> onnx.ModelProto:
    squeezed, axes = squeeze("p", "probs", 1, 17)
    nodes = [node("MatMul", "x w", "logits"), node("Sigmoid", "logits", "p"), squeezed]
    return build(nodes, [value("x", ["N", 6])], [value("probs", ["N"])], {"w": weights(6, 1)} | axes)


@form(task="multilabel", activation="none", options={"task": "multilabel"}, output="logits")
def logits_said_to_be_multilabel() -> onnx.ModelProto:
    return classifier()


@form(task="binary", activation="sigmoid", classes=2)
def dense_binary() -> onnx.ModelProto:
    nodes = [node("Conv", "x w", "logits"), node("Sigmoid", "logits", "probs")]
    return build(
        nodes, [value("x", ["N", 3, 4, 5])], [value("probs", ["N", 1, 4, 5])], {"w": weights(1, 3, 1, 1)}, opset=11
    )


@form(task="binary", activation="none", classes=2, output="logits")
def dense_binary_logits() -> onnx.ModelProto:
    nodes = [node("Conv", "x w", "logits")]
    return build(nodes, [value("x", ["N", 3, 4, 5])], [value("logits", ["N", 1, 4, 5])], {"w": weights(1, 3, 1, 1)})


@form(task="multilabel", activation="sigmoid")
def dense_multilabel() -> onnx.ModelProto:
    nodes = [node("Conv", "x w", "logits"), node("Sigmoid", "logits", "probs")]
    return build(nodes, [value("x", ["N", 3, 4, 5])], [value("probs", ["N", 4, 4, 5])], {"w": weights(4, 3, 1, 1)})


@form(task="binary", activation="sigmoid", classes=2, options={"task": "binary"})
def sigmoid_over_unknown_columns_said_to_be_binary() -> onnx.ModelProto:
    nodes = [node("Sigmoid", "logits", "probs")]
    return build(nodes, [value("logits", ["N", "K"])], [value("probs", ["N", "K"])])


# Nodes behind the activation that move or cast values


def behind(
    nodes: list[onnx.NodeProto],
    shape: list[int | str | None],
    constants: dict[str, np.ndarray] | None = None,
    *,
    activation: str = "Softmax",
    opset: int = 17,
    dtype: str = "float32",
    classes: int = 4,
) -> onnx.ModelProto:
    """x → MatMul → activation → `p` → nodes → `probs`."""
    body = [node("MatMul", "x w", "logits"), node(activation, "logits", "p"), *nodes]
    all_constants = {"w": weights(6, classes)} | (constants or {})
    return build(body, [value("x", ["N", 6])], [value("probs", shape, dtype)], all_constants, opset=opset)


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


# Class axis first, in the middle, last


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


# Several outputs, and other readers


def two_outputs(nodes: list[onnx.NodeProto], *outputs: onnx.ValueInfoProto, **kwargs: Any) -> onnx.ModelProto:
    body = [node("MatMul", "x w", "logits"), *nodes]
    constants = {"w": weights(6, 4)} | kwargs.pop("constants", {})
    return build(body, [value("x", ["N", 6])], list(outputs), constants, **kwargs)


@form()
def logits_are_an_output_too() -> onnx.ModelProto:
    return two_outputs([softmax()], value("logits", ["N", 4]), value("probs", ["N", 4]))


@form(output="logits", activation="none", options={"head": "logits"})
def raw_output_beside_its_softmax_chosen() -> onnx.ModelProto:
    return two_outputs([softmax()], value("logits", ["N", 4]), value("probs", ["N", 4]))


@form()
def arg_max_reads_the_logits() -> onnx.ModelProto:
    nodes = [softmax(), node("ArgMax", "logits", "label", axis=1), node("ReduceMax", "logits", "best")]
    return two_outputs(nodes, value("label", ["N", 1], "int64"), value("probs", ["N", 4]), value("best", [1, 1]))


@form(moved=frozenset({"best"}))
def others_read_the_probabilities() -> onnx.ModelProto:
    nodes = [softmax(), node("ArgMax", "probs", "label", axis=1), node("ReduceMax", "probs", "best", axes=[1])]
    return two_outputs(nodes, value("probs", ["N", 4]), value("best", ["N", 1]), value("label", ["N", 1], "int64"))


@form(output="logits", activation="none")
def others_read_the_output_logits() -> onnx.ModelProto:
    """They keep reading raw logits under their new name."""
    nodes = [node("ArgMax", "logits", "label", axis=1), node("Exp", "logits", "odds")]
    return two_outputs(nodes, value("logits", ["N", 4]), value("label", ["N", 1], "int64"), value("odds", ["N", 4]))


@form()
def box_regressor_beside_a_classifier() -> onnx.ModelProto:
    nodes = [node("MatMul", "x v", "boxes"), softmax()]
    constants = {"v": weights(6, 8, seed=1)}
    return two_outputs(nodes, value("boxes", ["N", 8]), value("probs", ["N", 4]), constants=constants)


@form(options={"head": "probs"})
def two_classifiers_one_chosen() -> onnx.ModelProto:
    nodes = [node("MatMul", "x v", "z"), softmax("z", "other"), softmax()]
    constants = {"v": weights(6, 3, seed=1)}
    return two_outputs(nodes, value("other", ["N", 3]), value("probs", ["N", 4]), constants=constants)


@form(options={"head": "probs"})
def softmax_and_log_softmax_of_the_same_logits() -> onnx.ModelProto:
    nodes = [node("LogSoftmax", "logits", "logs"), softmax()]
    return two_outputs(nodes, value("logs", ["N", 4]), value("probs", ["N", 4]))


@form(moved=frozenset({"copy"}))
def activation_feeds_two_outputs() -> onnx.ModelProto:
    return two_outputs(
        [softmax(), node("Identity", "probs", "copy")], value("probs", ["N", 4]), value("copy", ["N", 4])
    )


@form(moved=frozenset({"p"}), after=lambda p: p.T)
def activation_is_an_output_and_so_is_its_transpose() -> onnx.ModelProto:
    nodes = [softmax(target="p"), node("Transpose", "p", "probs")]
    return two_outputs(nodes, value("probs", [4, "N"]), value("p", ["N", 4]))


@form(moved=frozenset({"p"}), after=lambda p: p.T, dtype="float16")
def half_activation_is_an_output_and_so_is_its_transpose() -> onnx.ModelProto:
    nodes = [node("MatMul", "x w", "logits"), softmax(target="p"), node("Transpose", "p", "probs")]
    outputs = [value("probs", [4, "N"], "float16"), value("p", ["N", 4], "float16")]
    return build(nodes, [value("x", ["N", 6], "float16")], outputs, {"w": weights(6, 4, dtype="float16")})


def branch(source: str, op: str, target: str, dtype: str = "float32") -> onnx.GraphProto:
    """A subgraph that reads a tensor of the graph around it."""
    return helper.make_graph([node(op, source, target)], target, [], [value(target, None, dtype)])


def conditional(source: str, target: str) -> list[onnx.NodeProto]:
    """A node with two branches that read `source`, one of them two levels down."""
    inner = node(
        "If",
        "yes",
        f"{target}_i",
        then_branch=branch(source, "Abs", f"{target}_a"),
        else_branch=branch(source, "Neg", f"{target}_b"),
    )
    deep = helper.make_graph([inner], "deep", [], [value(f"{target}_i", None)])
    return [node("If", "yes", target, then_branch=deep, else_branch=branch(source, "Neg", f"{target}_c"))]


@form(output="logits", activation="none")
def subgraphs_read_the_output_logits() -> onnx.ModelProto:
    return two_outputs(
        conditional("logits", "scores"),
        value("logits", ["N", 4]),
        value("scores", None),
        constants={"yes": np.array(True)},
    )


@form(moved=frozenset({"scores"}))
def subgraphs_read_the_probabilities() -> onnx.ModelProto:
    nodes = [softmax(), *conditional("probs", "scores")]
    return two_outputs(nodes, value("probs", ["N", 4]), value("scores", None), constants={"yes": np.array(True)})


@form()
def subgraphs_read_the_logits() -> onnx.ModelProto:
    nodes = [*conditional("logits", "scores"), softmax()]
    return two_outputs(nodes, value("scores", None), value("probs", ["N", 4]), constants={"yes": np.array(True)})


@form(output="logits", activation="none")
def loop_body_reads_the_output_logits() -> onnx.ModelProto:
    body = helper.make_graph(
        [node("Identity", "go", "go_on"), node("Add", "total logits", "sum")],
        "body",
        [value("i", [], "int64"), value("go", [], "bool"), value("total", None)],
        [value("go_on", [], "bool"), value("sum", None)],
    )
    nodes = [node("Loop", ["times", "", "zero"], "sums", body=body)]
    constants = {"times": np.array(2), "zero": np.zeros((1, 4), np.float32)}
    return two_outputs(nodes, value("logits", ["N", 4]), value("sums", None), constants=constants)


# The logits are an input, or are made in odd places


@form()
def input_is_the_logits() -> onnx.ModelProto:
    return build([softmax()], [value("logits", ["N", 4])], [value("probs", ["N", 4])], opset=13)


@form(classes=None)
def class_count_unknown() -> onnx.ModelProto:
    return build([softmax()], [value("logits", ["N", "K"])], [value("probs", ["N", "K"])], opset=13)


@form(classes=None)
def rank_unknown() -> onnx.ModelProto:
    nodes = [node("Squeeze", "x", "logits"), softmax(axis=1)]
    return build(nodes, [value("x", ["N", 1, 4])], [value("probs", None)], opset=13)


@form(classes=None, options={"axis": 1})
def rank_unknown_and_axis_from_the_back() -> onnx.ModelProto:
    nodes = [node("Squeeze", "x", "logits"), softmax()]
    return build(nodes, [value("x", ["N", 1, 4])], [value("probs", None)], opset=13)


@form(classes=None, output="logits", activation="none", options={"axis": 1, "task": "multiclass"})
def raw_logits_of_unknown_rank() -> onnx.ModelProto:
    nodes = [node("MatMul", "x w", "a"), node("Squeeze", "a", "logits")]
    return build(nodes, [value("x", ["N", 1, 6])], [value("logits", None)], {"w": weights(6, 4)}, opset=13)


@form(output="y", logits="z", dtype="float32")
def domain_is_spelled_out() -> onnx.ModelProto:
    made = build(
        [node("MatMul", "x w", "z", domain="ai.onnx"), node("Softmax", "z", "y", domain="ai.onnx")],
        [value("x", ["N", 6])],
        [value("y", ["N", 4])],
        {"w": weights(6, 4)},
    )
    made.opset_import[0].domain = "ai.onnx"
    return made


@form()
def many_operator_sets() -> onnx.ModelProto:
    made = classifier([softmax()], output="probs")
    for domain in ("ai.onnx.ml", "com.microsoft", "nobody.uses.this"):
        made.opset_import.append(helper.make_opsetid(domain, 1))
    return made


@form()
def local_function() -> onnx.ModelProto:
    made = classifier(
        [node("Double", "logits", "twice", domain="mine"), softmax("twice", "probs")],
        output="probs",
        opset=17,
        ir_version=8,
    )
    made.functions.append(
        helper.make_function("mine", "Double", ["a"], ["b"], [node("Add", "a a", "b")], [helper.make_opsetid("", 17)])
    )
    made.opset_import.append(helper.make_opsetid("mine", 1))
    return made


FORMS[-1] = Form(FORMS[-1].name, FORMS[-1].model, logits="twice")


@form(output="logits:0", logits="fc/MatMul:0", activation="softmax")
def names_with_colons_and_slashes() -> onnx.ModelProto:
    nodes = [
        node("MatMul", ["serving/x:0", "w"], ["fc/MatMul:0"], name="fc/MatMul"),
        node("Softmax", ["fc/MatMul:0"], ["logits:0"], name="fc/Softmax"),
    ]
    return build(nodes, [value("serving/x:0", ["N", 6])], [value("logits:0", ["N", 4])], {"w": weights(6, 4)})


@form(output='{"probs": "✓"}', logits='λογιτς \\ " 😀')
def names_with_json_and_unicode() -> onnx.ModelProto:
    z, p = 'λογιτς \\ " 😀', '{"probs": "✓"}'
    nodes = [node("MatMul", ["x", "w"], [z]), node("Softmax", [z], [p])]
    return build(nodes, [value("x", ["N", 6])], [value(p, ["N", 4])], {"w": weights(6, 4)})


@form(output="onnxcal_temperature", logits="onnxcal_div")
def names_that_a_patch_would_like_to_use() -> onnx.ModelProto:
    nodes = [
        node("MatMul", "x onnxcal_div_calibrated", "onnxcal_div", name="onnxcal_softmax"),
        node("Softmax", "onnxcal_div", "onnxcal_temperature", name="onnxcal_div"),
    ]
    constants = {"onnxcal_div_calibrated": weights(6, 4)}
    return build(nodes, [value("x", ["N", 6])], [value("onnxcal_temperature", ["N", 4])], constants)


@form(moved=frozenset())
def head_in_the_middle_of_the_graph() -> onnx.ModelProto:
    nodes = [softmax(), node("MatMul", "x v", "a"), node("Relu", "a", "b"), node("MatMul", "b u", "boxes")]
    constants = {"v": weights(6, 5, seed=2), "u": weights(5, 8, seed=3)}
    return two_outputs(nodes, value("probs", ["N", 4]), value("boxes", ["N", 8]), constants=constants)


@form()
def two_inputs() -> onnx.ModelProto:
    nodes = [node("MatMul", "x w", "a"), node("MatMul", "x2 v", "b"), node("Add", "a b", "logits"), softmax()]
    constants = {"w": weights(6, 4), "v": weights(3, 4, seed=1)}
    return build(nodes, [value("x", ["N", 6]), value("x2", ["N", 3])], [value("probs", ["N", 4])], constants)


@form(dtype="float64")
def float64_product_without_bias() -> onnx.ModelProto:
    """onnxruntime fuses a product and a division by one number, and keeps 1/T in float32 where it does."""
    nodes = [node("MatMul", "x w", "logits"), softmax()]
    constants = {"w": weights(6, 4, dtype="float64")}
    return build(nodes, [value("x", ["N", 6], "float64")], [value("probs", ["N", 4], "float64")], constants)


@form()
def softmax_of_a_constant_batch() -> onnx.ModelProto:
    nodes = [softmax("logits", "probs"), node("Identity", "x", "y")]
    return build(
        nodes, [value("x", ["N", 6])], [value("probs", [7, 4]), value("y", ["N", 6])], {"logits": weights(7, 4)}
    )


@form(output="logits", activation="none", options={"head": "logits"})
def loop_body_has_a_tensor_of_the_same_name() -> onnx.ModelProto:
    """Inside, `logits` is the loop's own; it has nothing to do with the output outside."""
    body = helper.make_graph(
        [node("Identity", "go", "go_on"), node("Add", "logits logits", "sum")],
        "body",
        [value("i", [], "int64"), value("go", [], "bool"), value("logits", None)],
        [value("go_on", [], "bool"), value("sum", None)],
    )
    nodes = [node("Loop", ["times", "", "one"], "sums", body=body)]
    constants = {"times": np.array(2), "one": np.ones((1, 4), np.float32)}
    return two_outputs(nodes, value("logits", ["N", 4]), value("sums", None), constants=constants)


# What a rewriting tool would lose, or trip over


@form()
def everything_that_others_lose() -> onnx.ModelProto:
    made = classifier([softmax()], output="probs", opset=17, ir_version=10)
    made.producer_name, made.producer_version, made.domain = "trainer", "1.2.3+cafe", "org.example"
    made.model_version, made.doc_string = 42, "a model\nwith a story"
    helper.set_model_props(made, {"author": "Ωmega", "labels": '["cat", "dog"]', "empty": ""})
    graph = made.graph
    graph.doc_string = "the graph"
    graph.metadata_props.add(key="split", value="train")
    graph.node[0].doc_string = "fully connected"
    graph.node[0].metadata_props.add(key="layer", value="7")
    graph.initializer[0].doc_string = "weights"
    graph.input[0].doc_string = "pixels"
    graph.output[0].doc_string = "what comes out"
    graph.output[0].metadata_props.add(key="classes", value="4")
    annotation = graph.quantization_annotation.add(tensor_name="logits")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="w")
    graph.value_info.append(value("logits", ["N", 4]))
    return made


@form(output="logits", activation="none")
def everything_that_others_lose_around_raw_logits() -> onnx.ModelProto:
    made = everything_that_others_lose()
    del made.graph.node[1], made.graph.value_info[:]
    made.graph.output[0].name = "logits"
    return made


@form()
def training_info() -> onnx.ModelProto:
    made = classifier([softmax()], output="probs", ir_version=10)
    info = made.training_info.add()
    info.algorithm.CopyFrom(helper.make_graph([node("Identity", "w", "w_new")], "step", [], [value("w_new", [6, 4])]))
    info.update_binding.add(key="w", value="w_new")
    return made


@form()
def sparse_initializer() -> onnx.ModelProto:
    made = classifier([node("Add", "logits s", "z"), softmax("z", "probs")], output="probs", ir_version=8)
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("s", TensorProto.FLOAT, [2], [0.5, -0.25]),
        helper.make_tensor("", TensorProto.INT64, [2], [0, 2]),
        [4],
    )
    made.graph.sparse_initializer.append(sparse)
    return made


FORMS[-1] = Form(FORMS[-1].name, FORMS[-1].model, logits="z")


@form()
def duplicate_metadata_keys() -> onnx.ModelProto:
    made = classifier([softmax()], output="probs")
    made.metadata_props.add(key="author", value="one")
    made.metadata_props.add(key="author", value="two")
    return made


@form()
def nodes_out_of_order() -> onnx.ModelProto:
    made = classifier([softmax()], output="probs")
    first = onnx.NodeProto.FromString(made.graph.node[0].SerializeToString())
    del made.graph.node[0]
    made.graph.node.append(first)
    return made


@form(output="logits", activation="none")
def raw_logits_listed_before_what_they_are_made_of() -> onnx.ModelProto:
    made = classifier([node("Relu", "a", "logits")])
    made.graph.node[0].output[0] = "a"
    first = onnx.NodeProto.FromString(made.graph.node[0].SerializeToString())
    del made.graph.node[0]
    made.graph.node.append(first)
    return made


@form()
def output_listed_twice() -> onnx.ModelProto:
    made = classifier([softmax()], output="probs")
    made.graph.output.append(made.graph.output[0])
    return made


@form(output="logits", activation="none")
def raw_output_listed_twice() -> onnx.ModelProto:
    made = classifier()
    made.graph.output.append(made.graph.output[0])
    return made


@form(output="logits", activation="none")
def output_declared_in_value_info_too() -> onnx.ModelProto:
    made = classifier()
    made.graph.value_info.append(value("logits", ["N", 4]))
    return made


@form()
def an_output_that_is_an_input() -> onnx.ModelProto:
    return classifier([softmax()], output="probs", more_outputs=[value("x", ["N", 6])])


@form()
def nodes_without_names() -> onnx.ModelProto:
    made = classifier([softmax()], output="probs")
    made.graph.node[0].name = ""
    return made


@form()
def large_weights() -> onnx.ModelProto:
    """Beyond what the skeleton keeps."""
    return classifier([softmax()], output="probs", features=3000, scale=0.05)


@form(dtype="float32", samples=5)
def constants_in_nodes() -> onnx.ModelProto:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3000, 4], weights(3000, 4, scale=0.05).tobytes(), raw=True)
    nodes = [node("Constant", [], "w", value=weight), node("MatMul", "x w", "logits"), softmax()]
    return build(nodes, [value("x", ["N", 3000])], [value("probs", ["N", 4])])


@form(dtype="float32")
def weights_as_numbers_instead_of_bytes() -> onnx.ModelProto:
    made = classifier([softmax()], output="probs", features=2000, scale=0.05)
    numbers = weights(2000, 4, scale=0.05).reshape(-1)
    made.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.FLOAT, [2000, 4], numbers))
    return made
