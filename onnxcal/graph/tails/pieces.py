"""Softmax, log-softmax and sigmoid spelled out in smaller operators, as exporters and function bodies write them.

With D = z or z − m, where m is constant along the class axis: softmax = exp(D) / Σ exp(D); its log is D − log Σ exp(D)
or z − logsumexp(z); σ(z) = 1 / (1 + exp(−z)) = exp(z) / (1 + exp(z)).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from onnx.onnx_ml_pb2 import TensorProto

from onnxcal.graph.head import Activation, Fed, Head, Narrowed, Selected, Transposed
from onnxcal.graph.moves import DEFAULT_DOMAINS, KEEPS_ORDER, is_number, source_of
from onnxcal.graph.tails.axes import float_type, positive_axis
from onnxcal.graph.tails.margins import negated_by
from onnxcal.graph.tails.probabilities import probabilities_head
from onnxcal.graph.tails.registry import Ending, Hints, Unclear, recognise, tail
from onnxcal.graph.tails.sigmoid import sigmoid_head
from onnxcal.graph.view import GraphView

if TYPE_CHECKING:
    import onnx

_TINY = 1e-4


@dataclass(frozen=True)
class _Shifted:
    """z, or z less something that is constant along the class axis."""

    logits: str
    readers: frozenset[int]
    axis: int | None
    """Of what was subtracted; None if nothing was."""


@tail("Div", "Mul")
def quotient(view: GraphView, ending: Ending, hints: Hints) -> Head | None:
    """exp(D) / Σ exp(D), or exp(D) · (1 / Σ exp(D)); or a sigmoid."""
    for numerator, denominator in _quotients(view, ending.node):
        head = _softmax(view, ending, hints, numerator, denominator) or _sigmoid(
            view, ending, hints, numerator, denominator
        )
        if head is not None:
            return head
        axis = _axis_of_sum(view, numerator, denominator)
        if axis and hints.activation in (None, "softmax") and hints.axis in (None, axis):
            return probabilities_head(view, ending, replace(hints, axis=axis), "rows divided by their sum")
    return None


@tail("Reciprocal")
def reciprocal(view: GraphView, ending: Ending, hints: Hints) -> Head | None:
    """1 / (1 + exp(−z))."""
    return _sigmoid(view, ending, hints, None, ending.node.input[0])


@tail("Sub")
def difference(view: GraphView, ending: Ending, hints: Hints) -> Head | None:
    """D − log Σ exp(D), or z − logsumexp(z)."""
    left, right = ending.node.input
    for made in _made_by(view, right, "ReduceLogSumExp"):
        index, node = made
        if node.input[0] == left:
            return _head(view, ending, hints, "log_softmax", left, {ending.index, index}, reduced_axis(view, node))
    for _, log in _made_by(view, right, "Log"):
        total = _total_of_exp(view, log.input[0])
        if total is not None and total[0] == left:
            found = _shifted(view, left, frozenset({ending.index, total[1]}))
            return _head(view, ending, hints, "log_softmax", found.logits, found.readers, total[2], found)
    return None


@tail("Exp")
def exponential(view: GraphView, ending: Ending, hints: Hints) -> Head | None:
    """exp of a log-softmax."""
    inner = recognise(view, ending.output, ending.node.input[0], Hints(hints.task, hints.axis))
    return _composed(inner, ending, "log_softmax", "softmax", "Exp")


@tail("Log")
def logarithm(view: GraphView, ending: Ending, hints: Hints) -> Head | None:
    """log of a softmax."""
    inner = recognise(view, ending.output, ending.node.input[0], Hints(hints.task, hints.axis))
    return _composed(inner, ending, "softmax", "log_softmax", "Log")


def _composed(inner: Head | None, ending: Ending, has: Activation, makes: Activation, op: str) -> Head | None:
    if inner is None or inner.activation != has or not isinstance(inner.site, Fed):
        return None
    if not all(isinstance(step, (Narrowed, Transposed, Selected)) for step in inner.trail):
        return None
    return replace(
        inner,
        activation=makes,
        trail=(*inner.trail, *ending.trail.steps),
        keys=ending.trail.keys,
        evidence=f"{op} of {inner.evidence}",
    )


def _softmax(view: GraphView, ending: Ending, hints: Hints, numerator: str | None, denominator: str) -> Head | None:
    if numerator is None:
        return None
    total = _total_of_exp(view, denominator)
    for index, exp in _made_by(view, numerator, "Exp"):
        if total is None or exp.input[0] != total[0]:
            continue
        found = _shifted(view, exp.input[0], frozenset({index, total[1]}))
        return _head(view, ending, hints, "softmax", found.logits, found.readers, total[2], found)
    return None


def _sigmoid(view: GraphView, ending: Ending, hints: Hints, numerator: str | None, denominator: str) -> Head | None:
    """1 / (1 + exp(−z)), or exp(z) / (1 + exp(z))."""
    for index, exp in _one_plus_exp(view, denominator):
        logits, readers = exp.input[0], {index, *(i for i, _ in _made_by(view, numerator or "", "Exp"))}
        if numerator is None or is_number(view, numerator, 1.0):
            negative = view.producer(source_of(view, logits))
            negated = None if negative is None else negated_by(view, negative[1])
            if negative is None or negated is None:
                continue
            logits, readers = negated, {negative[0]}
        elif not any(made.input[0] == logits for _, made in _made_by(view, numerator, "Exp")):
            continue
        site = Fed(tuple(sorted(readers)), ending.trail.tensor, single=False)
        return sigmoid_head(view, ending, hints, logits, site, "a sigmoid in pieces")
    return None


def _one_plus_exp(view: GraphView, tensor: str) -> Iterator[tuple[int, onnx.NodeProto]]:
    """The exponential that a tensor is, plus 1."""
    for _, add in _made_by(view, tensor, "Add"):
        for one, other in (tuple(add.input), tuple(add.input)[::-1]):
            if is_number(view, one, 1.0):
                yield from _made_by(view, other, "Exp")


def _head(
    view: GraphView,
    ending: Ending,
    hints: Hints,
    activation: Activation,
    logits: str,
    readers: frozenset[int] | set[int],
    axis: int | None,
    shifted: _Shifted | None = None,
) -> Head | None:
    tensor = view.type_of(logits)
    what = "a softmax in pieces" if activation == "softmax" else "a log-softmax in pieces"
    if axis is None:
        return None
    axis = positive_axis(axis, tensor.rank)
    if shifted is not None and shifted.axis is not None and positive_axis(shifted.axis, tensor.rank) != axis:
        return None
    if hints.task not in (None, "multiclass"):
        raise Unclear(f"ends in {what}, which is multiclass, not {hints.task}", "drop --task")
    if hints.axis is not None and positive_axis(hints.axis, tensor.rank) != axis:
        raise Unclear(f"ends in {what} over axis {axis}, not {hints.axis}", "drop --axis")
    return Head(
        output=ending.output,
        logits=logits,
        task="multiclass",
        activation=activation,
        axis=axis,
        num_classes=tensor.size(axis),
        dtype=float_type(view, logits, ending.output),
        site=Fed(tuple(sorted(readers)), ending.trail.tensor, single=False),
        rank=tensor.rank,
        trail=ending.trail.steps,
        keys=ending.trail.keys,
        evidence=f"{what} over axis {axis} of '{logits}'",
    )


def _quotients(view: GraphView, node: onnx.NodeProto) -> Iterator[tuple[str, str]]:
    """What a node divides by what."""
    if node.op_type == "Div":
        yield node.input[0], node.input[1]
        return
    for left, right in ((node.input[0], node.input[1]), (node.input[1], node.input[0])):
        for _, inverse in _made_by(view, right, "Reciprocal"):
            yield left, inverse.input[0]


def _total_of_exp(view: GraphView, tensor: str) -> tuple[str, int, int | None] | None:
    """Of Σ exp(D): the tensor D, the node that reads it, and the axis of the sum."""
    for _, total in _totals(view, tensor):
        for index, exp in _made_by(view, total.input[0], "Exp"):
            return exp.input[0], index, reduced_axis(view, total)
    return None


def _shifted(view: GraphView, tensor: str, readers: frozenset[int]) -> _Shifted:
    """D as z − m where m is the maximum of z; or D itself, where something else reads it than these nodes."""
    others = (view.graph.node[index] for index in view.readers(tensor) if index not in readers)
    alone = all(_is_piece(view, node) for node in others) and all(o.name != tensor for o in view.graph.output)
    for index, sub in _made_by(view, tensor, "Sub") if alone else []:
        for maximum_index, maximum in _maxima(view, sub.input[1]):
            if maximum.input[0] == sub.input[0] and _private(view, maximum.output[0], index):
                return _Shifted(sub.input[0], frozenset({index, maximum_index}), reduced_axis(view, maximum))
    return _Shifted(tensor, readers, None)


def _is_piece(view: GraphView, node: onnx.NodeProto) -> bool:
    """Whether a node that reads D belongs to a softmax or log-softmax too, which then is calibrated with it."""
    return node.op_type == "Exp" or (node.op_type == "Sub" and bool(_made_by(view, node.input[1], "Log")))


def _private(view: GraphView, tensor: str, reader: int) -> bool:
    """Whether a maximum goes nowhere but into the subtraction: else what else reads it would be calibrated too."""
    pending = [tensor]
    while pending:
        name = pending.pop()
        if any(output.name == name for output in view.graph.output):
            return False
        for index in view.readers(name):
            node = view.graph.node[index]
            if index != reader and node.op_type not in KEEPS_ORDER | {"Max", "Expand"}:
                return False
            pending += [] if index == reader else list(node.output)
    return True


def _maxima(view: GraphView, tensor: str) -> list[tuple[int, onnx.NodeProto]]:
    """The maximum that a tensor is, perhaps kept off −inf by a Max with a constant."""
    names = [tensor, *(name for _, node in _made_by(view, tensor, "Max") for name in node.input)]
    return [made for name in names for made in _made_by(view, name, "ReduceMax")]


def _totals(view: GraphView, tensor: str) -> list[tuple[int, onnx.NodeProto]]:
    """The sum that a tensor is, perhaps kept off zero by something that is added."""
    names = [tensor]
    for _, add in _made_by(view, tensor, "Add"):
        names += [name for name, other in (tuple(add.input), tuple(add.input)[::-1]) if _is_guard(view, other)]
    return [made for name in names for op in ("ReduceSum", "ReduceL1") for made in _made_by(view, name, op)]


def _is_guard(view: GraphView, tensor: str) -> bool:
    """Whether what is added only keeps a sum off zero: a tiny constant, or a number made of a truth value."""
    value = view.constant(tensor)
    if value is not None:
        return value.dtype.kind == "f" and bool((np.abs(value) <= _TINY).all())
    for _ in range(4):
        producer = view.producer(tensor)
        if producer is None or producer[1].op_type not in ("Cast", "Mul"):
            return False
        if view.type_of(producer[1].input[0]).elem_type == TensorProto.BOOL:
            return True
        tensor = producer[1].input[0]
    return False


def _axis_of_sum(view: GraphView, numerator: str, denominator: str) -> int | None:
    """The axis along which values are made to sum to 1, perhaps guarded against zeros by something that is added."""
    summands = {numerator, *(name for _, add in _made_by(view, numerator, "Add") for name in add.input)}
    for _, total in _totals(view, denominator):
        sources = {total.input[0], *(node.input[0] for _, node in _made_by(view, total.input[0], "Abs"))}
        axis = reduced_axis(view, total)
        if summands & sources and axis is not None:
            return positive_axis(axis, view.type_of(numerator).rank or view.type_of(total.input[0]).rank)
    return None


def _made_by(view: GraphView, tensor: str, op_type: str) -> list[tuple[int, onnx.NodeProto]]:
    """The node of a kind that makes a tensor's values, if one does."""
    producer = view.producer(source_of(view, tensor))
    if producer is None or producer[1].op_type != op_type or producer[1].domain not in DEFAULT_DOMAINS:
        return []
    return [producer]


def reduced_axis(view: GraphView, node: onnx.NodeProto) -> int | None:
    """The one axis over which a node reduces; None for several, or where that is not known."""
    axes = next((list(a.ints) for a in node.attribute if a.name == "axes"), None)
    if len(node.input) > 1 and node.input[1]:
        constant = view.constant(node.input[1])
        axes = None if constant is None else [int(i) for i in constant.reshape(-1)]
    return axes[0] if axes is not None and len(axes) == 1 else None
