"""The comparison of one head in another runtime: that of `head`, with tolerances for other ways of adding up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.graph.head import Head, Rounded
from onnxcal.verification.head import HeadComparison

LARGEST_SPREAD = 0.05
"""What a model may move by itself, at most. Of probabilities that are no better known than that, none is right."""


class RuntimeComparison(HeadComparison):
    """One output of a model, patched or not, in another runtime.

    Parameters
    ----------
    pattern : the comparison of the same head in onnxruntime.
    output : name of the output.
    temperature : T that its logits are divided by; 1 for the unpatched model.
    tolerances : by element type.
    given : a tolerance that the user gave, which counts where it is larger.
    """

    def __init__(
        self,
        pattern: HeadComparison,
        output: str,
        temperature: float,
        tolerances: Mapping[str, float],
        given: float | None = None,
    ) -> None:
        vars(self).update(vars(pattern))
        steps = sum(step.scale for step in self.head.trail if isinstance(step, Rounded))
        self.output, self.temperature = output, temperature
        self.given = self.tolerance = max(tolerances[self.head.precision] + steps, given or 0.0)
        self.max_abs_error, self.worst = 0.0, type(pattern.worst)()
        self.argmax_changed = self.argmax_wrong = 0
        self.flip_excess = self.unrecognised = 0.0
        self.rows = None
        self.spread = 0.0
        """How far onnxruntime itself moves on this head, once that was looked at."""

    @property
    def allowance(self) -> float:
        """What the model's own spread is allowed to explain."""
        return self.spread if self.spread <= LARGEST_SPREAD else 0.0

    @property
    def limit(self) -> float:
        """The largest error that may be where the worst is."""
        return self.tolerance + self.worst.rounding + self.allowance

    @property
    def passed(self) -> bool:
        """Whether values and predictions are right."""
        return self.worst.error <= self.limit and self.flip_excess <= self.allowance

    @property
    def within_spread(self) -> bool:
        """Whether the model's own spread explains what is wrong, though it may be too large to be allowed."""
        return self.needed_tolerance <= self.tolerance + self.spread and self.flip_excess <= self.spread

    def _look_ahead(self, logits: NDArray[Any], expected: NDArray[Any]) -> None:
        """What a conversion to float16 would do is looked at in onnxruntime."""


def difference(values: NDArray[np.float64], expected: NDArray[np.float64], head: Head) -> NDArray[np.float64]:
    """How far values of a head are off, as its tolerance counts; NaN where one of both is no number.

    Log-probabilities of classes that cannot be are -inf in both.
    """
    with np.errstate(invalid="ignore"):
        error = np.where(values == expected, 0.0, np.abs(values - expected))
        if head.activation == "log_softmax":
            error = error / np.where(np.isinf(expected), 1.0, np.maximum(1.0, np.abs(expected)))
    return error
