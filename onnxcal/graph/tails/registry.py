"""Which function looks at which final operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import onnx

from onnxcal.graph.head import Activation, Head
from onnxcal.graph.moves import DEFAULT_DOMAINS
from onnxcal.graph.view import GraphView
from onnxcal.logits import Task


class Unclear(Exception):
    """The structure does not decide: says what is missing, as the end of a sentence, and what to pass."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True)
class Hints:
    """What the user said; it overrides what is detected."""

    task: Task | None = None
    """What a row means."""
    axis: int | None = None
    """The class axis of the logits, also counted from the back."""
    activation: Activation | None = None
    """What makes the output."""


@dataclass(frozen=True)
class Ending:
    """The last node of an output that does more than move or cast values."""

    output: str
    """Name of the model output."""
    index: int
    """Position of the node in `graph.node`."""
    node: onnx.NodeProto
    """The node."""


Tail: TypeAlias = Callable[[GraphView, Ending, Hints], Head]
_tails: dict[str, Tail] = {}


def tail(op_type: str) -> Callable[[Tail], Tail]:
    """Register a function for heads that end in `op_type` of the default operator set.

    Raises
    ------
    ValueError
        Another function is registered for that operator.
    """

    def register(function: Tail) -> Tail:
        if op_type in _tails:
            raise ValueError(f"two tails are registered for {op_type}")
        _tails[op_type] = function
        return function

    return register


def find_tail(node: onnx.NodeProto) -> Tail | None:
    """The function for a node, if one is registered."""
    return _tails.get(node.op_type) if node.domain in DEFAULT_DOMAINS else None
