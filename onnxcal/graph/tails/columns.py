"""Binary heads with two columns: [1 − p, p] joined of a probability, or [−s, s] of a margin."""

from __future__ import annotations

from dataclasses import replace

from onnxcal.graph.head import Added, Complemented, Fed, Head, Narrowed
from onnxcal.graph.moves import DEFAULT_DOMAINS, is_number, source_of
from onnxcal.graph.tails.axes import float_type
from onnxcal.graph.tails.margins import joined_axis, margins_axis, negates
from onnxcal.graph.tails.probabilities import probabilities_head
from onnxcal.graph.tails.registry import Ending, Hints, Unclear, recognise, tail
from onnxcal.graph.view import GraphView


@tail("Concat")
def concat(view: GraphView, ending: Ending, hints: Hints) -> Head | None:
    """Two columns, of which one follows from the other."""
    node = ending.node
    if len(node.input) != 2:
        return None
    for reverse in (False, True):
        first, second = reversed(node.input) if reverse else node.input
        head = _probabilities(view, ending, hints, first, second, reverse)
        if head is not None:
            return head
    return _margins(view, ending, hints)


def _probabilities(
    view: GraphView, ending: Ending, hints: Hints, first: str, second: str, reverse: bool
) -> Head | None:
    """[1 − p, p], or [p, 1 − p]."""
    p = source_of(view, second)
    less, negated = _complement_of(view, source_of(view, first)), None
    if less is None or source_of(view, less) != p:
        negated = _negated_sigmoid(view, source_of(view, first), p)
        if negated is None:
            return None
    inner = recognise(view, ending.output, second, Hints("binary"))
    if inner is None or inner.activation != "sigmoid" or not isinstance(inner.site, Fed) or _is_moved(inner):
        return None if negated is not None else _of_unknown(view, ending, hints)
    if negated is not None and inner.logits not in view.graph.node[negated].input:
        return None
    site = inner.site
    if negated is not None:
        site = replace(site, readers=tuple(sorted((*site.readers, negated))), single=False)
    step = Complemented(second, joined_axis(view, ending.node), reverse)
    return replace(
        inner,
        site=site,
        trail=(*inner.trail, step, *ending.trail.steps),
        keys=ending.trail.keys,
        evidence=f"[{'p, 1 - p' if reverse else '1 - p, p'}] of {inner.evidence}",
    )


def _is_moved(head: Head) -> bool:
    return not all(isinstance(step, Narrowed) for step in head.trail)


def _of_unknown(view: GraphView, ending: Ending, hints: Hints) -> Head | None:
    """[1 − p, p] of a p whose logit cannot be reached: rows that sum to 1."""
    if hints.activation not in (None, "softmax") or hints.task not in (None, "multiclass"):
        return None
    return probabilities_head(view, ending, hints, "[1 - p, p] of unknown origin")


def _margins(view: GraphView, ending: Ending, hints: Hints) -> Head | None:
    """[−s, s]: σ(s) is the probability of the second class, and a softmax would give σ(2s)."""
    if hints.activation not in (None, "none") or hints.task not in (None, "binary"):
        return None
    axis = margins_axis(view, ending.node)
    return None if axis is None else margins_head(ending, view, ending.trail.tensor, axis)


def margins_head(ending: Ending, view: GraphView, joined: str, axis: int) -> Head:
    """The head of a tensor with the two columns [−s, s]."""
    rank = view.type_of(joined).rank
    if rank is None:
        raise Unclear("holds margins [-s, s] of unknown rank", "export it with shapes")
    return Head(
        output=ending.output,
        logits=joined,
        task="binary",
        activation="none",
        axis=axis,
        num_classes=2,
        dtype=float_type(view, joined, ending.output),
        site=Added(joined, "logits", column=True),
        rank=rank,
        trail=(Complemented(None, axis), *ending.trail.steps),
        keys=ending.trail.keys,
        evidence=f"margins [-s, s] in '{joined}'",
    )


def _complement_of(view: GraphView, tensor: str) -> str | None:
    """p where a tensor is 1 − p."""
    producer = view.producer(tensor)
    if producer is None or producer[1].domain not in DEFAULT_DOMAINS:
        return None
    node = producer[1]
    if node.op_type == "Sub" and is_number(view, node.input[0], 1.0):
        return node.input[1]
    if node.op_type == "Add":
        for one, other in ((node.input[0], node.input[1]), (node.input[1], node.input[0])):
            negative = view.producer(other)
            if is_number(view, one, 1.0) and negative is not None and negative[1].op_type == "Neg":
                return negative[1].input[0]
    return None


def _negated_sigmoid(view: GraphView, tensor: str, p: str) -> int | None:
    """The node that negates z, where a tensor is σ(−z) and p is σ(z)."""
    both = view.producer(tensor), view.producer(p)
    if any(found is None or found[1].op_type != "Sigmoid" for found in both):
        return None
    assert both[0] is not None
    assert both[1] is not None
    negative = view.producer(both[0][1].input[0])
    if negative is None or not negates(view, negative[1], both[1][1].input[0]):
        return None
    return negative[0]
