"""The ways a classifier can end: one small function each, chosen by the operator that makes the output.

A tail is found by structure and never by name. It returns the `Head`, or None if the ending is none of its kind, or
raises `Unclear` with what the user must say.
"""

from onnxcal.graph.tails import columns, ml, pieces, quantized, sigmoid, softmax  # noqa: F401  each registers itself
from onnxcal.graph.tails.logits import is_linear, logits_head
from onnxcal.graph.tails.probabilities import probabilities_head
from onnxcal.graph.tails.registry import Ending, Hints, Unclear, ending_of, find_tail

__all__ = ["Ending", "Hints", "Unclear", "ending_of", "find_tail", "is_linear", "logits_head", "probabilities_head"]
