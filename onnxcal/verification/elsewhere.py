"""The comparison of one head in another runtime: that of `head`, with tolerances for other ways of adding up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from onnxcal.graph.head import Rounded
from onnxcal.verification.head import HeadComparison


class RuntimeComparison(HeadComparison):
    """One output of a model, patched or not, in another runtime.

    Parameters
    ----------
    pattern : the comparison of the same head in onnxruntime.
    output : name of the output.
    temperature : T that its logits are divided by; 1 for the unpatched model.
    tolerances : by element type.
    """

    def __init__(
        self, pattern: HeadComparison, output: str, temperature: float, tolerances: Mapping[str, float]
    ) -> None:
        vars(self).update(vars(pattern))
        steps = sum(step.scale for step in self.head.trail if isinstance(step, Rounded))
        self.output, self.temperature = output, temperature
        self.given = self.tolerance = tolerances[self.head.precision] + steps
        self.max_abs_error, self.worst = 0.0, type(pattern.worst)()
        self.argmax_changed = self.argmax_wrong = 0
        self.flip_excess = self.unrecognised = 0.0
        self.rows = None

    @property
    def limit(self) -> float:
        """The largest error that may be where the worst is."""
        return self.tolerance + self.worst.rounding

    @property
    def passed(self) -> bool:
        """Whether values and predictions are right."""
        return self.passed_with(0.0)

    def passed_with(self, allowance: float) -> bool:
        """Whether values and predictions would be right with a larger tolerance."""
        return self.worst.error <= self.limit + allowance and self.flip_excess <= allowance

    def _look_ahead(self, logits: NDArray[Any], expected: NDArray[Any]) -> None:
        """What a conversion to float16 would do is looked at in onnxruntime."""
