"""Classifiers of the ai.onnx.ml operator set: what scikit-learn, LightGBM, XGBoost and CatBoost models are exported as.

An operator with `post_transform` SOFTMAX or LOGISTIC has its logits inside: setting it to NONE brings them out, and no
label changes. Forests, SVMs and one-vs-rest models have none: the logarithms of their probabilities serve.
Source: ONNX ML operators, TreeEnsembleClassifier, LinearClassifier, SVMClassifier, TreeEnsemble, Normalizer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from onnx.onnx_ml_pb2 import TensorProto

from onnxcal.graph.head import Activation, Added, Complemented, Head
from onnxcal.graph.moves import label_values
from onnxcal.graph.tails.axes import float_type
from onnxcal.graph.tails.columns import margins_head
from onnxcal.graph.tails.logits import logits_head
from onnxcal.graph.tails.probabilities import probabilities_head
from onnxcal.graph.tails.registry import Ending, Hints, Unclear, recognise, tail
from onnxcal.graph.tails.scores import has_negative_weights, has_probabilities, has_two_scores, post_transform
from onnxcal.graph.view import GraphView
from onnxcal.logits import Task

if TYPE_CHECKING:
    import onnx

ML = "ai.onnx.ml"
_SCORES_AT = {"LinearClassifier": 1, "TreeEnsembleClassifier": 1, "SVMClassifier": 1}


@tail("LinearClassifier", "TreeEnsembleClassifier", "SVMClassifier", domain=ML)
def classifier(view: GraphView, ending: Ending, hints: Hints) -> Head | None:
    """The scores of a classifier."""
    node, scores = ending.node, ending.trail.tensor
    if list(node.output).index(scores) != _SCORES_AT[node.op_type]:
        raise Unclear(f"holds the labels of a {node.op_type}", "choose the output with the probabilities")
    if node.op_type == "SVMClassifier":
        return _svm(view, ending, hints)
    labels = len(list(label_values(node)))
    transform = post_transform(node)
    if transform == "NONE":
        if node.op_type == "TreeEnsembleClassifier" and hints.activation != "none" and not has_negative_weights(node):
            return probabilities_head(view, ending, hints, f"out of a {node.op_type}")
        if labels == 2 and hints.task in (None, "binary") and not has_two_scores(node):
            return margins_head(ending, view, scores, 1)
        return logits_head(view, ending, hints)
    if labels == 2 and transform == "LOGISTIC":
        return _scores_head(view, ending, hints, "binary", "sigmoid", 2, column=True)
    if transform == "LOGISTIC":
        return _scores_head(view, ending, hints, "multilabel", "sigmoid", labels)
    if transform == "SOFTMAX":
        return _scores_head(view, ending, hints, "multiclass", "softmax", labels)
    return probabilities_head(view, ending, hints, f"out of a {node.op_type} with post_transform {transform}")


@tail("TreeEnsemble", "TreeEnsembleRegressor", "LinearRegressor", domain=ML)
def regressor(view: GraphView, ending: Ending, hints: Hints) -> Head | None:
    """Sums of leaves, one column a target, with the post_transform of a classifier."""
    transform = post_transform(ending.node)
    columns = view.type_of(ending.trail.tensor).size(1) or _targets(ending.node)
    if transform == "LOGISTIC":
        task: Task = "binary" if columns == 1 else "multilabel"
        return _scores_head(view, ending, hints, task, "sigmoid", 2 if columns == 1 else columns)
    if transform == "SOFTMAX":
        return _scores_head(view, ending, hints, "multiclass", "softmax", columns)
    return None


@tail("Normalizer", domain=ML)
def normalizer(view: GraphView, ending: Ending, hints: Hints) -> Head | None:
    """Rows divided by their sum: no change where they sum to 1 already, else the logits are lost."""
    norm = next((a.s.decode() for a in ending.node.attribute if a.name == "norm"), "MAX")
    if norm != "L1" or hints.activation == "none":
        return None
    inner = recognise(view, ending.output, ending.node.input[0], Hints())
    if inner is not None and (
        (inner.activation == "softmax" and not inner.trail)
        or (inner.activation == "sigmoid" and any(isinstance(step, Complemented) for step in inner.trail))
    ):
        return replace(inner, trail=(*inner.trail, *ending.trail.steps), keys=ending.trail.keys)
    return probabilities_head(view, ending, hints, "Normalizer of scores that are no softmax")


def _scores_head(
    view: GraphView,
    ending: Ending,
    hints: Hints,
    task: Task,
    activation: Activation,
    num_classes: int | None,
    *,
    column: bool = False,
) -> Head:
    op, scores = ending.node.op_type, ending.trail.tensor
    if hints.task not in (None, task):
        raise Unclear(f"ends in a {op} that is {task}, not {hints.task}", "drop --task")
    steps = (Complemented(None, 1), *ending.trail.steps) if column else ending.trail.steps
    return Head(
        output=ending.output,
        logits=scores,
        task=task,
        activation=activation,
        axis=1,
        num_classes=num_classes,
        dtype=float_type(view, scores, ending.output, default=TensorProto.FLOAT),
        site=Added(scores, "scores", column=column, node=ending.index),
        rank=2,
        trail=steps,
        keys=ending.trail.keys,
        evidence=f"{op} with post_transform {post_transform(ending.node)}",
    )


def _svm(view: GraphView, ending: Ending, hints: Hints) -> Head | None:
    if has_probabilities(ending.node):
        return probabilities_head(view, ending, hints, "out of an SVMClassifier")
    if hints.activation == "none":
        return logits_head(view, ending, hints)
    raise Unclear(
        "ends in an SVMClassifier without probabilities, whose scores are votes",
        "fit it with probability=True, or pass --activation none if the scores are logits",
    )


def _targets(node: onnx.NodeProto) -> int | None:
    return next((int(a.i) for a in node.attribute if a.name in ("n_targets", "targets")), None)
