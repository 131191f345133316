"""Heads that end in `Softmax` or `LogSoftmax`.

Below opset 13 these flatten their input to 2-D at `axis` (default 1) and normalise over all axes from there on; from
13 they act on one axis (default −1). Source: ONNX operators, Softmax-1, Softmax-11, Softmax-13.
"""

from __future__ import annotations

from onnxcal.graph.head import Activation, Fed, Head
from onnxcal.graph.tails.axes import float_type, positive_axis
from onnxcal.graph.tails.registry import Ending, Hints, Unclear, tail
from onnxcal.graph.view import GraphView


@tail("Softmax")
def softmax(view: GraphView, ending: Ending, hints: Hints) -> Head | None:
    """A multiclass head whose probabilities a Softmax makes."""
    return _head(view, ending, hints, "softmax")


@tail("LogSoftmax")
def log_softmax(view: GraphView, ending: Ending, hints: Hints) -> Head | None:
    """A multiclass head whose log-probabilities a LogSoftmax makes."""
    return _head(view, ending, hints, "log_softmax")


def _head(view: GraphView, ending: Ending, hints: Hints, activation: Activation) -> Head:
    logits = ending.node.input[0]
    tensor = view.type_of(logits)
    flattens = view.opset < 13
    default = 1 if flattens else -1
    declared = next((attribute.i for attribute in ending.node.attribute if attribute.name == "axis"), default)
    op = ending.node.op_type
    if hints.task not in (None, "multiclass"):
        raise Unclear(f"ends in {op}, which is multiclass, not {hints.task}", "drop --task")
    if declared < 0 and tensor.rank is None and hints.axis is None:
        raise Unclear(f"ends in {op} over axis {declared} of a tensor of unknown rank", "pass --axis, counted from 0")
    axis = hints.axis if declared < 0 and tensor.rank is None else positive_axis(declared, tensor.rank)
    if axis is None or axis < 0:
        raise Unclear(f"ends in {op} over axis {declared} of a tensor of unknown rank", "pass --axis, counted from 0")
    if hints.axis is not None and positive_axis(hints.axis, tensor.rank) != axis:
        raise Unclear(f"ends in {op} over axis {axis}, not {hints.axis}", "drop --axis")
    if flattens and axis == 0:
        raise Unclear(
            f"ends in {op} over axis 0, which below opset 13 normalises over the whole batch",
            "export it with axis=1, or at opset 13 or later",
        )
    sizes: list[int | None] = [None] if tensor.rank is None else [tensor.size(a) for a in range(axis, tensor.rank)]
    flatten = flattens and not (tensor.rank is not None and (axis == tensor.rank - 1 or _all_one(sizes[1:])))
    num_classes = _product(sizes) if flatten else tensor.size(axis)
    if num_classes == 1:
        raise Unclear(f"ends in {op} over one class, which is always 1", "pass another --head")
    where = f"axes {axis} and up together" if flatten else f"axis {axis}"
    return Head(
        output=ending.output,
        logits=logits,
        task="multiclass",
        activation=activation,
        axis=axis,
        num_classes=num_classes,
        dtype=float_type(view, logits, ending.output),
        site=Fed((ending.index,), ending.node.output[0], single=True),
        flatten=flatten,
        rank=tensor.rank,
        trail=ending.trail.steps,
        keys=ending.trail.keys,
        evidence=f"{op} over {where} of '{logits}'",
    )


def _all_one(sizes: list[int | None]) -> bool:
    return all(size == 1 for size in sizes)


def _product(sizes: list[int | None]) -> int | None:
    product = 1
    for size in sizes:
        if size is None:
            return None
        product *= size
    return product
