"""One head of the patched model against the reference, batch by batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.errors import ModelError
from onnxcal.graph.detect import find_head
from onnxcal.graph.head import Head
from onnxcal.graph.metadata import CalibratedHead
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.moves import transpositions
from onnxcal.graph.tails import Hints
from onnxcal.graph.view import GraphView
from onnxcal.inference.collect import whole_samples
from onnxcal.inference.feeds import Feed
from onnxcal.rows import logit_rows
from onnxcal.verification.checks import Check
from onnxcal.verification.reference import in_logits_layout, reference

TOLERANCE = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 1e-5, "float64": 1e-12}
"""Largest error of a probability, by the head's element type. For log-probabilities below −1 it is relative."""
LOGIT_ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-23, "float64": 2.0**-52}
"""Relative error that z / T cannot be better than: T and the quotient are rounded, each by half a unit in the last
place; and half-precision logits are themselves rounded, or not, as the runtime fuses the casts."""


class HeadComparison:
    """One head's output against the reference: running totals over batches."""

    def __init__(self, original: ModelFile, patched: ModelFile, entry: CalibratedHead) -> None:
        self.head = recorded_head(original, entry)
        self.output = entry.output_name or self.head.output
        if self.output not in {value.name for value in patched.graph.output}:
            raise ModelError(
                f"{patched.name} has no output '{self.output}', which its calibration is for",
                hint="its outputs were renamed since: patch the original again",
            )
        self.temperature = float(entry.calibration["temperature"])
        self.moves = transpositions(GraphView(original), self.head)
        self.max_abs_error, self.max_error = 0.0, 0.0
        self.worst = "nowhere"
        self.limit = TOLERANCE[self.head.dtype]
        self.argmax_changed = self.argmax_wrong = 0

    @property
    def taps(self) -> list[str]:
        """Tensors of the original model that the comparison needs."""
        return [self.head.logits, *(move.tensor for move in self.moves)]

    def update(self, tensors: Mapping[str, Any], output: NDArray[Any], feed: Feed, first: int) -> None:
        """Take in one batch: tensors of the original by name, and the patched model's output."""
        logits = tensors[self.head.logits]
        expected = reference(logits, self.head, self.temperature)
        got = in_logits_layout(output, logits.shape, self.moves, tensors)
        logits, expected, got = (whole_samples(array, feed, self.head) for array in (logits, expected, got))
        if output.dtype.name in TOLERANCE:
            self.limit = max(self.limit, TOLERANCE[output.dtype.name])
        finite = np.abs(logits[np.isfinite(logits)].astype(np.float64))
        if finite.size:
            # |∂p/∂z| ≤ 1/4 and two logits count, |∂ log p/∂z| ≤ 1 and two count
            slope = 2.0 if self.head.activation == "log_softmax" else 0.5
            rounding = slope * LOGIT_ROUNDING[self.head.dtype] * float(finite.max()) / self.temperature
            self.limit = max(self.limit, rounding)
        difference = np.where(got == expected, 0.0, np.abs(got - expected))
        difference = np.where(np.isnan(difference), np.inf, difference)
        relative = difference
        if self.head.activation == "log_softmax":
            relative = difference / np.maximum(1.0, np.abs(np.where(np.isfinite(expected), expected, 1.0)))
        if relative.size and relative.max() > self.max_error:
            at = np.unravel_index(int(relative.argmax()), relative.shape)
            position = ", ".join(str(int(i)) for i in at)
            self.worst = f"at [{position}] of the batch from sample {first}: {got[at]:.9g}, not {expected[at]:.9g}"
            self.max_error = float(relative.max())
        self.max_abs_error = max(self.max_abs_error, float(difference.max(initial=0.0)))
        self._count_flips(logits, expected, got)

    def checks(self) -> tuple[Check, Check]:
        """The finding on the values, and on the predicted classes."""
        kind = "log-probabilities" if self.head.activation == "log_softmax" else "probabilities"
        passed = self.max_error <= self.limit
        detail = f"largest error {self.max_error:.2g} (limit {self.limit:.2g})"
        if self.max_error > 0:
            detail += f", {self.worst}; minimum required tolerance {self.max_error:.3g}"
        flips = f"{self.argmax_changed} changed" + (" by rounding alone" if self.argmax_changed else "")
        if self.argmax_wrong:
            flips = f"{self.argmax_changed} changed, {self.argmax_wrong} of them by more than rounding"
        return (
            Check(f"{kind} of '{self.output}'", passed, self.max_error, self.limit, detail),
            Check(f"arg max of '{self.output}'", self.argmax_wrong == 0, float(self.argmax_wrong), 0.0, flips),
        )

    def notes(self) -> tuple[str, ...]:
        """Where half precision cannot do what is promised of it."""
        promised = TOLERANCE[self.head.dtype]
        if self.head.dtype not in ("float16", "bfloat16") or not promised < self.max_error <= self.limit:
            return ()
        return (
            f"the {self.head.dtype} logits of '{self.head.output}' are too large for their precision: probabilities "
            f"are within {self.max_error:.2g} of the reference, not {promised:g}",
        )

    def _count_flips(self, logits: NDArray[Any], expected: NDArray[np.float64], got: NDArray[Any]) -> None:
        """Predictions that differ from those of the raw logits; a tie within the tolerance is no error."""
        if self.head.task != "multiclass":
            flipped = (logits > 0) != (got > 0.5)
            self.argmax_wrong += int((flipped & (np.abs(expected - 0.5) > self.limit)).sum())
            self.argmax_changed += int(flipped.sum())
            return
        rows = [
            logit_rows(np.asarray(a, np.float64), "multiclass", self.head.axis, flatten=self.head.flatten)
            for a in (logits, expected, got)
        ]
        before, after = rows[0].argmax(axis=1), rows[2].argmax(axis=1)
        index = np.arange(len(before))
        gap = rows[1][index, before] - rows[1][index, after]
        scale = np.maximum(1.0, np.abs(rows[1][index, before]))
        self.argmax_wrong += int((gap > 2 * self.limit * scale).sum())
        self.argmax_changed += int((before != after).sum())


def recorded_head(original: ModelFile, entry: CalibratedHead) -> Head:
    """The head of the unpatched model that a calibration was put before."""
    told = entry.head
    return find_head(original, told["output"], Hints(told["task"], told["axis"], told["activation"]))
