"""Softmax, LogSoftmax, Sigmoid or nothing at the end, at every opset, IR version and float type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx

from tests.builders import classifier, softmax
from tests.corpus.form import IR_OF_OPSET, OPSETS, Form, build, node, squeeze, value, weights
from tests.corpus.forms.register import ACTIVATIONS, family, form


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
