"""Softmax, log-softmax and sigmoid spelled out in smaller operators, in every order that exporters write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from tests.corpus.form import Form, Shape, build, ints, node, squeeze, unsqueeze, value, weights
from tests.corpus.forms.register import classes_at, family, form

Constants = dict[str, np.ndarray]


@dataclass(frozen=True)
class Pieces:
    """How a softmax is spelled out."""

    opset: int = 17
    axis: int = 1
    """Of the classes, as it is written in the reductions."""
    shift: bool = True
    """Whether the maximum is subtracted."""
    back: str | None = None
    """How a reduction that drops its axis gets it back: Unsqueeze, Reshape; None keeps it."""
    divide: str = "Div"
    """Div; or Mul by the Reciprocal, on either side."""
    guard: str | None = None
    """What keeps the maximum finite, or the sum off zero."""
    dtype: str = "float32"

    def nodes(self, source: str = "logits", target: str = "probs") -> tuple[list[onnx.NodeProto], Constants]:
        """source → ReduceMax, Sub, Exp, ReduceSum, Div → target."""
        nodes, constants, shifted = self.exponent(source)
        nodes.append(node("Exp", shifted, "e"))
        more, more_constants, total = self.sum("e")
        nodes += more
        constants |= more_constants
        if self.divide == "Div":
            nodes.append(node("Div", ["e", total], target))
        else:
            nodes.append(node("Reciprocal", total, "inverse"))
            factors = ["e", "inverse"] if self.divide == "Mul" else ["inverse", "e"]
            nodes.append(node("Mul", factors, target))
        return nodes, constants

    def exponent(self, source: str) -> tuple[list[onnx.NodeProto], Constants, str]:
        """What goes into the Exp, and its name."""
        if not self.shift:
            return [], {}, source
        nodes, constants, most = self.reduce("ReduceMax", source, "most", axes_input=self.opset >= 18)
        if self.guard == "Max of the maximum":
            constants["lowest"] = np.array(-1e4, self.dtype)
            nodes.append(node("Max", [most, "lowest"], "most_kept"))
            most = "most_kept"
        return [*nodes, node("Sub", [source, most], "shifted")], constants, "shifted"

    def sum(self, source: str) -> tuple[list[onnx.NodeProto], Constants, str]:
        """The sum over classes, and its name."""
        op = "ReduceL1" if self.guard == "ReduceL1" else "ReduceSum"
        nodes, constants, total = self.reduce(
            op, source, "total", axes_input=self.opset >= (18 if op == "ReduceL1" else 13)
        )
        if self.guard == "Add to the sum":
            constants["tiny"] = np.array([{"float16": 1e-7, "float64": 1e-18}.get(self.dtype, 1e-12)], self.dtype)
            nodes.append(node("Add", [total, "tiny"], "total_kept"))
            total = "total_kept"
        if self.guard == "Expand":
            nodes += [node("Shape", source, "whole"), node("Expand", [total, "whole"], "total_wide")]
            total = "total_wide"
        return nodes, constants, total

    def reduce(
        self, op: str, source: str, target: str, *, axes_input: bool
    ) -> tuple[list[onnx.NodeProto], Constants, str]:
        """A reduction over the classes, with its axes where the opset wants them; and its name."""
        keep: dict[str, Any] = {} if self.back is None else {"keepdims": 0}
        constants: Constants = {}
        if axes_input:
            constants[f"{target}_axes"] = ints(self.axis)
            nodes = [node(op, [source, f"{target}_axes"], target, **keep)]
        else:
            nodes = [node(op, source, target, axes=[self.axis], **keep)]
        if self.back is None:
            return nodes, constants, target
        if self.back == "Unsqueeze":
            made, axes = unsqueeze(target, f"{target}_back", self.axis, self.opset)
            return [*nodes, made], constants | axes, f"{target}_back"
        constants["column"] = ints(-1, 1)
        return [*nodes, node("Reshape", [target, "column"], f"{target}_back")], constants, f"{target}_back"


def softmax_form(name: str, pieces: Pieces, **truth: Any) -> Form:
    """A linear layer over two axes, with its softmax in pieces."""
    nodes, constants = pieces.nodes()
    scale = 0.3 if pieces.dtype == "float16" else 1.5
    made = build(
        [node("MatMul", "x w", "logits"), *nodes],
        [value("x", ["N", 6], pieces.dtype)],
        [value("probs", ["N", 4], pieces.dtype)],
        {"w": weights(6, 4, dtype=pieces.dtype, scale=scale)} | constants,
        opset=pieces.opset,
    )
    return Form(name, made, dtype=pieces.dtype, **truth)


@family
def softmax_in_pieces() -> Iterator[Form]:
    """Axes as attributes or inputs, the axis dropped or kept, Div or Mul by the Reciprocal."""
    for opset in (7, 11, 12, 13, 17, 18, 21):
        for shift in (True, False):
            for axis in (1, -1) if opset in (11, 13, 18) else (1,):
                how = "less its maximum" if shift else "as it is"
                yield softmax_form(
                    f"softmax in pieces, {how}, axis {axis}, opset {opset}",
                    Pieces(opset=opset, shift=shift, axis=axis),
                )
    for opset in (9, 13, 18):
        for back in ("Unsqueeze", "Reshape"):
            for divide in ("Div", "Mul", "Mul the other way round"):
                yield softmax_form(
                    f"softmax in pieces, {back}, {divide}, opset {opset}",
                    Pieces(opset=opset, back=back, divide=divide),
                )
    for guard in ("Add to the sum", "Max of the maximum", "ReduceL1", "Expand"):
        for opset in (11, 18):
            for divide in ("Div", "Mul"):
                yield softmax_form(
                    f"softmax in pieces, {guard}, {divide}, opset {opset}",
                    Pieces(opset=opset, guard=guard, divide=divide),
                )
    for dtype in ("float16", "float64"):
        for opset in (11, 13, 18):
            for shift in (True, False):
                how = "less its maximum" if shift else "as it is"
                yield softmax_form(
                    f"softmax in pieces of {dtype}, {how}, opset {opset}",
                    Pieces(opset=opset, dtype=dtype, shift=shift),
                )


LAYOUTS: dict[str, tuple[int, int]] = {"first": (0, 2), "second": (1, 4), "in the middle": (1, 3), "last": (2, 3)}
"""Class axis and number of axes."""


@family
def softmax_in_pieces_over_other_axes() -> Iterator[Form]:
    for where, (axis, rank) in LAYOUTS.items():
        for opset in (11, 13, 18):
            for written in (axis - rank,) if opset == 13 else (axis,):
                made, x, shape, constants = classes_at(axis, rank, "logits")
                nodes, more = Pieces(opset=opset, axis=written).nodes()
                yield Form(
                    f"softmax in pieces, classes {where} of {rank}, axis {written}, opset {opset}",
                    build([*made, *nodes], [x], [value("probs", shape)], constants | more, opset=opset),
                    axis=axis,
                )


@family
def moved_softmax_in_pieces() -> Iterator[Form]:
    """As torch writes Softmax below opset 13: the classes to the end, and back."""
    for opset in (11, 17):
        made, x, _, constants = classes_at(1, 4, "a")
        nodes, more = Pieces(opset=opset, axis=3).nodes(target="p")
        yield Form(
            f"transposed softmax in pieces, opset {opset}",
            build(
                [
                    *made,
                    node("Transpose", "a", "logits", perm=[0, 2, 3, 1]),
                    *nodes,
                    node("Transpose", "p", "probs", perm=[0, 3, 1, 2]),
                ],
                [x],
                [value("probs", ["N", 4, 3, 5])],
                constants | more,
                opset=opset,
            ),
            axis=3,
            after=lambda p: p.transpose(0, 3, 1, 2),
        )


@family
def softmax_in_pieces_then_moved() -> Iterator[Form]:
    endings: dict[str, tuple[onnx.NodeProto, list[int | str], str]] = {
        "Identity": (node("Identity", "p", "probs"), ["N", 4], "float32"),
        "Transpose": (node("Transpose", "p", "probs"), [4, "N"], "float32"),
        "Reshape": (node("Reshape", "p s", "probs"), ["N", 2, 2], "float32"),
        "Cast": (node("Cast", "p", "probs", to=TensorProto.DOUBLE), ["N", 4], "float64"),
        "Dropout": (node("Dropout", "p", "probs"), ["N", 4], "float32"),
        "Clip": (node("Clip", "p lo hi", "probs"), ["N", 4], "float32"),
    }
    after = {
        "Transpose": lambda p: p.T,
        "Reshape": lambda p: p.reshape(-1, 2, 2),
        "Clip": lambda p: p.clip(0.01, 0.9),
    }
    constants = {"w": weights(6, 4), "s": ints(-1, 2, 2), "lo": np.float32(0.01), "hi": np.float32(0.9)}
    for op, (last, shape, dtype) in endings.items():
        nodes, more = Pieces().nodes(target="p")
        used = {name: array for name, array in constants.items() if name == "w" or name in last.input}
        body = [node("MatMul", "x w", "logits"), *nodes, last]
        made = build(body, [value("x", ["N", 6])], [value("probs", shape, dtype)], used | more)
        yield Form(f"softmax in pieces, then {op}", made, after=after.get(op, lambda p: p))


# Logarithms


def log_softmax_nodes(how: str, pieces: Pieces, target: str = "logs") -> tuple[list[onnx.NodeProto], Constants]:
    """logits → target."""
    if how == "z - ReduceLogSumExp(z)":
        nodes, constants, total = pieces.reduce("ReduceLogSumExp", "logits", "lse", axes_input=pieces.opset >= 18)
        return [*nodes, node("Sub", ["logits", total], target)], constants
    nodes, constants, shifted = pieces.exponent("logits")
    more, more_constants, total = pieces.sum("e")
    nodes += [node("Exp", shifted, "e"), *more, node("Log", total, "log_total")]
    constants |= more_constants
    if how == "D - Log(Sum(Exp(D)))":
        return [*nodes, node("Sub", [shifted, "log_total"], target)], constants
    assert how == "z - (Log(Sum(Exp(D))) + m)"
    return [*nodes, node("Add", "log_total most", "lse"), node("Sub", "logits lse", target)], constants


def log_form(
    name: str, last: Sequence[onnx.NodeProto], nodes: Sequence[onnx.NodeProto], constants: Constants, **truth: Any
) -> Form:
    opset, dtype = truth.pop("opset", 17), truth.get("dtype", "float32")
    scale = 0.3 if dtype == "float16" else 1.5
    made = build(
        [node("MatMul", "x w", "logits"), *nodes, *last],
        [value("x", ["N", 6], dtype)],
        [value("probs", ["N", 4], dtype)],
        {"w": weights(6, 4, dtype=dtype, scale=scale)} | constants,
        opset=opset,
    )
    return Form(name, made, **truth)


@family
def log_softmax_in_pieces() -> Iterator[Form]:
    for how, shift, back in (
        ("D - Log(Sum(Exp(D)))", True, None),
        ("D - Log(Sum(Exp(D)))", True, "Unsqueeze"),
        ("D - Log(Sum(Exp(D)))", False, None),
        ("z - ReduceLogSumExp(z)", False, None),
        ("z - ReduceLogSumExp(z)", False, "Unsqueeze"),
        ("z - ReduceLogSumExp(z)", False, "Reshape"),
    ):
        for opset in (11, 18):
            for last, activation in (("Identity", "log_softmax"), ("Exp", "softmax")):
                nodes, constants = log_softmax_nodes(how, Pieces(opset=opset, shift=shift, back=back))
                yield log_form(
                    f"{last} of {how}, {'shifted' if shift else 'as it is'}, {back}, opset {opset}",
                    [node(last, "logs", "probs")],
                    nodes,
                    constants,
                    opset=opset,
                    activation=activation,
                )


@family
def log_softmax_in_pieces_of_other_types() -> Iterator[Form]:
    for dtype in ("float16", "float64"):
        for how, shift in (("D - Log(Sum(Exp(D)))", True), ("z - ReduceLogSumExp(z)", False)):
            if dtype == "float16" and not shift:
                continue  # onnxruntime has no ReduceLogSumExp for it
            for last, activation in (("Identity", "log_softmax"), ("Exp", "softmax")):
                nodes, constants = log_softmax_nodes(how, Pieces(shift=shift, dtype=dtype))
                yield log_form(
                    f"{last} of {how} of {dtype}",
                    [node(last, "logs", "probs")],
                    nodes,
                    constants,
                    dtype=dtype,
                    activation=activation,
                )


@family
def exponentials_and_logarithms() -> Iterator[Form]:
    """Exp of LogSoftmax, Log of Softmax, at every way that Softmax was defined, and with moves between the two."""
    for first, last, activation in (("LogSoftmax", "Exp", "softmax"), ("Softmax", "Log", "log_softmax")):
        for opset in (7, 11, 13, 21):
            for dtype in ("float32", "float16", "float64"):
                if dtype == "float16" and opset != 13:
                    continue
                yield log_form(
                    f"{last} of {first} of {dtype}, opset {opset}",
                    [node(last, "inner", "probs")],
                    [node(first, "logits", "inner")],
                    {},
                    opset=opset,
                    dtype=dtype,
                    activation=activation,
                )
        nodes = [node(first, "logits", "a"), node("Identity", "a", "b"), node("Reshape", "b s", "inner")]
        made = build(
            [node("MatMul", "x w", "logits"), *nodes, node(last, "inner", "c"), node("Transpose", "c", "probs")],
            [value("x", ["N", 6])],
            [value("probs", [2, 2, "N"])],
            {"w": weights(6, 4), "s": ints(-1, 2, 2)},
        )
        yield Form(
            f"{last} of {first} with moves between and behind",
            made,
            activation=activation,
            after=lambda p: p.reshape(-1, 2, 2).transpose(2, 1, 0),
        )
        made = build(
            [
                node("MatMul", "x w", "logits"),
                node(first, "logits", "a"),
                node("Transpose", "a", "b"),
                node(last, "b", "probs"),
            ],
            [value("x", ["N", 6])],
            [value("probs", [4, "N"])],
            {"w": weights(6, 4)},
        )
        yield Form(f"{last} of the transpose of {first}", made, activation=activation, after=lambda p: p.T)


@family
def exponentials_and_logarithms_over_other_axes() -> Iterator[Form]:
    for where, (axis, rank) in LAYOUTS.items():
        for first, last, activation in (("LogSoftmax", "Exp", "softmax"), ("Softmax", "Log", "log_softmax")):
            made, x, shape, constants = classes_at(axis, rank, "logits")
            nodes = [*made, node(first, "logits", "a", axis=axis - rank), node(last, "a", "probs")]
            yield Form(
                f"{last} of {first}, classes {where} of {rank}",
                build(nodes, [x], [value("probs", shape)], constants),
                axis=axis,
                activation=activation,
            )


@form(activation="log_softmax")
def log_of_softmax_in_pieces() -> onnx.ModelProto:
    nodes, constants = Pieces().nodes(target="p")
    body = [node("MatMul", "x w", "logits"), *nodes, node("Log", "p", "probs")]
    return build(body, [value("x", ["N", 6])], [value("probs", ["N", 4])], {"w": weights(6, 4)} | constants)


@form(activation="softmax", over=(1, 2), classes=6)
def exp_of_flattening_log_softmax() -> onnx.ModelProto:
    nodes = [node("Mul", "x w", "logits"), node("LogSoftmax", "logits", "a"), node("Exp", "a", "probs")]
    return build(nodes, [value("x", ["N", 2, 3])], [value("probs", ["N", 2, 3])], {"w": weights(2, 3)}, opset=9)


@form(activation="softmax")
def log_joint_likelihoods_normalised() -> onnx.ModelProto:
    """As naive Bayes is converted: the log-likelihoods of the classes less their logarithm of the sum."""
    nodes = [
        node("MatMul", "x w", "a"),
        node("Add", "a prior", "logits"),
        node("ReduceLogSumExp", "logits", "lse", axes=[1], keepdims=0),
        node("Reshape", "lse column", "lse_back"),
        node("Sub", "logits lse_back", "logs"),
        node("Exp", "logs", "probs"),
    ]
    constants = {"w": weights(6, 4), "prior": weights(4, seed=1), "column": ints(-1, 1)}
    return build(nodes, [value("x", ["N", 6])], [value("probs", ["N", 4])], constants, opset=11)


# Sigmoid


def sigmoid_nodes(
    how: str, source: str = "logits", target: str = "probs", dtype: str = "float32"
) -> tuple[list[onnx.NodeProto], Constants]:
    """1 / (1 + exp(−z))."""
    constants: Constants = {"one": np.ones(1, dtype)}
    nodes = [node("Neg", source, "minus")]
    nodes += [node("Exp", "minus", "e"), node("Add", ["one", "e"] if "one first" in how else ["e", "one"], "total")]
    nodes.append(node("Reciprocal", "total", target) if "Reciprocal" in how else node("Div", "one total", target))
    return nodes, constants


@family
def sigmoid_in_pieces() -> Iterator[Form]:
    for how in ("Div", "Div, one first", "Reciprocal", "Reciprocal, one first"):
        for dtype in ("float32", "float16", "float64"):
            for classes in (1, 4):
                if dtype != "float32" and "first" in how:
                    continue
                if (
                    dtype == "float64" and classes == 1
                ):  # a stated limit: onnxruntime folds T into the MatMul in float32
                    continue
                nodes, constants = sigmoid_nodes(how, dtype=dtype)
                scale = 0.3 if dtype == "float16" else 1.5
                made = build(
                    [node("MatMul", "x w", "logits"), *nodes],
                    [value("x", ["N", 6], dtype)],
                    [value("probs", ["N", classes], dtype)],
                    constants | {"w": weights(6, classes, dtype=dtype, scale=scale)},
                    opset=13,
                )
                yield Form(
                    f"sigmoid in pieces of {classes} {dtype} logits, {how}",
                    made,
                    task="binary" if classes == 1 else "multilabel",
                    activation="sigmoid",
                    classes=2 if classes == 1 else classes,
                    dtype=dtype,
                )


@form(task="binary", activation="sigmoid", classes=2, axis=0)
def sigmoid_in_pieces_of_a_vector() -> onnx.ModelProto:
    squeezed, axes = squeeze("column", "logits", 1, 13)
    nodes, constants = sigmoid_nodes("Div")
    body = [node("MatMul", "x w", "column"), squeezed, *nodes]
    return build(body, [value("x", ["N", 6])], [value("probs", ["N"])], {"w": weights(6, 1)} | axes | constants)


@form(task="multilabel", activation="sigmoid")
def dense_sigmoid_in_pieces() -> onnx.ModelProto:
    made, x, shape, constants = classes_at(1, 4, "logits")
    nodes, more = sigmoid_nodes("Reciprocal")
    return build([*made, *nodes], [x], [value("probs", shape)], constants | more)


# Others read what the pieces make


def with_pieces(
    *more: onnx.NodeProto, outputs: Sequence[onnx.ValueInfoProto], **constants: np.ndarray
) -> onnx.ModelProto:
    nodes, made = Pieces().nodes()
    body = [node("MatMul", "x w", "logits"), *nodes, *more]
    return build(body, [value("x", ["N", 6])], list(outputs), {"w": weights(6, 4)} | made)


PROBS: Shape = ["N", 4]


@form()
def labels_beside_pieces() -> onnx.ModelProto:
    return with_pieces(
        node("ArgMax", "probs", "label", axis=1),
        node("ArgMax", "logits", "raw_label", axis=1),
        outputs=[value("label", ["N", 1], "int64"), value("probs", PROBS), value("raw_label", ["N", 1], "int64")],
    )


@form()
def logits_beside_pieces() -> onnx.ModelProto:
    return with_pieces(outputs=[value("logits", PROBS), value("probs", PROBS)])


@form(moved=frozenset({"sure"}))
def confidence_beside_pieces() -> onnx.ModelProto:
    return with_pieces(
        node("ReduceMax", "probs", "sure", axes=[1]), outputs=[value("probs", PROBS), value("sure", ["N", 1])]
    )


@form(logits="shifted")
def maximum_is_an_output_too() -> onnx.ModelProto:
    """The largest logit, which the pieces subtract, is also given out: so what is divided is the difference."""
    return with_pieces(outputs=[value("probs", PROBS), value("most", ["N", 1])])


@form(logits="shifted")
def maximum_has_another_reader() -> onnx.ModelProto:
    return with_pieces(node("Relu", "most", "best"), outputs=[value("best", ["N", 1]), value("probs", PROBS)])


@form(activation="log_softmax", options={"head": "probs"}, moved=frozenset({"other"}))
def softmax_and_log_softmax_share_their_pieces() -> onnx.ModelProto:
    """One sum, two outputs: log-probabilities are D − log t, probabilities exp(D) / t."""
    nodes, constants = Pieces().nodes(target="other")
    body = [node("MatMul", "x w", "logits"), *nodes, node("Log", "total", "log_total")]
    body.append(node("Sub", "shifted log_total", "probs"))
    outputs = [value("other", PROBS), value("probs", PROBS)]
    return build(body, [value("x", ["N", 6])], outputs, {"w": weights(6, 4)} | constants)
