"""Outputs that hold probabilities whose logits cannot be reached: forests, nearest neighbours, one-vs-rest, averages.

z = log p serves as logits of a softmax, which is blind to a shift; z = log p − log(1 − p) as those of a sigmoid.
"""

from __future__ import annotations

from onnx.onnx_ml_pb2 import TensorProto

from onnxcal.graph.head import Added, Head
from onnxcal.graph.tails.axes import class_axis, float_type, one_logit_axis
from onnxcal.graph.tails.registry import Ending, Hints, Unclear
from onnxcal.graph.view import GraphView
from onnxcal.logits import Task


def probabilities_head(view: GraphView, ending: Ending, hints: Hints, evidence: str) -> Head:
    """The head of a tensor that holds probabilities.

    Raises
    ------
    Unclear
        Its shape leaves open what counts classes, or contradicts what was said.
    """
    activation = hints.activation or "softmax"
    target = ending.trail.tensor
    tensor = view.type_of(target)
    known = tensor.rank is not None
    if activation not in ("softmax", "sigmoid"):
        raise Unclear(f"ends in {ending.node.op_type}, not {activation}", "pass --activation softmax for probabilities")
    if activation == "softmax":
        if hints.task not in (None, "multiclass"):
            raise Unclear(
                f"is taken for rows of probabilities, which are multiclass, not {hints.task}",
                "drop --task, or pass --activation sigmoid for independent probabilities",
            )
        task: Task = "multiclass"
        axis = class_axis(view, target, hints.axis) if known or hints.axis is not None else 1
        if tensor.rank == 1 or tensor.size(axis) == 1:
            raise Unclear("has one probability a sample", "pass --activation sigmoid")
    else:
        one = tensor.rank == 1 or (known and tensor.size(class_axis(view, target, hints.axis)) == 1)
        task = hints.task or ("binary" if one else "multilabel")
        axis = one_logit_axis(view, target) if task == "binary" else class_axis(view, target, hints.axis)
    return Head(
        output=ending.output,
        logits=target,
        task=task,
        activation=activation,
        axis=axis,
        num_classes=2 if task == "binary" else tensor.size(axis),
        dtype=float_type(view, target, ending.output, default=TensorProto.FLOAT),
        site=Added(target, "probabilities"),
        rank=tensor.rank,
        trail=ending.trail.steps,
        keys=ending.trail.keys,
        evidence=f"probabilities: {evidence}",
    )
