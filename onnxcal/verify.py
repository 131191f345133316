"""The checks that let a patched model be called calibrated: it is run, and held against a reference in float64.

The reference is written here apart from the fit and the patch: it knows neither, only logits, T and the activation.
"""

from __future__ import annotations

import filecmp
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxcal.data import Source, open_source
from onnxcal.errors import ModelError, VerificationError
from onnxcal.graph.detect import find_head
from onnxcal.graph.external import external_locations
from onnxcal.graph.head import Head
from onnxcal.graph.metadata import CalibratedHead, calibrated_heads
from onnxcal.graph.modelfile import ModelFile, ModelLike, open_model
from onnxcal.graph.moves import Transposition, transpositions
from onnxcal.graph.patch import unpatched
from onnxcal.graph.tails import Hints
from onnxcal.graph.view import GraphView
from onnxcal.inference.collect import DEFAULT_BATCH_SIZE, Progress, RunOptions, prefetched, whole_samples
from onnxcal.inference.feeds import Feed, Feeder
from onnxcal.inference.session import Session, open_session
from onnxcal.logits import logit_rows

TOLERANCE = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 1e-5, "float64": 1e-12}
"""Largest error of a probability, by the head's element type. For log-probabilities below −1 it is relative."""
LOGIT_ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-23, "float64": 2.0**-52}
"""Relative error that z / T cannot be better than: T and the quotient are rounded, each by half a unit in the last
place; and half-precision logits are themselves rounded, or not, as the runtime fuses the casts."""


@dataclass(frozen=True)
class Check:
    """One thing that was checked."""

    name: str
    """What: `checker`, `probabilities of 'probs'`, `arg max of 'probs'`, `other outputs`, `untouched bytes`."""
    passed: bool
    """Whether it held."""
    value: float | None
    """What was measured, in the unit of `limit`; None where there is nothing to measure."""
    limit: float | None
    """What would just have passed."""
    detail: str
    """The finding, in words: where the largest error is, which tolerance would have passed."""


@dataclass(frozen=True)
class RuntimeCheck:
    """How one runtime did on the data."""

    name: str
    """The runtime."""
    version: str
    """Its version."""
    passed: bool
    """Whether its numbers are within tolerance."""
    max_abs_error: float
    """Largest difference from the reference."""
    argmax_changed: int
    """Samples whose predicted class differs from that of the unpatched logits."""
    n_samples: int
    """Samples that were run."""


@dataclass(frozen=True)
class Verification:
    """The patched model, run for real, held against the reference."""

    passed: bool
    """Whether every check held."""
    runtimes: tuple[RuntimeCheck, ...]
    """One entry a runtime."""
    checks: tuple[Check, ...]
    """Every check, in the order in which they were made."""

    def raise_if_failed(self) -> None:
        """Raise VerificationError, with the first check that did not hold, unless all did."""
        failed = [check for check in self.checks if not check.passed]
        if failed:
            raise VerificationError(
                f"FAILED: {failed[0].name}: {failed[0].detail}",
                hint="the output was not written; rerun with -v for all checks, and report the model if it is sound",
            )


@dataclass(frozen=True)
class VerifyResult:
    """What `verify` found."""

    verification: Verification
    """The checks."""
    warnings: tuple[str, ...] = ()
    """Casts that were made, and the like."""


