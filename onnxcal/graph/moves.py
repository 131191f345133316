"""Operators that only move or cast values, and what they do between a head's activation and its output."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from onnxcal.graph.head import Head
from onnxcal.graph.view import FLOAT_NAMES, GraphView

DEFAULT_DOMAINS = ("", "ai.onnx")
MOVES_VALUES = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Transpose"})


@dataclass(frozen=True)
class Transposition:
    """One Transpose on the way; all the others keep values in order."""

    tensor: str
    """Its input, whose shape is needed to repeat it."""
    order: tuple[int, ...] | None
    """Its permutation; None reverses the axes."""


def moves_values(node: onnx.NodeProto) -> bool:
    """Whether a node's output holds its first input's values: in another shape, order, or floating point type."""
    if node.domain not in DEFAULT_DOMAINS or node.op_type not in MOVES_VALUES or not node.input:
        return False
    return node.op_type != "Cast" or any(a.name == "to" and a.i in FLOAT_NAMES for a in node.attribute)


def transpositions(view: GraphView, head: Head) -> tuple[Transposition, ...]:
    """What brings a head's values out of the logits' order, from the activation to the output."""
    found: list[Transposition] = []
    tensor = head.output
    while head.node is not None and (producer := view.producer(tensor)) is not None and producer[0] != head.node:
        node = producer[1]
        if node.op_type == "Transpose":
            order = next((tuple(a.ints) for a in node.attribute if a.name == "perm"), None)
            found.append(Transposition(node.input[0], order))
        tensor = node.input[0]
    return tuple(reversed(found))
