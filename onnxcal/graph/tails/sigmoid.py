"""Heads that end in `Sigmoid`: one logit a sample (binary), or K independent ones (multilabel)."""

from __future__ import annotations

from onnxcal.graph.head import Head
from onnxcal.graph.tails.axes import class_axis, float_type, one_logit_axis
from onnxcal.graph.tails.registry import Ending, Hints, Unclear, tail
from onnxcal.graph.view import GraphView
from onnxcal.logits import Task


@tail("Sigmoid")
def sigmoid(view: GraphView, ending: Ending, hints: Hints) -> Head:
    """A binary or multilabel head whose probabilities a Sigmoid makes."""
    logits = ending.node.input[0]
    if hints.task == "multiclass":
        raise Unclear("ends in Sigmoid, which is binary or multilabel, not multiclass", "drop --task")
    tensor = view.type_of(logits)
    task = hints.task or _task(tensor.rank, tensor.size(class_axis(view, logits, hints.axis)))
    axis = one_logit_axis(view, logits) if task == "binary" else class_axis(view, logits, hints.axis)
    return Head(
        output=ending.output,
        logits=logits,
        task=task,
        activation="sigmoid",
        axis=axis,
        num_classes=2 if task == "binary" else tensor.size(axis),
        dtype=float_type(view, logits, ending.output),
        rank=tensor.rank,
        node=ending.index,
        evidence=f"Sigmoid of '{logits}'",
    )


def _task(rank: int | None, size: int | None) -> Task:
    if rank == 1 or size == 1:
        return "binary"
    if size is None:
        raise Unclear("ends in Sigmoid over an unknown number of columns", "pass --task binary or --task multilabel")
    return "multilabel"
