"""Where else the pieces of an activation go: what a patch feeds must reach no output but through probabilities."""

from __future__ import annotations

from onnxcal.graph.head import Fed, Head
from onnxcal.graph.moves import DEFAULT_DOMAINS
from onnxcal.graph.tails.registry import Hints, Unclear, recognise
from onnxcal.graph.view import GraphView

_LABELS = frozenset({"ArgMax", "ArgMin"})
"""What they make of pieces does not change with a temperature."""


def spills_into(view: GraphView, head: Head) -> str | None:
    """An output that would change with a head's pieces although it is not computed from its probabilities.

    From the nodes that are fed on, every way is followed until it ends in probabilities (or their logarithms) that the
    same calibration is for, in labels, or nowhere.
    """
    if not isinstance(head.site, Fed):
        return None
    outputs = {output.name for output in view.graph.output}
    pending = [name for reader in head.site.readers for name in view.graph.node[reader].output if name]
    fed: set[str] = set()
    while pending:
        tensor = pending.pop()
        if tensor in fed or tensor == head.site.activated or _is_calibrated_too(view, tensor, head, fed):
            continue
        if tensor in outputs:
            return tensor
        fed.add(tensor)
        for index in view.readers(tensor):
            node = view.graph.node[index]
            if node.op_type not in _LABELS or node.domain not in DEFAULT_DOMAINS:
                pending += [name for name in node.output if name]
    return None


def _is_calibrated_too(view: GraphView, tensor: str, head: Head, fed: set[str]) -> bool:
    """Whether a tensor shows probabilities that are made by the same nodes; or a sigmoid of what is fed, as σ(−z)."""
    assert isinstance(head.site, Fed)
    try:
        found = recognise(view, head.output, tensor, Hints(head.task, head.axis))
    except (Unclear, IndexError, ValueError):
        return False
    if found is None or not isinstance(found.site, Fed):
        return False
    if found.logits == head.logits and set(found.site.readers) <= set(head.site.readers):
        return True
    return found.activation == head.activation == "sigmoid" and found.logits in fed
