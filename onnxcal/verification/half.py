"""What a later conversion to float16 would do to calibrated probabilities, simulated on logits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.graph.head import Head
from onnxcal.graph.messages import clamped
from onnxcal.inference.expected import activated

DAMAGE = 0.01
"""An error of a probability that is worth a warning before the conversion is made."""
SAMPLED = 1000
"""Rows of logits that it is simulated on."""


def float16_error(logits: NDArray[Any], head: Head, temperature: float, expected: NDArray[np.float64]) -> float:
    """Largest error of a probability where logits, T and the quotient are rounded to float16 each.

    Parameters
    ----------
    logits : the tensor of logits, float32 or float64.
    temperature : T.
    expected : the calibrated probabilities in the logits' shape; log-probabilities for LogSoftmax.

    Returns
    -------
    In [0, 1]; 1 where float16 has no number for it.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        quotient = np.asarray(logits).astype(np.float16) / float16_temperature(temperature)
        got = activated(quotient, head, 1.0)
        if head.activation == "log_softmax":
            got, expected = np.exp(got), np.exp(expected)
        error = np.abs(got - expected)
    return float(np.where(np.isnan(error), 1.0, error).max(initial=0.0))


def float16_temperature(temperature: float) -> Any:
    """T as a float16 converter stores it: a NumPy float16."""
    return np.float16(clamped(temperature))
