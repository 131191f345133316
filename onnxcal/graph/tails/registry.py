"""Which function looks at which final operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from onnxcal.graph.head import Activation, Head
from onnxcal.graph.moves import DEFAULT_DOMAINS, Trail, walk_back
from onnxcal.graph.view import GraphView
from onnxcal.logits import Task

if TYPE_CHECKING:
    import onnx


class Unclear(Exception):
    """The structure does not decide: says what is missing, as the end of a sentence, and what to pass.

    With `spills` there are probabilities, but what would have to be fed for them makes something else too.
    """

    def __init__(self, reason: str, hint: str, *, spills: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.spills = spills


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
    """The last node of an output that does more than move values, and the way from there to the output."""

    output: str
    """Name of the model output."""
    index: int
    """Position of the node in `graph.node`."""
    node: onnx.NodeProto
    """The node."""
    trail: Trail
    """What it makes, and what happens to that on the way to the output."""


Tail: TypeAlias = Callable[[GraphView, Ending, Hints], "Head | None"]
"""The head of an ending, or None if it is none of its kind; raises Unclear if it is, but not enough is known."""
_tails: dict[tuple[str, str], Tail] = {}


def tail(*op_types: str, domain: str = "") -> Callable[[Tail], Tail]:
    """Register a function for heads that end in some operators.

    Raises
    ------
    ValueError
        Another function is registered for one of them.
    """

    def register(function: Tail) -> Tail:
        for op_type in op_types:
            if (domain, op_type) in _tails:
                raise ValueError(f"two tails are registered for {op_type}")
            _tails[domain, op_type] = function
        return function

    return register


def find_tail(node: onnx.NodeProto) -> Tail | None:
    """The function for a node, if one is registered."""
    return _tails.get(("" if node.domain in DEFAULT_DOMAINS else node.domain, node.op_type))


def ending_of(view: GraphView, output: str, tensor: str) -> Ending:
    """The node that computes a tensor, behind those that only move its values.

    Raises
    ------
    Unclear
        Nothing computes it.
    """
    trail = walk_back(view, tensor)
    if trail is None:
        raise Unclear("is computed in a circle", "the graph is broken: export it again")
    producer = view.producer(trail.tensor)
    if producer is None:
        raise Unclear(f"only passes on '{trail.tensor}', an input or weight of the model", "pass another --head")
    index, node = producer
    if node.op_type == "Constant":
        raise Unclear("is a constant", "pass another --head")
    if not any(node.input):
        raise Unclear(f"ends in {node.op_type}, which reads nothing", "the graph is broken: export it again")
    if not all(isinstance(name, str) for name in (output, *node.input, *node.output)):
        raise Unclear("has tensors whose names are not UTF-8", "export it again")  # protobuf hands out bytes
    return Ending(output, index, node, trail)


def recognise(view: GraphView, output: str, tensor: str, hints: Hints) -> Head | None:
    """The head whose probabilities (or their logarithms) a tensor inside the graph holds; None if that is not known."""
    try:
        ending = ending_of(view, output, tensor)
    except Unclear:
        return None
    function = find_tail(ending.node)
    return None if function is None else function(view, ending, hints)