def verify(
    model: ModelLike,
    patched: ModelLike,
    data: Any,
    *,
    labels: Any = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    provider: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> VerifyResult:
    """Run a patched model and the one it was made from over data, and check that it is what its calibration says.

    Parameters
    ----------
    model : the model that was patched (or one of its patched forms).
    patched : the file that `patch` or `calibrate` wrote.
    data, labels : see `onnxcal.data.open_source`; labels are not needed.
    batch_size, provider, threads : how onnxruntime runs both.
    progress : called after each batch with what is done, the samples so far, and their number where it is known.

    Returns
    -------
    VerifyResult; a failed check is no exception here, see `Verification.raise_if_failed`.

    Raises
    ------
    ModelError
        `patched` carries no calibration, or one of them cannot be run.
    DataError
        The data do not fit the model.
    """
    source = open_source(data, labels)
    options = RunOptions(batch_size, provider, threads)
    verification, notes = verify_file(open_model(model), open_model(patched), source, options, progress)
    return VerifyResult(verification, notes)


def verify_file(
    model: ModelFile, patched: ModelFile, source: Source, options: RunOptions, progress: Progress | None = None
) -> tuple[Verification, tuple[str, ...]]:
    """`verify` for files and data that are open already; also returns what was cast."""
    entries = calibrated_heads(patched)
    if not entries:
        raise ModelError(
            f"{patched.name} carries no calibration: onnxcal did not patch it",
            hint="pass the original first and the file that onnxcal wrote second",
        )
    original = unpatched(model)
    run = _Run(original, patched, [HeadComparison(original, patched, entry) for entry in entries], options)
    run.over(source, progress)
    checks = (check_untouched(original, patched), check_checker(original, patched), *run.checks())
    notes = (*run.notes, *(note for comparison in run.comparisons for note in comparison.notes()))
    return Verification(all(check.passed for check in checks), (run.runtime(),), checks), notes


def check_untouched(original: ModelFile, patched: ModelFile) -> Check:
    """Without its patch, the patched file is the original byte for byte; so is its external data."""
    name = "untouched bytes"
    try:
        same = unpatched(patched).sha256 == original.sha256
    except ModelError as error:
        return Check(name, False, None, None, error.message)
    if not same:
        return Check(name, False, None, None, "without its patch the file is not the original byte for byte")
    for location in external_locations(original):
        ours, theirs = (None if file.folder is None else file.folder / location for file in (patched, original))
        if ours is None or theirs is None or not filecmp.cmp(ours, theirs, shallow=False):
            return Check(name, False, None, None, f"external data '{location}' differ")
    return Check(name, True, None, None, "without its patch the file is the original byte for byte")


def check_checker(original: ModelFile, patched: ModelFile) -> Check:
    """onnx.checker says nothing of the patched model that it does not say of the original."""
    complaint = _checker_complaint(patched)
    if complaint is None:
        return Check("onnx.checker", True, None, None, "the patched model is well formed")
    if _checker_complaint(original) is not None:
        return Check("onnx.checker", True, None, None, f"the original already fails: {complaint}")
    return Check("onnx.checker", False, None, None, f"the original passes, the patched model fails: {complaint}")


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


class _Run:
    """Both models over the data, batch by batch."""

    def __init__(
        self, original: ModelFile, patched: ModelFile, comparisons: Sequence[HeadComparison], options: RunOptions
    ) -> None:
        self.comparisons = comparisons
        self.original, self.options = original, options
        calibrated = {c.head.output for c in comparisons} | {c.output for c in comparisons}
        self.others = [o.name for o in original.graph.output if o.name not in calibrated]
        self.derived = GraphView(original).depend_on([_activated(original, c.head) for c in comparisons])
        taps = list(dict.fromkeys(tap for c in comparisons for tap in c.taps))
        self.taps = list(dict.fromkeys([*taps, *self.others]))
        self.before = open_session(original, tap=taps, provider=options.provider, threads=options.threads)
        self.after = open_session(patched, provider=options.provider, threads=options.threads)
        self.notes: dict[str, None] = {}
        self.n_samples = 0
        self.differing: dict[str, int] = {}

    def over(self, source: Source, progress: Progress | None) -> None:
        """Run both models over all data."""
        feeder = Feeder(self.before.inputs, source, self.options.batch_size)
        outputs = [c.output for c in self.comparisons] + self.others
        for feed in prefetched(feeder.feeds()):
            tensors = dict(zip(self.taps, self.before.run(feed.arrays, self.taps), strict=True))
            results = self.after.run(feed.arrays, outputs)
            for comparison, output in zip(self.comparisons, results, strict=False):
                comparison.update(tensors, output, feed, self.n_samples)
            for name, result in zip(self.others, results[len(self.comparisons) :], strict=True):
                if not self._unchanged(name, tensors[name], result, feed):
                    self.differing.setdefault(name, self.n_samples)
            self.n_samples += feed.size
            if progress is not None:
                progress("verifying", self.n_samples, source.n_samples)
        self.notes = feeder.notes

    def checks(self) -> list[Check]:
        """What running showed."""
        checks = [check for comparison in self.comparisons for check in comparison.checks()]
        if self.others:
            listed = ", ".join(f"'{name}' (from sample {first})" for name, first in self.differing.items())
            same = f"{', '.join(repr(name) for name in self.others)}: unchanged"
            checks.append(
                Check(
                    "other outputs",
                    not self.differing,
                    float(len(self.differing)),
                    0.0,
                    f"changed: {listed}" if listed else same,
                )
            )
        return checks

    def runtime(self) -> RuntimeCheck:
        """onnxruntime's entry."""
        return RuntimeCheck(
            name="onnxruntime",
            version=self.after.version,
            passed=all(check.passed for check in self.checks()),
            max_abs_error=max(c.max_abs_error for c in self.comparisons),
            argmax_changed=sum(c.argmax_changed for c in self.comparisons),
            n_samples=self.n_samples,
        )

    def _unchanged(self, name: str, before: Any, after: Any, feed: Feed) -> bool:
        """Bit for bit; numbers that the graph computes from the calibrated probabilities may move, labels may not."""
        if name in self.derived and _is_float(before):
            return True
        if _same_bits(before, after):
            return True
        # Taking the logits out as an output may keep onnxruntime from fusing operators: ask the file itself.
        untapped = self._untapped.run(feed.arrays, [name])[0]
        return _same_bits(untapped, after)

    @cached_property
    def _untapped(self) -> Session:
        return open_session(self.original, provider=self.options.provider, threads=self.options.threads)


def recorded_head(original: ModelFile, entry: CalibratedHead) -> Head:
    """The head of the unpatched model that a calibration was put before."""
    told = entry.head
    return find_head(original, told["output"], Hints(told["task"], told["axis"], told["activation"]))


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


def _activated(original: ModelFile, head: Head) -> str:
    return head.output if head.node is None else original.graph.node[head.node].output[0]


def _is_float(value: Any) -> bool:
    return not isinstance(value, np.ndarray) or value.dtype.kind == "f"


def _same_bits(before: Any, after: Any) -> bool:
    if isinstance(before, np.ndarray) and isinstance(after, np.ndarray):
        if before.dtype != after.dtype or before.shape != after.shape:
            return False
        return bool((before == after).all()) if before.dtype == object else before.tobytes() == after.tobytes()
    return bool(before == after)


def _checker_complaint(model: ModelFile) -> str | None:
    try:
        onnx.checker.check_model(os.fspath(model.path) if model.path is not None else model.to_bytes())
    except Exception as error:  # ValidationError, or whatever the C++ side throws
        return str(error).strip().splitlines()[0][:200]
    return None
