"""What a head's output must be, given its logits: computed in float64 apart from the fit and the patch.

It goes by logits, T, the activation, and what the original graph does to probabilities on the way to the output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.graph.head import Clipped, Complemented, Fed, Head, Narrowed, Rounded, Selected, Transposed
from onnxcal.graph.patch import READING_TEMPERATURE


@dataclass(frozen=True)
class Expected:
    """An output, element by element."""

    values: NDArray[np.float64]
    """What each element must be."""
    source: NDArray[np.int64]
    """Which element of the logits, counted through, each one comes from."""
    negated: NDArray[np.bool_]
    """Whether it is the complement of that element's probability."""


def expected_output(logits: NDArray[Any], head: Head, temperature: float, tensors: Mapping[str, Any]) -> Expected:
    """The output of a head whose logits are divided by T.

    Parameters
    ----------
    logits : the tensor of logits.
    temperature : T; 1 for the model as it stands.
    tensors : those of `shape_tensors`, by name.
    """
    values: NDArray[Any] = activated(logits, head, temperature)
    source: NDArray[Any] = np.arange(values.size).reshape(values.shape)
    negated: NDArray[Any] = np.zeros(values.shape, bool)
    for step in head.trail:
        if isinstance(step, Narrowed):
            continue  # the tolerance knows
        if isinstance(step, Clipped):
            values = np.clip(values, step.low, step.high)
        elif isinstance(step, Rounded):
            values = np.clip(np.rint(values / step.scale) * step.scale, step.lowest, step.highest)
        else:
            shape = logits.shape if step.tensor is None else tensors[step.tensor].shape
            values, source, negated = (array.reshape(shape) for array in (values, source, negated))
            if isinstance(step, Transposed):
                values, source, negated = (array.transpose(step.order) for array in (values, source, negated))
            elif isinstance(step, Selected):
                values, source, negated = (
                    array.take(step.indices, axis=step.axis) for array in (values, source, negated)
                )
            else:
                values = _joined(step, 1 - values, values)
                source, negated = _joined(step, source, source), _joined(step, ~negated, negated)
    return Expected(values, source, negated)


def activated(logits: NDArray[Any], head: Head, temperature: float) -> NDArray[np.float64]:
    """The calibrated probabilities, in the logits' shape.

    softmax(z/T)_k = exp(z_k/T − m) / Σ_j exp(z_j/T − m) with m = max_j z_j/T (Guo et al. 2017, eq. 9); its logarithm
    for LogSoftmax; 1 / (1 + exp(−z/T)) for Sigmoid.
    """
    scaled = np.asarray(logits, np.float64) / temperature
    if head.task != "multiclass":
        e = np.exp(-np.abs(scaled))
        return np.where(scaled >= 0, 1.0, e) / (1.0 + e)
    axes = tuple(range(head.axis, scaled.ndim)) if head.flatten else (head.axis,)
    shifted = scaled - scaled.max(axis=axes, keepdims=True)
    total = np.exp(shifted).sum(axis=axes, keepdims=True)
    if head.activation == "log_softmax":
        return np.asarray(shifted - np.log(total))
    return np.asarray(np.exp(shifted) / total)


def logits_of(tensor: Any, head: Head) -> Any:
    """The logits in a tensor that `with_logits` names: of two columns [−s, s] the second."""
    if not head.is_logits:
        tensor = np.asarray(tensor) * np.asarray(tensor).dtype.type(READING_TEMPERATURE)
    if isinstance(head.site, Fed) and head.site.column:
        return np.asarray(tensor).take([1], axis=head.axis)
    return tensor


def shape_tensors(head: Head) -> list[str]:
    """Tensors of the original model whose shapes `expected_output` needs."""
    steps = (step for step in head.trail if isinstance(step, (Transposed, Selected, Complemented)))
    return [step.tensor for step in steps if step.tensor is not None]


def output_array(output: Any, head: Head) -> NDArray[Any]:
    """An output as an array; a sequence of maps from class label to probability as rows in the order of the labels."""
    if head.keys is not None and isinstance(output, list):
        return np.array([[row[key] for key in head.keys] for row in output], np.float32)
    return np.asarray(output)


def _joined(step: Complemented, first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([second, first] if step.reverse else [first, second], axis=step.axis)
