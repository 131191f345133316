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

    def placed(self, output: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
        """An output's own values where its logits are, in their shape; NaN where it does not show them."""
        placed = np.full(int(np.prod(shape)), np.nan)
        direct = ~self.negated
        placed[self.source[direct]] = output[direct]
        return placed.reshape(shape)


def expected_output(logits: NDArray[Any], head: Head, temperature: float, tensors: Mapping[str, Any]) -> Expected:
    """The output of a head whose logits are divided by T.

    Parameters
    ----------
    logits : the tensor of logits.
    temperature : T; 1 for the model as it stands.
    tensors : those of `shape_tensors`, by name.
    """
    values: NDArray[Any] = activated(logits, head, temperature)
    for step in head.trail:
        if isinstance(step, Narrowed):
            continue  # the tolerance knows
        if isinstance(step, Clipped):
            values = np.clip(values, step.low, step.high)
        elif isinstance(step, Rounded):
            values = np.clip(np.rint(values / step.scale) * step.scale, step.lowest, step.highest)
        else:
            values = values.reshape(_shape_before(step, logits.shape, tensors))
            values = _moved(step, values, 1 - values if isinstance(step, Complemented) else values)
    return Expected(values, *shown_elements(logits.shape, head, tensors))


def shown_elements(
    shape: tuple[int, ...], head: Head, tensors: Mapping[str, Any]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """`Expected.source` and `Expected.negated` for logits of some shape."""
    source: NDArray[Any] = np.arange(int(np.prod(shape))).reshape(shape)
    negated: NDArray[Any] = np.zeros(shape, bool)
    for step in head.trail:
        if not isinstance(step, (Narrowed, Clipped, Rounded)):
            before = _shape_before(step, shape, tensors)
            source, negated = source.reshape(before), negated.reshape(before)
            source, negated = _moved(step, source, source), _moved(step, negated, ~negated)
    return source, negated


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


def _shape_before(
    step: Transposed | Selected | Complemented, logits: tuple[int, ...], tensors: Mapping[str, Any]
) -> tuple[int, ...]:
    return logits if step.tensor is None else tuple(tensors[step.tensor].shape)


def _moved(step: Transposed | Selected | Complemented, array: NDArray[Any], opposite: NDArray[Any]) -> NDArray[Any]:
    """What a step makes of numbers for each element, and of those for its complement."""
    if isinstance(step, Transposed):
        return np.asarray(array.transpose(step.order))
    if isinstance(step, Selected):
        return np.asarray(array.take(step.indices, axis=step.axis))
    return np.concatenate([array, opposite] if step.reverse else [opposite, array], axis=step.axis)
