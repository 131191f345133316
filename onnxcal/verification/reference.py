"""What a calibrated output must be, computed in float64 apart from the fit and the patch.

It knows neither: only logits, T, the activation, and where the graph moves the values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.graph.head import Head
from onnxcal.graph.moves import Transposition


def reference(logits: NDArray[Any], head: Head, temperature: float) -> NDArray[np.float64]:
    """What the calibrated output must be, in float64, in the logits' shape.

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


def in_logits_layout(
    output: NDArray[Any], shape: tuple[int, ...], moves: Sequence[Transposition], tensors: Mapping[str, Any]
) -> NDArray[Any]:
    """An output with its values where the logits they come from are, before the graph reshaped and transposed them."""
    source = np.arange(int(np.prod(shape)))
    for move in moves:
        source = source.reshape(tensors[move.tensor].shape).transpose(move.order).reshape(-1)
    values = np.empty(source.size, np.result_type(output.dtype, np.float64))
    values[source] = np.asarray(output).reshape(-1)
    return values.reshape(shape)
