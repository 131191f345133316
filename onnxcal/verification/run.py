"""`verify`: every check of a patched model, the file's and those of running it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from onnxcal.data import Source
from onnxcal.errors import ModelError
from onnxcal.graph.detect import candidates, changed_first
from onnxcal.graph.metadata import CalibratedHead, calibrated_heads
from onnxcal.graph.modelfile import ModelFile, ModelLike, open_model
from onnxcal.graph.patch import unpatched
from onnxcal.graph.remade import recorded_head
from onnxcal.graph.view import GraphView
from onnxcal.inference.collect import Progress
from onnxcal.inference.feeds import Feed, Feeder
from onnxcal.inference.options import DEFAULT_BATCH_SIZE, BatchSize, RunOptions, run_options
from onnxcal.inference.prefetch import prefetched
from onnxcal.inference.session import Session, open_session
from onnxcal.inference.sources import source_for
from onnxcal.verification.checks import Check, RuntimeCheck, Verification, VerifyResult
from onnxcal.verification.file import check_checker, check_untouched
from onnxcal.verification.head import HeadComparison
from onnxcal.verification.reference import Reference
from onnxcal.verification.runtimes import (
    DEFAULT_SAMPLES,
    DEFAULT_TIMEOUT,
    RuntimeOptions,
    check_runtimes,
    runtime_options,
)


def verify(
    model: ModelLike,
    patched: ModelLike,
    data: Any,
    *,
    labels: Any = None,
    preprocess: Any = None,
    label_column: str | None = None,
    runtime: str | Sequence[str] = (),
    runtime_samples: int = DEFAULT_SAMPLES,
    runtime_timeout: float = DEFAULT_TIMEOUT,
    batch_size: BatchSize = DEFAULT_BATCH_SIZE,
    provider: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> VerifyResult:
    """Run a patched model and the one it was made from over data, and check that it is what its calibration says.

    Parameters
    ----------
    model : the model that was patched (or one of its patched forms).
    patched : the file that `patch` or `calibrate` wrote.
    data, labels, preprocess, label_column : see `onnxcal.data.open_source`; labels are not needed.
    runtime : names of other runtimes to run both in, too, or `"all"` for those that are installed.
    runtime_samples : how many samples each of these runs, the first ones.
    runtime_timeout : seconds that each has for loading a model, for a batch, and for all of them.
    batch_size : samples a run, or `"auto"` for as many as run fastest.
    provider, threads : how onnxruntime runs both.
    progress : called after each batch with what is done, the samples so far, and their number where it is known.

    Returns
    -------
    VerifyResult; a failed check is no exception here, see `Verification.raise_if_failed`.

    Raises
    ------
    UsageError
        A runtime is not known or not installed.
    ModelError
        `patched` carries no calibration, or one of them cannot be run.
    DataError
        The data do not fit the model.
    """
    wanted, absent = runtime_options(runtime, runtime_samples, runtime_timeout)
    file = open_model(model)
    source = source_for(file, None, data, labels, preprocess=preprocess, label_column=label_column)
    options, chosen = run_options(file, source, batch_size, provider, threads)
    verification, notes = verify_file(file, open_model(patched), source, options, wanted, progress)
    return VerifyResult(verification, (*chosen, *absent, *notes))


def verify_file(
    model: ModelFile,
    patched: ModelFile,
    source: Source,
    options: RunOptions,
    wanted: RuntimeOptions | None = None,
    progress: Progress | None = None,
) -> tuple[Verification, tuple[str, ...]]:
    """`verify` for files and data that are open already; also returns what was cast."""
    entries = calibrated_heads(patched)
    if not entries:
        raise ModelError(
            f"{patched.name} carries no calibration: onnxcal did not patch it",
            hint="pass the original first and the file that onnxcal wrote second",
        )
    original = unpatched(model)
    comparisons = [
        HeadComparison.recorded(original, patched, entry, recorded_head(original, entry)) for entry in entries
    ]
    run = _Run(original, patched, [*comparisons, *_siblings(original, patched, entries, comparisons)], options)
    run.over(source, progress)
    others = check_runtimes(original, patched, run.comparisons, source, options, wanted or RuntimeOptions(), progress)
    checks = (
        check_untouched(original, patched),
        check_checker(original, patched),
        *run.checks(),
        *(entry.as_check() for entry in others if entry.counts),
    )
    notes = (*run.notes, *(note for comparison in run.comparisons for note in comparison.notes()))
    return Verification(all(check.passed for check in checks), (run.runtime(), *others), checks), notes


def _siblings(
    original: ModelFile,
    patched: ModelFile,
    entries: Sequence[CalibratedHead],
    comparisons: Sequence[HeadComparison],
) -> Iterator[HeadComparison]:
    """Other outputs that show a calibrated head too: one class each, or its logarithm."""
    taken = {comparison.head.output for comparison in comparisons}
    for candidate in candidates(original):
        head = candidate.head
        if head is None or head.output in taken or head.activation == "none":
            continue
        for entry, comparison in zip(entries, comparisons, strict=True):
            if head.shares_calibration(comparison.head):
                yield HeadComparison.recorded(original, patched, entry, head)
                break


class _Run:
    """Both models over the data, batch by batch."""

    def __init__(
        self, original: ModelFile, patched: ModelFile, comparisons: Sequence[HeadComparison], options: RunOptions
    ) -> None:
        self.comparisons = comparisons
        self.original, self.options = original, options
        calibrated = {c.head.output for c in comparisons} | {c.output for c in comparisons}
        self.others = [o.name for o in original.graph.output if o.name not in calibrated]
        self.derived = GraphView(original).depend_on(changed_first(original, [c.head for c in comparisons]))
        self.reference = Reference(original, comparisons, options, taps=self.others)
        self.after = open_session(patched, provider=options.provider, threads=options.threads)
        self.notes: dict[str, None] = {}
        self.n_samples = 0
        self.differing: dict[str, int] = {}
        self.moved: dict[str, None] = {}

    def over(self, source: Source, progress: Progress | None) -> None:
        """Run both models over all data."""
        feeder = Feeder(self.reference.inputs, source, self.options.batch_size)
        outputs = [c.output for c in self.comparisons] + self.others
        for feed in prefetched(feeder.feeds()):
            seen = self.reference.run(feed)
            results = self.after.run(feed.arrays, outputs)
            for comparison, z, axis, output in zip(
                self.comparisons, seen.logits, seen.batch_axes, results, strict=False
            ):
                comparison.update(z, seen.tensors, output, feed, self.n_samples, axis)
            for name, result in zip(self.others, results[len(self.comparisons) :], strict=True):
                if not self._unchanged(name, seen.tensors[name], result, feed):
                    self.differing.setdefault(name, self.n_samples)
            self.n_samples += feed.size
            if progress is not None:
                progress("verifying", self.n_samples, source.n_samples)
        self.notes = dict(feeder.notes)
        for name in self.moved:
            self.notes[f"output '{name}' is computed from what was calibrated, and changes with it"] = None

    def checks(self) -> list[Check]:
        """What running showed."""
        checks = [check for comparison in self.comparisons for check in comparison.checks()]
        if self.others:
            listed = ", ".join(f"'{name}' (from sample {first})" for name, first in self.differing.items())
            kept = [repr(name) for name in self.others if name not in self.moved]
            same = f"{', '.join(kept)}: unchanged" if kept else "computed from what was calibrated"
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
            argmax_changed=sum(c.argmax_changed for c in self.comparisons if c.chosen),
            n_samples=self.n_samples,
        )

    def _unchanged(self, name: str, before: Any, after: Any, feed: Feed) -> bool:
        """Bit for bit; numbers that the graph computes from the calibrated probabilities may move, labels may not."""
        if _same_bits(before, after):
            return True
        if name in self.derived and _is_float(before):
            self.moved[name] = None
            return True
        # Taking the logits out as an output may keep onnxruntime from fusing operators: ask the file itself.
        untapped = self._untapped.run(feed.arrays, [name])[0]
        return _same_bits(untapped, after)

    @cached_property
    def _untapped(self) -> Session:
        return open_session(self.original, provider=self.options.provider, threads=self.options.threads)


def _is_float(value: Any) -> bool:
    return not isinstance(value, np.ndarray) or value.dtype.kind == "f"


def _same_bits(before: Any, after: Any) -> bool:
    if isinstance(before, np.ndarray) and isinstance(after, np.ndarray):
        if before.dtype != after.dtype or before.shape != after.shape:
            return False
        return bool((before == after).all()) if before.dtype == object else before.tobytes() == after.tobytes()
    return bool(before == after)
