"""Both models over the data, batch by batch: the original for the reference, the patched one for what it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.data import Source
from onnxcal.graph.detect import changed_first
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.view import GraphView
from onnxcal.inference.collect import Progress
from onnxcal.inference.feeds import Feed, Feeder
from onnxcal.inference.options import RunOptions
from onnxcal.inference.prefetch import prefetched
from onnxcal.inference.session import Session, open_session
from onnxcal.verification.checks import Check, RuntimeCheck
from onnxcal.verification.fed import TemperatureInput
from onnxcal.verification.head import HeadComparison
from onnxcal.verification.reference import Reference, Seen


class BothModels:
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
        self.casts: dict[str, None] = {}
        self.inputs = [
            TemperatureInput(original, patched, c) for c in comparisons if c.chosen and c.entry.form == "input"
        ]
        self.n_samples = 0
        self.differing: dict[str, int] = {}
        self.moved: dict[str, None] = {}

    def over(self, source: Source, progress: Progress | None) -> None:
        """Run both models over all data."""
        feeder = Feeder(self.reference.inputs, source, self.options.batch_size)
        outputs = [c.output for c in self.comparisons] + self.others
        for feed in prefetched(feeder.feeds()):
            seen = self.reference.run(feed)
            arrays = self.as_wanted(feed.arrays)
            results = self.after.run(arrays, outputs)
            for comparison, z, output, axis in zip(
                self.comparisons, seen.logits, results, seen.batch_axes, strict=False
            ):
                comparison.update(z, seen.tensors, output, feed, self.n_samples, axis)
            if self.n_samples == 0 and self.inputs:
                self._feed_temperatures(arrays, seen, feed)
            for name, result in zip(self.others, results[len(self.comparisons) :], strict=True):
                if not self._unchanged(name, seen.tensors[name], result, feed):
                    self.differing.setdefault(name, self.n_samples)
            self.n_samples += feed.size
            if progress is not None:
                progress("verifying", self.n_samples, source.n_samples)
        self.notes = dict(feeder.notes) | self.casts
        for name in self.moved:
            self.notes[f"output '{name}' is computed from what was calibrated, and changes with it"] = None

    def checks(self) -> list[Check]:
        """What running showed."""
        checks = [check for comparison in self.comparisons for check in comparison.checks()]
        checks += [entry.check() for entry in self.inputs]
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

    def as_wanted(self, arrays: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Inputs in the float types of the patched model, which a conversion may have changed."""
        wanted = {entry.name: entry.dtype for entry in self.after.inputs}
        cast = {
            name: array.astype(wanted[name])
            for name, array in arrays.items()
            if name in wanted and array.dtype.kind == "f" and array.dtype.name != wanted[name]
        }
        for name in cast:
            self.casts[f"input '{name}' was cast to {wanted[name]}, which the changed file wants"] = None
        return {**arrays, **cast}

    def _feed_temperatures(self, arrays: Mapping[str, NDArray[Any]], seen: Seen, feed: Feed) -> None:
        """Run one batch with other temperatures than the default ones."""
        fed = {entry.name: entry.value for entry in self.inputs if entry.is_there}
        outputs = [entry.comparison.output for entry in self.inputs]
        results = self.after.run({**arrays, **fed}, outputs)
        for entry, result in zip(self.inputs, results, strict=True):
            at = self.comparisons.index(entry.of)
            entry.comparison.update(seen.logits[at], seen.tensors, result, feed, 0, seen.batch_axes[at])

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
