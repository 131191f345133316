"""One head of the patched model against the reference, batch by batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.errors import DataError, ModelError
from onnxcal.graph.head import Head, Rounded
from onnxcal.graph.metadata import CalibratedHead
from onnxcal.graph.modelfile import ModelFile
from onnxcal.inference.expected import activated, expected_output, logits_of, output_array
from onnxcal.inference.feeds import Feed
from onnxcal.inference.recognition import (
    RECOGNITION_TOLERANCE,
    recognition_error,
    tensors_to_recognise,
    unrecognised,
)
from onnxcal.inference.samples import whole_samples
from onnxcal.rows import logit_rows
from onnxcal.verification.checks import Check
from onnxcal.verification.half import DAMAGE, SAMPLED, float16_error

TOLERANCE = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 1e-5, "float64": 1e-12}
"""Largest error of a probability, by the head's element type. For log-probabilities below −1 it is relative."""
LOGIT_ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-23, "float64": 2.0**-52}
"""Relative error that z / T cannot be better than: T and the quotient are rounded, each by half a unit in the last
place; and half-precision logits are themselves rounded, or not, as the runtime fuses the casts."""


@dataclass(frozen=True)
class _Worst:
    """The value that is furthest from the reference, less what rounding explains."""

    error: float = 0.0
    rounding: float = 0.0
    place: str = ""

    def or_worse(
        self,
        error: NDArray[np.float64],
        rounding: NDArray[np.float64],
        got: NDArray[Any],
        expected: NDArray[np.float64],
        first: int,
    ) -> _Worst:
        """This one, or the worst of a batch whose samples begin at `first`."""
        if error.size == 0:
            return self
        rounding = np.broadcast_to(rounding, error.shape)
        excess = error - rounding
        at = np.unravel_index(int(excess.argmax()), excess.shape)
        if excess[at] <= self.error - self.rounding and self.place:
            return self
        position = ", ".join(str(int(i)) for i in at)
        place = f"at [{position}] of the batch from sample {first}: {got[at]:.9g}, not {expected[at]:.9g}"
        return _Worst(float(error[at]), float(rounding[at]), place)


