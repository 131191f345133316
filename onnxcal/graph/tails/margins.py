"""The margin s of a binary classifier joined with its negative, [−s, s]: σ(s) is the second class's probability."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxcal.graph.moves import DEFAULT_DOMAINS, is_number, source_of
from onnxcal.graph.tails.axes import positive_axis
from onnxcal.graph.view import GraphView

if TYPE_CHECKING:
    import onnx


def margins_axis(view: GraphView, node: onnx.NodeProto) -> int | None:
    """The axis along which a Concat joins −s and s, one column each; None if it joins something else."""
    if node.op_type != "Concat" or node.domain not in DEFAULT_DOMAINS or len(node.input) != 2:
        return None
    negative = view.producer(source_of(view, node.input[0]))
    if negative is None or not negates(view, negative[1], node.input[1]):
        return None
    axis = joined_axis(view, node)
    tensor = view.type_of(node.input[1])
    batch = axis == 0 and tensor.rank != 1
    return None if batch or tensor.size(axis) not in (None, 1) else axis


def joined_axis(view: GraphView, node: onnx.NodeProto) -> int:
    """The axis of a Concat, counted from the front."""
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    return positive_axis(axis, view.type_of(node.input[1]).rank or view.type_of(node.output[0]).rank)


def negates(view: GraphView, node: onnx.NodeProto, tensor: str) -> bool:
    """Whether a node makes the negative of a tensor."""
    negated = negated_by(view, node)
    return negated is not None and source_of(view, negated) == source_of(view, tensor)


def negated_by(view: GraphView, node: onnx.NodeProto) -> str | None:
    """The tensor that a node makes the negative of, as −z, z · (−1) or 0 − z; None if it does something else."""
    if node.domain not in DEFAULT_DOMAINS:
        return None
    if node.op_type == "Neg":
        return node.input[0]
    if node.op_type == "Mul":
        pairs = ((node.input[0], node.input[1]), (node.input[1], node.input[0]))
        return next((other for one, other in pairs if is_number(view, one, -1.0)), None)
    return node.input[1] if node.op_type == "Sub" and is_number(view, node.input[0], 0.0) else None


def unscaled(view: GraphView, tensor: str) -> str:
    """What a tensor was before constants multiplied or divided it, as in a patched model."""
    for _ in range(len(view.graph.node)):
        tensor = source_of(view, tensor)
        producer = view.producer(tensor)
        if producer is None or producer[1].op_type not in ("Mul", "Div") or producer[1].domain not in DEFAULT_DOMAINS:
            return tensor
        factor = view.constant(producer[1].input[1])
        if factor is None or factor.size != 1:
            return tensor
        tensor = producer[1].input[0]
    return tensor
