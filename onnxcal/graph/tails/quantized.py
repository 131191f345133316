"""Activations that onnxruntime's quantiser made work on 8-bit numbers: `QLinearSoftmax`, `QLinearSigmoid`.

Their rows sum to 0.98…1.01, so they are passed by: the logits are dequantised, and divided and activated in float.
Source: onnxruntime, ContribOperators.md, com.microsoft.QLinearSoftmax and QLinearSigmoid.
"""

from __future__ import annotations

from onnxcal.graph.head import Activation, Added, Head
from onnxcal.graph.moves import quantized_grid, source_of
from onnxcal.graph.tails.axes import class_axis, float_type, one_logit_axis, positive_axis
from onnxcal.graph.tails.registry import Ending, Hints, Unclear, tail
from onnxcal.graph.view import GraphView
from onnxcal.logits import Task

_ACTIVATIONS: dict[str, Activation] = {"QLinearSoftmax": "softmax", "QLinearSigmoid": "sigmoid"}


@tail("DequantizeLinear")
@tail("DequantizeLinear", domain="com.microsoft")
def dequantized(view: GraphView, ending: Ending, hints: Hints) -> Head | None:
    """The dequantised result of a quantised activation."""
    producer = view.producer(source_of(view, ending.node.input[0]))
    if producer is None or producer[1].op_type not in _ACTIVATIONS:
        return None
    index, node = producer
    activation = _ACTIVATIONS[node.op_type]
    logits = node.input[0]
    tensor = view.type_of(logits)
    target = ending.trail.tensor
    rank = tensor.rank if tensor.rank is not None else view.type_of(target).rank
    task: Task = "multiclass"
    if activation == "softmax":
        if hints.task not in (None, "multiclass"):
            raise Unclear(f"ends in QLinearSoftmax, which is multiclass, not {hints.task}", "drop --task")
        given = {attribute.name: attribute.i for attribute in node.attribute}
        if given.get("opset", 13) < 13 and rank != 2:
            raise Unclear(
                "ends in a QLinearSoftmax of opset 12 or below over more than two axes",
                "quantise the model with its Softmax left out (nodes_to_exclude)",
            )
        axis = positive_axis(given.get("axis", -1), rank)
    else:
        if hints.task == "multiclass":
            raise Unclear("ends in QLinearSigmoid, which is binary or multilabel, not multiclass", "drop --task")
        axis = class_axis(view, target, hints.axis)
        columns = tensor.size(axis) or view.type_of(target).size(axis)
        task = hints.task or ("binary" if rank == 1 or columns == 1 else "multilabel")
        axis = one_logit_axis(view, target) if task == "binary" else class_axis(view, target, hints.axis)
    size = tensor.size(axis) or view.type_of(target).size(axis)
    return Head(
        output=ending.output,
        logits=logits,
        task=task,
        activation=activation,
        axis=axis,
        num_classes=2 if task == "binary" else size,
        dtype=float_type(view, target, ending.output),
        site=Added(target, "quantized", node=index, grid=quantized_grid(view, ending.node)),
        rank=rank,
        trail=ending.trail.steps,
        keys=ending.trail.keys,
        evidence=f"8-bit {node.op_type} of '{logits}'",
    )
