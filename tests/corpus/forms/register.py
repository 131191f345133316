"""Where forms are registered, and graphs that several of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx

from tests.corpus.form import Form, build, node, value, weights

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


def two_outputs(nodes: list[onnx.NodeProto], *outputs: onnx.ValueInfoProto, **kwargs: Any) -> onnx.ModelProto:
    body = [node("MatMul", "x w", "logits"), *nodes]
    constants = {"w": weights(6, 4)} | kwargs.pop("constants", {})
    return build(body, [value("x", ["N", 6])], list(outputs), constants, **kwargs)


def classes_at(
    axis: int, rank: int, target: str, *, dtype: str = "float32", classes: int = 4
) -> tuple[list[onnx.NodeProto], onnx.ValueInfoProto, list[int | str | None], dict[str, np.ndarray]]:
    """Nodes that make `target` with the classes along an axis; their input, its shape, their constants.

    Rank 2 with classes first is [K, N]; else samples come first.
    """
    scale = 0.3 if dtype == "float16" else 1.5
    w = {"w": weights(6, classes, dtype=dtype, scale=scale)}
    if rank == 2:
        x = value("x", ["N", 6], dtype)
        if axis == 1:
            return [node("MatMul", "x w", target)], x, ["N", classes], w
        return [node("MatMul", "x w", "n_k"), node("Transpose", "n_k", target)], x, [classes, "N"], w
    sizes = [3, 5][: rank - 2]
    order = [0, *range(1, rank - 1)]
    order.insert(axis, rank - 1)
    shape: list[int | str | None] = ["N", *sizes]
    shape.insert(axis, classes)
    nodes = [node("MatMul", "x w", "k_last"), node("Transpose", "k_last", target, perm=order)]
    return nodes, value("x", ["N", *sizes, 6], dtype), shape, w
