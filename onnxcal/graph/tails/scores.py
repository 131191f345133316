"""What the attributes of an ai.onnx.ml operator say about its scores: margins, or probabilities without logits."""

from __future__ import annotations

import onnx

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
                from onnx import numpy_helper

                return bool((numpy_helper.to_array(attribute.t) < 0).any())
            except (ValueError, TypeError):  # large, and left out of the skeleton
                return False
    return False


def has_two_scores(node: onnx.NodeProto) -> bool:
    """Whether a LinearClassifier of two classes has a score for each, rather than one margin and its negative."""
    coefficients = next((list(a.floats) for a in node.attribute if a.name == "coefficients"), [])
    intercepts = next((list(a.floats) for a in node.attribute if a.name == "intercepts"), [])
    if node.op_type != "LinearClassifier" or len(intercepts) == 1:
        return False
    half = len(coefficients) // 2
    rows = zip(coefficients[:half] + intercepts[:1], coefficients[half:] + intercepts[1:], strict=False)
    return len(coefficients) % 2 == 0 and len(intercepts) == 2 and any(abs(a + b) > 1e-6 * abs(a) for a, b in rows)