class HeadComparison:
    """One head's output against the reference: running totals over batches."""

    def __init__(
        self,
        original: ModelFile,
        patched: ModelFile,
        entry: CalibratedHead,
        head: Head,
        *,
        tolerance: float | None = None,
        keep_rows: bool = False,
    ) -> None:
        """`tolerance` instead of the element type's; `keep_rows` of the output for `kept_rows`."""
        self.head, self.entry = head, entry
        self.original = original.name
        self.chosen = head.output == entry.head["output"]
        self.output = (entry.output_name if self.chosen else None) or head.output
        if self.output not in {value.name for value in patched.graph.output}:
            raise ModelError(
                f"{patched.name} has no output '{self.output}', which its calibration is for",
                hint="its outputs were renamed since: patch the original again",
            )
        self.temperature = float(entry.calibration["temperature"])
        steps = sum(step.scale for step in self.head.trail if isinstance(step, Rounded))
        self.given = tolerance
        self.tolerance = TOLERANCE[self.head.precision] + steps  # a value between two steps goes either way
        if tolerance is not None:
            self.tolerance = tolerance
        self.rows: list[NDArray[Any]] | None = [] if keep_rows else None
        self.float16_error, self.largest, self._simulated = 0.0, 0.0, 0
        self.max_abs_error = 0.0
        self.worst = _Worst()
        self.argmax_changed = self.argmax_wrong = 0
        self.flip_excess = 0.0
        self.unrecognised = 0.0

    @property
    def taps(self) -> list[str]:
        """Tensors of the original model, besides the logits, that the comparison needs."""
        return tensors_to_recognise(self.head)

    def update(
        self, logits: NDArray[Any], tensors: Mapping[str, Any], output: Any, feed: Feed, first: int, batch_axis: int
    ) -> None:
        """Take in one batch: logits and tensors of the original by name, and the patched model's output."""
        logits = logits_of(logits, self.head)
        expected = expected_output(logits, self.head, self.temperature, tensors)
        got = output_array(output, self.head)
        self.unrecognised = max(self.unrecognised, recognition_error(logits, self.head, tensors))
        if self.unrecognised > RECOGNITION_TOLERANCE:
            raise unrecognised(self.head, self.original, self.unrecognised)
        if got.dtype.name in TOLERANCE and self.given is None:
            self.tolerance = max(self.tolerance, TOLERANCE[got.dtype.name])
        before = output_array(tensors[self.head.output], self.head).shape
        if got.size != expected.values.size or (got.shape != before and self.head.activation != "none"):
            raise DataError(
                f"output '{self.output}' has shape {got.shape} where {before} is expected",
                hint="this is a bug in onnxcal: please report the model",
            )
        got = got.reshape(expected.values.shape).astype(np.result_type(got.dtype, np.float64))
        counts = np.isin(expected.source, whole_samples(_positions(logits), feed, self.head, batch_axis))
        with np.errstate(invalid="ignore"):  # -inf - -inf, where the two are equal
            error = np.where((got == expected.values) | ~counts, 0.0, np.abs(got - expected.values))
        error = np.where(np.isnan(error), np.inf, error)
        self.max_abs_error = max(self.max_abs_error, float(error.max(initial=0.0)))
        inner = activated(logits, self.head, self.temperature)
        rounding = self._rounding(logits, inner)
        outer = np.broadcast_to(rounding, logits.shape).reshape(-1)[expected.source]
        if self.head.activation == "log_softmax":
            scale = np.maximum(1.0, np.abs(np.where(np.isfinite(expected.values), expected.values, 1.0)))
            error, outer = error / scale, outer / scale
        self.worst = self.worst.or_worse(error, outer, got, expected.values, first)
        values = np.full(logits.size, np.nan)
        direct = ~expected.negated
        values[expected.source[direct]] = got[direct]
        parts = (logits, inner, values.reshape(logits.shape), np.broadcast_to(rounding, logits.shape))
        z, p, shown, near = (whole_samples(part, feed, self.head, batch_axis) for part in parts)
        self._count_flips(z, p, shown, near)
        self._look_ahead(z, p)
        if self.rows is not None:
            self.rows.append(logit_rows(shown, self.head.task, self.head.axis, flatten=self.head.flatten))

    def checks(self) -> tuple[Check, ...]:
        """The finding on the values, on the predicted classes, and on the head as it stands."""
        kind = "log-probabilities" if self.head.activation == "log_softmax" else "probabilities"
        worst = self.worst
        limit = self.tolerance + worst.rounding
        detail = f"largest error {worst.error:.2g} (limit {limit:.2g})"
        if worst.error > 0:
            detail += f", {worst.place}; minimum required tolerance {self.needed_tolerance:.3g}"
        cause = "rounding" if self.given is None else "the tolerance"
        flips = f"{self.argmax_changed} changed"
        if self.argmax_wrong:
            flips += f", {self.argmax_wrong} of them by more than {cause}"
        elif self.argmax_changed:
            flips += " by rounding alone" if self.given is None else ", none of them by more than the tolerance"
        return (
            Check(f"{kind} of '{self.output}'", worst.error <= limit, worst.error, limit, detail),
            Check(f"arg max of '{self.output}'", self.argmax_wrong == 0, float(self.argmax_wrong), 0.0, flips),
            Check(
                f"head '{self.head.output}'",
                self.unrecognised <= RECOGNITION_TOLERANCE,
                self.unrecognised,
                RECOGNITION_TOLERANCE,
                f"unpatched, it is the {self.head.activation} of its logits to within {self.unrecognised:.2g}"
                if self.head.activation != "none"
                else "unpatched, it holds the logits",
            ),
        )

    @property
    def needed_tolerance(self) -> float:
        """The least tolerance that the values pass with."""
        return max(self.worst.error - self.worst.rounding, 0.0)

    def kept_rows(self) -> NDArray[np.float64] | None:
        """(N, K) or (N,): the output in the order of the logits; None if it was not kept, or shows not all of them."""
        rows = np.concatenate(self.rows) if self.rows else None
        return None if rows is None or np.isnan(rows).any() else rows

    def float16_note(self) -> tuple[str, ...]:
        """What a later conversion to float16 would do, where that is more than rounding."""
        if self.float16_error <= DAMAGE or not self.chosen:
            return ()
        return (
            f"converted to float16 later, '{self.output}' would be off by up to {self.float16_error:.2g}: T = "
            f"{self.temperature:.4g}, and logits / T of up to {self.largest:.3g}, are too coarse there; leave in "
            "float32 what makes the logits, and what onnxcal inspect --json lists as nodes_to_exclude",
        )

    def _look_ahead(self, logits: NDArray[Any], expected: NDArray[np.float64]) -> None:
        """Simulate a conversion to float16 on the first samples; half-precision heads are divided in float32."""
        if self._simulated >= SAMPLED or self.head.precision not in ("float32", "float64"):
            return
        self._simulated += len(logits)
        self.float16_error = max(self.float16_error, float16_error(logits, self.head, self.temperature, expected))
        finite = np.abs(logits[np.isfinite(logits)])
        self.largest = max(self.largest, float(finite.max(initial=0.0)) / self.temperature)

    def notes(self) -> tuple[str, ...]:
        """Where half precision cannot do what is promised of it, and what is odd about T."""
        notes = self._flips() + self._set_by_hand()
        limit = self.tolerance + self.worst.rounding
        if self.head.precision not in ("float16", "bfloat16") or not self.tolerance < self.worst.error <= limit:
            return notes
        return (
            *notes,
            f"the {self.head.precision} logits of '{self.head.output}' are too large for their precision: "
            f"probabilities are within {self.worst.error:.2g} of the reference, not {self.tolerance:g}",
        )

    def _flips(self) -> tuple[str, ...]:
        """Folded weights are rounded anew, which a division is not; with a tolerance it may be another rounding."""
        if self.entry.form != "folded" or not self.argmax_changed or self.argmax_wrong or not self.chosen:
            return ()
        if self.given is not None:
            return ()
        return (
            f"with T in the weights, {self.argmax_changed:,} prediction{'s' * (self.argmax_changed != 1)} of "
            f"'{self.output}' changed, between classes whose "
            "probabilities are the same to within the tolerance",
        )

    def _set_by_hand(self) -> tuple[str, ...]:
        before = self.entry.calibration.get("replaced")
        if before is None or not self.chosen:
            return ()
        return (f"T = {self.temperature:.5g} of '{self.output}' was set by hand; before that it was {before:.5g}",)

    def _rounding(self, logits: NDArray[Any], expected: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far each value may be off because z / T itself is rounded.

        With every logit of a row off by at most δ, log p_k moves by at most min(2δ, (1 − p_k)(e^2δ − 1)), and p_k by
        at most p_k (1 − p_k)(e^2δ − 1): nothing where the softmax is saturated, however large the logits are.
        """
        size = np.abs(np.where(np.isfinite(logits), logits, 0.0).astype(np.float64)) / self.temperature
        if self.head.task == "multiclass":
            axes = tuple(range(self.head.axis, size.ndim)) if self.head.flatten else (self.head.axis,)
            size = size.max(axis=axes, keepdims=True)
        twice = 2 * LOGIT_ROUNDING[self.head.precision] * size
        growth = np.expm1(np.minimum(twice, 50.0))
        if self.head.activation == "log_softmax":
            return np.asarray(np.minimum(twice, -np.expm1(expected) * growth))
        return np.asarray(expected * (1 - expected) * growth)

    def _count_flips(
        self,
        logits: NDArray[Any],
        expected: NDArray[np.float64],
        got: NDArray[Any],
        rounding: NDArray[np.float64],
    ) -> None:
        """Predictions that differ from those of the raw logits; a tie within the tolerance is no error."""
        if self.head.task != "multiclass":
            flipped = ((logits > 0) != (got > 0.5)) & ~np.isnan(got)
            excess = np.where(flipped, np.abs(expected - 0.5) - self.tolerance - rounding, 0.0)
            self.argmax_wrong += int((excess > 0).sum())
            self.flip_excess = max(self.flip_excess, float(excess.max(initial=0.0)))
            self.argmax_changed += int(flipped.sum())
            return
        rows = [
            logit_rows(np.asarray(array, np.float64), "multiclass", self.head.axis, flatten=self.head.flatten)
            for array in (logits, expected, got, np.broadcast_to(rounding, expected.shape))
        ]
        whole = ~np.isnan(rows[2]).any(axis=1)  # elsewhere not all classes are in the output
        rows = [row[whole] for row in rows]
        before, after = rows[0].argmax(axis=1), rows[2].argmax(axis=1)
        index = np.arange(len(before))
        gap = rows[1][index, before] - rows[1][index, after]
        scale = np.maximum(1.0, np.abs(rows[1][index, before]))
        allowed = scale * (2 * self.tolerance + rows[3][index, before] + rows[3][index, after])
        self.argmax_wrong += int((gap > allowed).sum())
        self.flip_excess = max(self.flip_excess, float(((gap - allowed) / (2 * scale)).max(initial=0.0)))
        self.argmax_changed += int((before != after).sum())


def _positions(tensor: NDArray[Any]) -> NDArray[np.int64]:
    """A number for each element, in its shape."""
    return np.arange(tensor.size).reshape(tensor.shape)
