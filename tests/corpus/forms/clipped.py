"""Relu, Clip, Dropout in eval and arithmetic that changes nothing, before the activation and behind it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from tests.corpus.form import Form, build, node, value, weights
from tests.corpus.forms.pieces import Pieces
from tests.corpus.forms.register import ACTIVATIONS, Builder, behind, family, form

Nodes = list[onnx.NodeProto]
Constants = dict[str, np.ndarray]
KINDS = ("Relu", "Clip", "Clip from below", "Clip from above", "Dropout")


def clip(
    kind: str, source: str, target: str, *, opset: int, low: float, high: float, dtype: str = "float32"
) -> tuple[Nodes, Constants]:
    """A node of a kind, with its bounds where the opset wants them."""
    if kind in ("Relu", "Dropout"):
        return [node(kind, source, target)], {}
    bounds = {"min": low, "max": high}
    if kind == "Clip from below":
        del bounds["max"]
    elif kind == "Clip from above":
        del bounds["min"]
    if opset < 11:
        return [node("Clip", source, target, **bounds)], {}
    names = [name if name in bounds else "" for name in ("min", "max")]
    made = node("Clip", [source, *(f"{target}_{n}" if n else "" for n in names)], target)
    while made.input[-1] == "":
        del made.input[-1]
    return [made], {f"{target}_{name}": np.array(bound, dtype) for name, bound in bounds.items()}


@family
def rectified_logits() -> Iterator[Form]:
    """What reads the logits reads them clipped: dividing before or after is not the same for Clip."""
    for kind in KINDS:
        for opset in (7, 11, 12, 21):
            for activation in ("softmax", "sigmoid"):
                if activation == "sigmoid" and opset not in (7, 21):
                    continue
                nodes, constants = clip(kind, "a", "logits", opset=opset, low=-0.5, high=1.5)
                body = [node("MatMul", "x w", "a"), *nodes, node(ACTIVATIONS[activation] or "", "logits", "probs")]
                yield Form(
                    f"{activation} of {kind}, opset {opset}",
                    build(
                        body,
                        [value("x", ["N", 6])],
                        [value("probs", ["N", 4])],
                        {"w": weights(6, 4)} | constants,
                        opset=opset,
                    ),
                    task="multiclass" if activation == "softmax" else "multilabel",
                    activation=activation,
                )


@family
def rectified_logits_in_pieces() -> Iterator[Form]:
    for kind in KINDS:
        nodes, constants = clip(kind, "a", "logits", opset=17, low=-0.5, high=1.5)
        pieces, more = Pieces().nodes()
        yield Form(
            f"softmax in pieces of {kind}",
            build(
                [node("MatMul", "x w", "a"), *nodes, *pieces],
                [value("x", ["N", 6])],
                [value("probs", ["N", 4])],
                {"w": weights(6, 4)} | constants | more,
            ),
        )


@family
def clipped_probabilities() -> Iterator[Form]:
    for kind in KINDS:
        low = 0.0 if kind == "Clip from above" else 0.05
        high = np.inf if kind == "Clip from below" else 0.9
        for opset in (7, 11, 13, 21):
            nodes, constants = clip(kind, "p", "probs", opset=opset, low=0.05, high=0.9)
            yield Form(
                f"{kind} behind the softmax, opset {opset}",
                behind(nodes, ["N", 4], constants, opset=opset),
                after=(lambda p, low=low, high=high: p.clip(low, high)) if "Clip" in kind else lambda p: p,
            )
        nodes, constants = clip(kind, "p", "probs", opset=17, low=0.05, high=0.9)
        yield Form(
            f"{kind} behind the sigmoid",
            behind(nodes, ["N", 1], constants, activation="Sigmoid", classes=1),
            task="binary",
            activation="sigmoid",
            classes=2,
            after=(lambda p, low=low, high=high: p.clip(low, high)) if "Clip" in kind else lambda p: p,
        )


@form(activation="log_softmax", after=lambda logs: logs.clip(-3.0))
def clipped_log_probabilities() -> onnx.ModelProto:
    nodes, constants = clip("Clip from below", "p", "probs", opset=17, low=-3.0, high=0)
    return behind(nodes, ["N", 4], constants, activation="LogSoftmax")


@form()
def dropout_that_is_told_not_to_train() -> onnx.ModelProto:
    constants = {"ratio": np.float32(0.5), "training": np.array(False)}
    return behind([node("Dropout", "p ratio training", "probs")], ["N", 4], constants)


@form()
def dropout_before_and_behind() -> onnx.ModelProto:
    nodes = [node("MatMul", "x w", "a"), node("Dropout", "a", "logits"), node("Softmax", "logits", "p")]
    nodes.append(node("Dropout", ["p"], ["probs", "mask"]))
    return build(nodes, [value("x", ["N", 6])], [value("probs", ["N", 4])], {"w": weights(6, 4)}, opset=13)


@form(after=lambda p: p.clip(0.1, 0.8).T)
def clipped_twice_and_moved() -> onnx.ModelProto:
    nodes = [
        node("Clip", "p low", "a"),
        node("Relu", "a", "b"),
        node("Transpose", "b", "c"),
        node("Clip", ["c", "", "high"], "probs"),
    ]
    return behind(nodes, [4, "N"], {"low": np.float32(0.1), "high": np.float32(0.8)})


def neutral(op: str, inputs: str, number: float, shape: tuple[int, ...]) -> Builder:
    """An operation that changes nothing, as some converters write to give an output its name."""
    return lambda: behind([node(op, inputs, "probs")], ["N", 4], {"c": np.full(shape, number, np.float32)})


@family
def arithmetic_that_changes_nothing() -> Iterator[Form]:
    for op, number in (("Mul", 1.0), ("Div", 1.0), ("Add", 0.0), ("Sub", 0.0)):
        for shape in ((), (1,), (4,)):
            yield Form(f"{op} by {number:g} of shape {shape}", neutral(op, "p c", number, shape)())
    for op, number in (("Mul", 1.0), ("Add", 0.0)):
        yield Form(f"{number:g} {op}, the constant first", neutral(op, "c p", number, ())())
