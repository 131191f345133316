"""Binary heads with two columns: [1 − p, p] over a sigmoid, [σ(−s), σ(s)], and margins [−s, s]."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from tests.corpus.form import Form, build, ints, node, squeeze, unsqueeze, value, weights
from tests.corpus.forms.pieces import sigmoid_nodes
from tests.corpus.forms.register import behind, classes_at, family, form

Nodes = list[onnx.NodeProto]
Constants = dict[str, np.ndarray]


@dataclass(frozen=True)
class Layout:
    """Where one logit a sample is, and how two of its kind are joined."""

    shape: list[int | str]
    axis: int
    """The class axis of the logits."""
    join: int
    """The axis of the Concat."""
    lift: str | None = None
    """What makes a column of a vector first: Unsqueeze or Reshape."""

    def logits(self, opset: int, dtype: str, target: str = "logits") -> tuple[Nodes, onnx.ValueInfoProto, Constants]:
        """The nodes that make them, their input, their constants."""
        scale = 0.3 if dtype == "float16" else 1.5
        w = {"w": weights(6, 1, dtype=dtype, scale=scale)}
        if len(self.shape) == 4:
            made, x, _, constants = classes_at(1, 4, target, dtype=dtype, classes=1)
            return made, x, constants
        x = value("x", ["N", 6], dtype)
        if len(self.shape) == 2:
            return [node("MatMul", "x w", "a"), node("Add", "a b", target)], x, w | {"b": weights(1, dtype=dtype)}
        squeezed, axes = squeeze("a", target, 1, opset)
        return [node("MatMul", "x w", "a"), squeezed], x, w | axes

    def joined(self, names: list[str], target: str, opset: int) -> tuple[Nodes, Constants]:
        """Concat of them."""
        nodes, constants = [], {}
        if self.lift is not None:
            lifted = []
            for name in names:
                if self.lift == "Unsqueeze":
                    made, axes = unsqueeze(name, f"{name}_column", 1, opset)
                else:
                    made, axes = node("Reshape", [name, "as_column"], f"{name}_column"), {"as_column": ints(-1, 1)}
                nodes.append(made)
                constants |= axes
                lifted.append(f"{name}_column")
            names = lifted
        return [*nodes, node("Concat", names, target, axis=self.join)], constants

    @property
    def both(self) -> list[int | str]:
        """The shape with two columns."""
        if len(self.shape) == 1:
            return ["N", 2]
        return [2 if axis == self.axis else size for axis, size in enumerate(self.shape)]

    def pair(self, *, reverse: bool = False) -> Callable[[np.ndarray], np.ndarray]:
        """p becomes [1 − p, p]."""

        def after(p: np.ndarray) -> np.ndarray:
            p = p.reshape(-1, 1) if p.ndim == 1 else p
            return np.concatenate([p, 1 - p] if reverse else [1 - p, p], axis=1)

        return after


COLUMN = Layout(["N", 1], 1, 1)
LAYOUTS = {
    "(N, 1)": COLUMN,
    "(N, 1), joined at the back": Layout(["N", 1], 1, -1),
    "(N,), Unsqueeze": Layout(["N"], 0, 1, "Unsqueeze"),
    "(N,), Reshape": Layout(["N"], 0, -1, "Reshape"),
    "(N, 1, H, W)": Layout(["N", 1, 3, 5], 1, 1),
}


def complement(how: str, p: str, target: str, dtype: str) -> tuple[Nodes, Constants]:
    """1 − p."""
    one = {"unit": np.ones((), dtype)}
    if how == "1 - p":
        return [node("Sub", ["unit", p], target)], one
    negative = node("Neg", p, "minus_p")
    return [negative, node("Add", "unit minus_p" if how == "1 + -p" else "minus_p unit", target)], one


def two_columns(
    name: str, layout: Layout, *, how: str = "1 - p", sigmoid: str = "Sigmoid", reverse: bool, opset: int, dtype: str
) -> Form:
    made, x, constants = layout.logits(opset, dtype)
    if sigmoid == "Sigmoid":
        inner: tuple[Nodes, Constants] = [node("Sigmoid", "logits", "p")], {}
    else:
        inner = sigmoid_nodes(sigmoid, "logits", "p", dtype)
    less, unit = complement(how, "p", "q", dtype)
    join, axes = layout.joined(["p", "q"] if reverse else ["q", "p"], "probs", opset)
    return Form(
        name,
        build(
            [*made, *inner[0], *less, *join],
            [x],
            [value("probs", layout.both, dtype)],
            constants | inner[1] | unit | axes,
            opset=opset,
        ),
        task="binary",
        activation="sigmoid",
        axis=layout.axis,
        classes=2,
        dtype=dtype,
        after=layout.pair(reverse=reverse),
    )


@family
def p_and_its_complement() -> Iterator[Form]:
    for where, layout in LAYOUTS.items():
        for reverse in (False, True):
            for opset in (13,) if reverse else (9, 13, 21):
                order = "[p, 1 - p]" if reverse else "[1 - p, p]"
                yield two_columns(
                    f"{order} of {where}, opset {opset}", layout, reverse=reverse, opset=opset, dtype="float32"
                )
    for how in ("1 + -p", "-p + 1"):
        for reverse in (False, True):
            for where in ("(N, 1)", "(N,), Unsqueeze"):
                yield two_columns(
                    f"[{how}, p] of {where}, reverse {reverse}",
                    LAYOUTS[where],
                    how=how,
                    reverse=reverse,
                    opset=13,
                    dtype="float32",
                )
    for sigmoid in ("Div", "Reciprocal, one first"):
        for where, layout in LAYOUTS.items():
            yield two_columns(
                f"[1 - p, p] of {where} of a sigmoid in pieces, {sigmoid}",
                layout,
                sigmoid=sigmoid,
                reverse=False,
                opset=13,
                dtype="float32",
            )
    for dtype in ("float16", "float64"):
        for where in ("(N, 1)", "(N,), Unsqueeze", "(N, 1, H, W)"):
            for sigmoid in ("Sigmoid", "Div"):
                if sigmoid == "Div" and where == "(N, 1, H, W)":
                    continue
                yield two_columns(
                    f"[1 - p, p] of {where} of {dtype}, {sigmoid}",
                    LAYOUTS[where],
                    sigmoid=sigmoid,
                    reverse=False,
                    opset=13,
                    dtype=dtype,
                )


PAIR = COLUMN.pair()


@form(task="binary", activation="sigmoid", classes=2, after=PAIR)
def p_squeezed_and_stacked() -> onnx.ModelProto:
    """torch.stack([1 - p, p], 1) of a p that was squeezed before."""
    squeezed, axes = squeeze("column", "p", 1, 13)
    first, first_axes = unsqueeze("q", "a", 1, 13)
    second, second_axes = unsqueeze("p", "b", 1, 13)
    nodes = [node("Sigmoid", "logits", "column"), squeezed, node("Sub", "one p", "q"), first, second]
    body = [node("MatMul", "x w", "logits"), *nodes, node("Concat", "a b", "probs", axis=1)]
    constants = {"w": weights(6, 1), "one": np.ones((), np.float32)} | axes | first_axes | second_axes
    return build(body, [value("x", ["N", 6])], [value("probs", ["N", 2])], constants)


@form(task="binary", activation="sigmoid", classes=2, after=lambda p: PAIR(p).T)
def two_columns_transposed() -> onnx.ModelProto:
    nodes = [node("Sub", "one p", "q"), node("Concat", "q p", "both", axis=1), node("Transpose", "both", "probs")]
    constants = {"one": np.ones((1, 1), np.float32)}
    return behind(nodes, [2, "N"], constants, activation="Sigmoid", classes=1)


@form(task="binary", activation="sigmoid", classes=2, after=lambda p: PAIR(p)[:, :, None].astype(np.float64))
def two_columns_cast_and_unsqueezed() -> onnx.ModelProto:
    made, axes = unsqueeze("wide", "probs", 2, 17)
    nodes = [
        node("Sub", "one p", "q"),
        node("Concat", "q p", "both", axis=-1),
        node("Cast", "both", "wide", to=TensorProto.DOUBLE),
        made,
    ]
    constants = {"one": np.ones(1, np.float32)} | axes
    return behind(nodes, ["N", 2, 1], constants, dtype="float64", activation="Sigmoid", classes=1)


@form(task="binary", activation="sigmoid", classes=2, after=lambda p: PAIR(p)[:, 1])
def second_of_two_columns() -> onnx.ModelProto:
    nodes = [
        node("Sub", "one p", "q"),
        node("Concat", "q p", "both", axis=1),
        node("Gather", "both index", "probs", axis=1),
    ]
    constants = {"one": np.ones(1, np.float32), "index": np.array(1)}
    return behind(nodes, ["N"], constants, activation="Sigmoid", classes=1)


@form(task="binary", activation="sigmoid", classes=2, after=PAIR, moved=frozenset({"p"}))
def p_is_an_output_too() -> onnx.ModelProto:
    nodes = [
        node("MatMul", "x w", "logits"),
        node("Sigmoid", "logits", "p"),
        node("Sub", "one p", "q"),
        node("Concat", "q p", "probs", axis=1),
    ]
    constants = {"w": weights(6, 1), "one": np.ones(1, np.float32)}
    return build(nodes, [value("x", ["N", 6])], [value("probs", ["N", 2]), value("p", ["N", 1])], constants)


@form(task="binary", activation="sigmoid", classes=2, after=PAIR)
def label_of_two_columns() -> onnx.ModelProto:
    nodes = [
        node("MatMul", "x w", "logits"),
        node("Sigmoid", "logits", "p"),
        node("Sub", "one p", "q"),
        node("Concat", "q p", "probs", axis=1),
        node("ArgMax", "probs", "label", axis=1, keepdims=0),
        node("Greater", "logits zero", "yes"),
    ]
    constants = {"w": weights(6, 1), "one": np.ones(1, np.float32), "zero": np.zeros(1, np.float32)}
    outputs = [value("label", ["N"], "int64"), value("probs", ["N", 2]), value("yes", ["N", 1], "bool")]
    return build(nodes, [value("x", ["N", 6])], outputs, constants)


# Sigmoids of s and of −s


def negative(how: str, source: str, target: str, dtype: str = "float32") -> tuple[Nodes, Constants]:
    """−s."""
    if how == "Neg":
        return [node("Neg", source, target)], {}
    if how == "Mul":
        return [node("Mul", [source, "minus_one"], target)], {"minus_one": np.array([-1], dtype)}
    return [node("Sub", ["nought", source], target)], {"nought": np.array(0, dtype)}


@family
def sigmoids_of_both_signs() -> Iterator[Form]:
    """Concat(σ(−s), σ(s))."""
    for where, layout in LAYOUTS.items():
        for how in ("Neg", "Mul", "Sub"):
            for reverse in (False, True):
                if how != "Neg" and (reverse or len(layout.shape) == 4):
                    continue
                made, x, constants = layout.logits(13, "float32")
                minus, more = negative(how, "logits", "minus")
                join, axes = layout.joined(["p", "q"] if reverse else ["q", "p"], "probs", 13)
                both = [node("Sigmoid", "minus", "q"), node("Sigmoid", "logits", "p")]
                nodes = [*made, *minus, *both, *join]
                yield Form(
                    f"sigmoids of both signs, {where}, {how}, reverse {reverse}",
                    build(nodes, [x], [value("probs", layout.both)], constants | more | axes, opset=13),
                    task="binary",
                    activation="sigmoid",
                    axis=layout.axis,
                    classes=2,
                    after=layout.pair(reverse=reverse),
                )


def second_column(name: str) -> Callable[..., np.ndarray]:
    return lambda tap: tap(name)[:, 1:]


@family
def sigmoid_of_margins() -> Iterator[Form]:
    """σ(Concat(−s, s)): two columns, one logit; both are fed where s is joined in another shape than it is made in."""
    for where, layout in LAYOUTS.items():
        for dtype in ("float32", "float16", "float64"):
            made, x, constants = layout.logits(13, dtype, "s")
            minus, more = negative("Neg", "s", "minus", dtype)
            join, axes = layout.joined(["minus", "s"], "margins", 13)
            nodes = [*made, *minus, *join, node("Sigmoid", "margins", "probs")]
            column = "s" if layout.lift is None else "margins"
            yield Form(
                f"sigmoid of margins, {where}, {dtype}",
                build(nodes, [x], [value("probs", layout.both, dtype)], constants | more | axes, opset=13),
                logits=column,
                z=None if column == "s" else second_column(column),
                fed=True,
                task="binary",
                activation="sigmoid",
                axis=1,
                classes=2,
                dtype=dtype,
                after=COLUMN.pair(),
            )


@family
def raw_margins() -> Iterator[Form]:
    """Concat(−s, s) as it is: σ(s) is the probability of the second class, not σ(2s)."""
    for where, layout in LAYOUTS.items():
        for how in ("Neg", "Mul", "Sub"):
            for opset in (9, 13, 21):
                if how != "Neg" and (opset != 13 or layout.join < 0):
                    continue
                made, x, constants = layout.logits(opset, "float32", "s")
                minus, more = negative(how, "s", "minus")
                join, axes = layout.joined(["minus", "s"], "logits", opset)
                yield Form(
                    f"raw margins, {where}, {how}, opset {opset}",
                    build(
                        [*made, *minus, *join],
                        [x],
                        [value("logits", layout.both)],
                        constants | more | axes,
                        opset=opset,
                    ),
                    output="logits",
                    z=second_column("logits"),
                    task="binary",
                    activation="none",
                    axis=1,
                    classes=2,
                    after=COLUMN.pair(),
                )
    for dtype in ("float16", "float64"):
        for opset in (11, 13):
            made, x, constants = COLUMN.logits(opset, dtype, "s")
            join, _ = COLUMN.joined(["minus", "s"], "logits", opset)
            yield Form(
                f"raw margins of {dtype}, opset {opset}",
                build(
                    [*made, node("Neg", "s", "minus"), *join],
                    [x],
                    [value("logits", ["N", 2], dtype)],
                    constants,
                    opset=opset,
                ),
                output="logits",
                z=second_column("logits"),
                task="binary",
                activation="none",
                classes=2,
                dtype=dtype,
                after=COLUMN.pair(),
            )


@form(output="logits", activation="none", task="binary", classes=2, z=second_column("logits"), after=PAIR)
def raw_margins_with_labels_beside() -> onnx.ModelProto:
    made, x, constants = COLUMN.logits(13, "float32", "s")
    nodes = [
        *made,
        node("Neg", "s", "minus"),
        node("Concat", "minus s", "logits", axis=1),
        node("ArgMax", "logits", "label", axis=1, keepdims=0),
        node("Exp", "logits", "odds"),
    ]
    return build(
        nodes, [x], [value("logits", ["N", 2]), value("label", ["N"], "int64"), value("odds", ["N", 2])], constants
    )


@family
def margins_under_other_activations() -> Iterator[Form]:
    """A Softmax of [−s, s] or of [0, s] is what it says: a softmax over two classes."""
    for op, activation in (("Softmax", "softmax"), ("LogSoftmax", "log_softmax")):
        for opset in (11, 13):
            made, x, constants = COLUMN.logits(opset, "float32", "s")
            for name, first in (("-s", node("Neg", "s", "c")), ("0", node("Mul", "s zero", "c"))):
                nodes = [*made, first, node("Concat", "c s", "logits", axis=1), node(op, "logits", "probs")]
                zero = {"zero": np.zeros(1, np.float32)} if name == "0" else {}
                yield Form(
                    f"{op} of [{name}, s], opset {opset}",
                    build(nodes, [x], [value("probs", ["N", 2])], constants | zero, opset=opset),
                    activation=activation,
                    classes=2,
                )


@form(task="multilabel", activation="sigmoid", classes=2, options={"task": "multilabel"})
def sigmoid_of_margins_said_to_be_multilabel() -> onnx.ModelProto:
    made, x, constants = COLUMN.logits(13, "float32", "s")
    nodes = [*made, node("Neg", "s", "minus"), node("Concat", "minus s", "logits", axis=1)]
    return build([*nodes, node("Sigmoid", "logits", "probs")], [x], [value("probs", ["N", 2])], constants)


@form(task="multilabel", activation="sigmoid", classes=2)
def sigmoid_of_two_unrelated_logits() -> onnx.ModelProto:
    nodes = [node("MatMul", "x w", "a"), node("MatMul", "x v", "b"), node("Concat", "a b", "logits", axis=1)]
    constants = {"w": weights(6, 1), "v": weights(6, 1, seed=1)}
    return build(
        [*nodes, node("Sigmoid", "logits", "probs")], [value("x", ["N", 6])], [value("probs", ["N", 2])], constants
    )
