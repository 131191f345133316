"""Outputs that hold probabilities whose logits cannot be reached, as the graph or the user says."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from tests.corpus.form import Form, build, ints, node, value, weights
from tests.corpus.forms.ml import (
    logs_of,
)
from tests.corpus.forms.register import behind, family, form


@form(z=logs_of("probs"), logits="probs")
def sigmoids_divided_by_their_sum() -> onnx.ModelProto:
    nodes = [
        node("Sigmoid", "logits", "p"),
        node("ReduceSum", "p axes", "total"),
        node("Div", "p total", "probs"),
    ]
    body = [node("MatMul", "x w", "logits"), *nodes]
    return build(body, [value("x", ["N", 6])], [value("probs", ["N", 4])], {"w": weights(6, 4), "axes": ints(1)})


@family
def said_to_be_probabilities() -> Iterator[Form]:
    """Nothing in the graph tells, so the user has to."""
    w = {"w": weights(6, 4), "v": weights(6, 4, seed=2), "half": np.full(1, 0.5, np.float32)}
    mean = [
        node("MatMul", "x w", "a"),
        node("MatMul", "x v", "b"),
        node("Softmax", "a", "p"),
        node("Softmax", "b", "q"),
        node("Add", "p q", "sum"),
        node("Mul", "sum half", "probs"),
    ]
    for dtype in ("float32", "float64", "float16"):
        constants = {
            name: (array * (0.2 if dtype == "float16" and name != "half" else 1)).astype(dtype)
            for name, array in w.items()
        }
        yield Form(
            f"mean of two softmaxes of {dtype}",
            build(mean, [value("x", ["N", 6], dtype)], [value("probs", ["N", 4], dtype)], constants),
            logits="probs",
            z=logs_of("probs"),
            dtype=dtype,
            options={"activation": "softmax"},
        )
    yield Form(
        "mean of two softmaxes, opset 8",
        build(mean, [value("x", ["N", 6])], [value("probs", ["N", 4])], w, opset=8),
        logits="probs",
        z=logs_of("probs"),
        options={"activation": "softmax"},
    )
    sigmoids = [*mean[:2], node("Sigmoid", "a", "p"), node("Sigmoid", "b", "q"), *mean[-2:]]
    for classes, task in ((1, "binary"), (4, "multilabel")):
        constants = {"w": weights(6, classes), "v": weights(6, classes, seed=2), "half": w["half"]}
        yield Form(
            f"mean of two sigmoids of {classes} logits",
            build(sigmoids, [value("x", ["N", 6])], [value("probs", ["N", classes])], constants),
            logits="probs",
            z=lambda tap: np.log(tap("probs").astype(np.float64)) - np.log1p(-tap("probs").astype(np.float64)),
            rounding=1e-5,
            task=task,
            activation="sigmoid",
            classes=2 if classes == 1 else classes,
            options={"activation": "sigmoid"},
        )
    yield Form(
        "probabilities that are scaled afterwards",
        behind(
            [node("Mul", "p hundredth", "a"), node("Mul", "a hundred", "probs")],
            ["N", 4],
            {"hundred": np.float32(100), "hundredth": np.float32(0.01)},
        ),
        logits="probs",
        z=logs_of("probs"),
        options={"activation": "softmax"},
    )
