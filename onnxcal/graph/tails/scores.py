"""What the attributes of an ai.onnx.ml operator say about its scores: margins, or probabilities without logits."""

from __future__ import annotations

import onnx
from onnx import numpy_helper

_POST_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


def post_transform(node: onnx.NodeProto) -> str:
    """What an operator does to its scores; `TreeEnsemble` has a number for it."""
    for attribute in node.attribute:
        if attribute.name == "post_transform":
            if attribute.type == onnx.AttributeProto.INT:
                return _POST_TRANSFORMS[attribute.i] if 0 <= attribute.i < len(_POST_TRANSFORMS) else "?"
            return attribute.s.decode(errors="replace")
    return "NONE"


def gives_margins(node: onnx.NodeProto) -> bool:
    """Whether an operator's scores can be logits: untransformed, no probabilities of an SVM, no votes of a forest."""
    if post_transform(node) != "NONE" or has_probabilities(node):
        return False
    return node.op_type != "TreeEnsembleClassifier" or has_negative_weights(node)


def has_probabilities(node: onnx.NodeProto) -> bool:
    """Whether an SVMClassifier turns its votes into probabilities (Platt)."""
    return any(a.name == "prob_a" and a.floats for a in node.attribute)


def has_negative_weights(node: onnx.NodeProto) -> bool:
    """Whether leaves carry margins; probabilities are never negative."""
    for attribute in node.attribute:
        if attribute.name in ("class_weights", "base_values") and any(weight < 0 for weight in attribute.floats):
            return True
        if attribute.name == "class_weights_as_tensor":
            try:
                return bool((numpy_helper.to_array(attribute.t) < 0).any())
            except (ValueError, TypeError):  # large, and left out of the skeleton
                return False
    return False
