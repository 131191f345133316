"""Heads that end in `Sigmoid`: one logit a sample (binary), or K independent ones (multilabel)."""

from __future__ import annotations

from onnxcal.graph.head import Fed, Head
from onnxcal.graph.tails.axes import class_axis, float_type, one_logit_axis
from onnxcal.graph.tails.registry import Ending, Hints, Unclear, tail
from onnxcal.graph.view import GraphView
from onnxcal.logits import Task


@tail("Sigmoid")
def sigmoid(view: GraphView, ending: Ending, hints: Hints) -> Head:
    """A binary or multilabel head whose probabilities a Sigmoid makes."""
    site = Fed((ending.index,), ending.node.output[0], single=True)
    return sigmoid_head(view, ending, hints, ending.node.input[0], site, "Sigmoid")


def sigmoid_head(view: GraphView, ending: Ending, hints: Hints, logits: str, site: Fed, made_by: str) -> Head:
    """The head of a sigmoid over `logits`, in one node or in pieces."""
    if hints.task == "multiclass":
        raise Unclear("ends in Sigmoid, which is binary or multilabel, not multiclass", "drop --task")
    tensor = view.type_of(logits)
    task = hints.task or _task(view, tensor.rank, logits, hints)
    axis = one_logit_axis(view, logits) if task == "binary" else class_axis(view, logits, hints.axis)
    return Head(
        output=ending.output,
        logits=logits,
        task=task,
        activation="sigmoid",
        axis=axis,
        num_classes=2 if task == "binary" else tensor.size(axis),
        dtype=float_type(view, logits, ending.output),
        site=site,
        rank=tensor.rank,
        trail=ending.trail.steps,
        keys=ending.trail.keys,
        evidence=f"{made_by} of '{logits}'",
    )


def _task(view: GraphView, rank: int | None, logits: str, hints: Hints) -> Task:
    if rank == 1:
        return "binary"
    size = view.type_of(logits).size(class_axis(view, logits, hints.axis))
    if size == 1:
        return "binary"
    if size is None:
        raise Unclear("ends in Sigmoid over an unknown number of columns", "pass --task binary or --task multilabel")
    return "multilabel"
