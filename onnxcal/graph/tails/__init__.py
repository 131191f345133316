"""The ways a classifier can end: one small function each, chosen by the operator that makes the output.

A tail is found by structure and never by name. It returns the `Head`, or raises `Unclear` with what the user must say.
"""

from onnxcal.graph.tails import sigmoid, softmax  # noqa: F401  each registers itself
from onnxcal.graph.tails.logits import logits_head
from onnxcal.graph.tails.registry import Hints, Unclear, find_tail

__all__ = ["Hints", "Unclear", "find_tail", "logits_head"]
