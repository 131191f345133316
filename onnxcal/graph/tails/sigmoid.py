"""Heads that end in `Sigmoid`: one logit a sample (binary), or K independent ones (multilabel)."""

from __future__ import annotations

from onnxcal.graph.head import Complemented, Fed, Head
from onnxcal.graph.tails.axes import class_axis, float_type, one_column, one_logit_axis
from onnxcal.graph.tails.margins import margins_axis, unscaled
from onnxcal.graph.tails.registry import Ending, Hints, Unclear, tail
from onnxcal.graph.view import GraphView
from onnxcal.logits import Task


@tail("Sigmoid")
def sigmoid(view: GraphView, ending: Ending, hints: Hints) -> Head:
    """A binary or multilabel head whose probabilities a Sigmoid makes."""
    logits = ending.node.input[0]
    joined = view.producer(unscaled(view, logits))
    axis = None if joined is None else margins_axis(view, joined[1])
    if axis is not None and hints.task in (None, "binary"):
        return _of_margins(view, ending, logits, axis)
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


def _of_margins(view: GraphView, ending: Ending, joined: str, axis: int) -> Head:
    """σ of [−s, s], which is [1 − p, p]: s is fed where one tensor of that shape holds it, else both columns are."""
    activated = ending.node.output[0]
    logits, site = joined, Fed((ending.index,), activated, single=True, column=True)
    producer = view.producer(joined)
    if producer is not None and producer[1].op_type == "Concat":
        index, concat = producer
        negative = view.producer(concat.input[0])
        if negative is not None and concat.input[1] in negative[1].input:
            minus = negative[1].output[0]
            if _only_read_by(view, minus, index) and _only_read_by(view, joined, ending.index):
                logits = concat.input[1]
                site = Fed(tuple(sorted((negative[0], index))), activated, single=False)
    return Head(
        output=ending.output,
        logits=logits,
        task="binary",
        activation="sigmoid",
        axis=axis,
        num_classes=2,
        dtype=float_type(view, logits, ending.output),
        site=site,
        rank=view.type_of(logits).rank,
        trail=(Complemented(None, axis), *ending.trail.steps),
        keys=ending.trail.keys,
        evidence=f"Sigmoid of the margins [-s, s] of '{logits}'",
    )


def _only_read_by(view: GraphView, tensor: str, reader: int) -> bool:
    return view.readers(tensor) == [reader] and all(output.name != tensor for output in view.graph.output)


def _task(view: GraphView, rank: int | None, logits: str, hints: Hints) -> Task:
    if rank == 1 or one_column(view, logits) is not None:
        return "binary"
    size = view.type_of(logits).size(class_axis(view, logits, hints.axis))
    if size == 1:
        return "binary"
    if size is None:
        raise Unclear("ends in Sigmoid over an unknown number of columns", "pass --task binary or --task multilabel")
    return "multilabel"
