"""`--runtime`: the calibrated model in other runtimes, and the unpatched one beside it, to know whose an error is."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from onnxcal.data import Source
from onnxcal.errors import UsageError
from onnxcal.graph.external import external_locations
from onnxcal.graph.modelfile import ModelFile
from onnxcal.inference.collect import Progress
from onnxcal.inference.expected import activated
from onnxcal.inference.feeds import Feed, Feeder
from onnxcal.inference.options import RunOptions
from onnxcal.inference.runtimes.client import RuntimeProcess
from onnxcal.inference.runtimes.registry import choose_runtimes
from onnxcal.inference.runtimes.runtime import Job, Runtime, Setting
from onnxcal.verification.blame import blame
from onnxcal.verification.checks import Blame, RuntimeCheck
from onnxcal.verification.elsewhere import RuntimeComparison
from onnxcal.verification.head import HeadComparison
from onnxcal.verification.reference import Reference
from onnxcal.verification.scores import RuntimeScores
from onnxcal.verification.side import Side, as_logits
from onnxcal.verification.spread import own_spread
from onnxcal.verification.tolerances import Precision, body_precision, runtime_tolerances

DEFAULT_SAMPLES = 1000
DEFAULT_TIMEOUT = 120.0
_ONE_BY_ONE = 64


@dataclass(frozen=True)
class RuntimeOptions:
    """Which other runtimes are asked, and how far."""

    runtimes: tuple[Runtime, ...] = ()
    """Those that are installed, of those that were asked for."""
    named: frozenset[str] = frozenset()
    """Those that were asked for by name: what cannot run them is an error, not only a fact."""
    samples: int = DEFAULT_SAMPLES
    """How many samples each runs at least, from the first on, if there are so many."""
    timeout: float = DEFAULT_TIMEOUT
    """Seconds for loading, for one batch, and after which no other batch is begun."""
    ignore_index: int | None = None
    """Label of samples that do not count for NLL and ECE."""


@dataclass(frozen=True)
class Converted:
    """A model in a runtime's own format."""

    path: Path
    """Its main file; stem `after`."""
    source: Path
    """The .onnx file that it was made from."""
    compressed: bool = False
    """Whether its weights were rounded to float16, on purpose."""


def runtime_options(
    runtime: str | Sequence[str], samples: int, timeout: float, ignore_index: int | None = None
) -> tuple[RuntimeOptions, tuple[str, ...]]:
    """`RuntimeOptions` of what a user asks for, and a note of those that `all` leaves out.

    Raises
    ------
    UsageError
        A runtime is not known or not installed, or a number is out of range.
    """
    if samples < 1 or not 0 < timeout <= 86_400:
        what, value = ("runtime_samples", samples) if samples < 1 else ("runtime_timeout", timeout)
        raise UsageError(f"{what} {value} is out of range", hint="leave it out for the default")
    chosen, notes = choose_runtimes(runtime)
    named = frozenset([runtime] if isinstance(runtime, str) else runtime)
    return RuntimeOptions(chosen, named, samples, timeout, ignore_index), notes


def check_runtimes(
    original: ModelFile,
    patched: ModelFile,
    comparisons: Sequence[HeadComparison],
    source: Source,
    options: RunOptions,
    wanted: RuntimeOptions,
    progress: Progress | None = None,
    converted: Converted | None = None,
) -> tuple[RuntimeCheck, ...]:
    """Run both models in each runtime, in each of its settings.

    Both get the batches that the reference gets. What takes one sample at a time is given one at a time.

    Parameters
    ----------
    original, patched : the unpatched and the calibrated model.
    comparisons : the outputs that are looked at; used as patterns, not changed.
    source : the data.
    options : how onnxruntime runs the unpatched model for the reference.
    converted : what the patched model was converted to, which is run in its place.
    """
    if not wanted.runtimes:
        return ()
    reference = Reference(original, comparisons, options, taps=())
    with tempfile.TemporaryDirectory(prefix="onnxcal-") as folder:
        before = laid_out(original, Path(folder), "before")
        after = laid_out(patched, Path(folder), "after") if converted is None else converted.path
        precision = body_precision(original)
        if converted is not None and converted.compressed and precision == "float32":
            precision = "float16"
        look = _Look(
            original, patched, before, after, comparisons, reference, source, options, wanted, progress, precision,
            None if converted is None else converted.source,
        )  # fmt: skip
        return tuple(look.at(runtime, setting) for runtime in wanted.runtimes for setting in runtime.settings())


@dataclass(frozen=True)
class _Look:
    """What is the same for all runtimes."""

    original: ModelFile
    patched: ModelFile
    before: Path
    after: Path
    patterns: Sequence[HeadComparison]
    reference: Reference
    source: Source
    options: RunOptions
    wanted: RuntimeOptions
    progress: Progress | None
    precision: Precision
    converted_from: Path | None

    def at(self, runtime: Runtime, setting: Setting) -> RuntimeCheck:
        """One runtime in one setting."""
        before, after = self._sides()
        first, chosen = self.patterns[0], [c for c in after.comparisons if c.chosen]
        scores = RuntimeScores(first.head, self.wanted.ignore_index)
        tail_error, n_samples = 0.0, 0
        wrong: Feed | None = None
        with (
            tempfile.TemporaryDirectory(prefix="onnxcal-") as folder,
            RuntimeProcess(runtime, Path(folder), self.wanted.timeout) as process,
        ):
            for feed in self._feeds(runtime):
                seen = self.reference.run(feed)
                ours = after.take(process, self._job(after, feed, setting, folder), feed, seen, n_samples)
                theirs = before.take(process, self._job(before, feed, setting, folder), feed, seen, n_samples)
                if ours is None:
                    break
                n_samples += feed.size
                scores.add(ours[0], feed, seen.batch_axes[0], seen)
                tail_error = max(tail_error, math.inf if theirs is None else _tail_error(self.patterns, theirs, ours))
                if wrong is None and not after.passed:
                    wrong = _copied(feed)
                if self.progress is not None:
                    self.progress(f"{runtime.name} {setting.name}".strip(), n_samples, self._total())
            spread = 0.0 if wrong is None else self._spread(runtime, n_samples)
            fault = self._fault(before, after, tail_error, spread)
            if fault is not None and wrong is not None and self._right_one_by_one(process, wrong, setting, folder):
                fault = fault[0], f"{fault[1]}; one sample at a time it is right: only with more than one is it wrong"
        found = scores.scores()
        entry = RuntimeCheck(
            name=runtime.name,
            version=runtime.version,
            passed=fault is None,
            max_abs_error=after.max_abs_error,
            argmax_changed=sum(c.argmax_changed for c in chosen),
            n_samples=n_samples,
            setting=setting.name,
            counts=setting.counts and (runtime.name in self.wanted.named or not (before.failed and after.failed)),
            tolerance=after.worst.limit + spread if after.ran else None,
            tolerance_needed=max(c.needed_tolerance for c in after.comparisons) if after.ran else None,
            max_abs_error_before=before.max_abs_error,
            nll=None if found is None else found.nll,
            ece=None if found is None else found.ece,
        )
        if fault is None and spread:
            return replace(entry, detail=f"onnxruntime itself moves by {spread:.2g} when it adds up in another order")
        return entry if fault is None else entry.blamed(*fault)

    def _fault(self, before: Side, after: Side, tail_error: float, spread: float) -> tuple[Blame, str] | None:
        """Who is to blame and for what; None if nothing is wrong.

        What the model's own spread explains is no error, if the patch does to it what it should.
        """
        if after.passed:
            return None
        worst = after.worst
        if after.failed is None and tail_error <= worst.tolerance and after.passed_with(spread):
            return None
        who, why = blame(before, after, tail_error, spread, self.precision)
        if after.failed is None:
            why += f"; largest error {worst.worst.error:.2g} (limit {worst.limit + spread:.2g}) of '{worst.output}', "
            why += f"{worst.worst.place}; minimum required tolerance {worst.needed_tolerance:.3g}"
            if worst.argmax_wrong:
                why += f"; {worst.argmax_wrong} predictions changed"
        return who, why

    def _spread(self, runtime: Runtime, n_samples: int) -> float:
        """The model's own spread on the samples that a runtime has seen."""
        feeder = self._feeder(runtime)

        def seen() -> Iterator[Feed]:
            left = n_samples
            for feed in feeder.feeds():
                yield feed
                left -= feed.size
                if left <= 0:
                    return

        divisible = feeder.fixed_size is None
        return own_spread(self.original, self.patterns, self.reference, seen(), self.options, divisible=divisible)

    def _sides(self) -> tuple[Side, Side]:
        tolerances = runtime_tolerances(self.precision)
        names = [[value.name for value in model.graph.output] for model in (self.original, self.patched)]
        before, after = [], []
        for pattern in self.patterns:
            head = pattern.head
            before.append(RuntimeComparison(pattern, head.output, 1.0, tolerances))
            after.append(RuntimeComparison(pattern, pattern.output, pattern.temperature, tolerances))
        return Side(self.before, names[0], before), Side(self.after, names[1], after)

    def _feeds(self, runtime: Runtime) -> Iterator[Feed]:
        """Batches until there are enough samples, or no time is left."""
        begun, n_samples = monotonic(), 0
        for feed in self._feeder(runtime).feeds():
            yield feed
            n_samples += feed.size
            if n_samples >= self.wanted.samples or monotonic() - begun > self.wanted.timeout:
                return

    def _feeder(self, runtime: Runtime) -> Feeder:
        size = 1 if runtime.single else self.options.batch_size
        return Feeder(self.reference.inputs, self.source, min(size, self.wanted.samples))

    def _total(self) -> int | None:
        known = self.source.n_samples
        return None if known is None else min(known, self.wanted.samples)

    def _right_one_by_one(self, process: RuntimeProcess, feed: Feed, setting: Setting, folder: str) -> bool:
        """Whether samples of a batch that came out wrong are right when each is run alone."""
        if feed.run_size == 1 or Feeder(self.reference.inputs, self.source, 1).fixed_size is not None:
            return False
        _, after = self._sides()
        after.model = after.model.with_stem("alone")  # what was loaded may be bound to the size of its first batch
        for number in range(min(feed.size, _ONE_BY_ONE)):
            one = Feed({name: a[number : number + 1] for name, a in feed.arrays.items()}, None, 1, 1, 1)
            job = self._job(after, one, setting, folder)
            after.take(process, job, one, self.reference.run(one), number)
        return after.passed

    def _job(self, side: Side, feed: Feed, setting: Setting, folder: str) -> Job:
        shapes = {name: array.shape for name, array in feed.arrays.items()}
        model = self.after if side.model.stem == "alone" else side.model
        made_from = self.converted_from if model == self.after else None
        return Job(model, shapes, side.outputs, setting.name, Path(folder), Path.cwd(), made_from)


def _tail_error(
    patterns: Sequence[HeadComparison], before: Sequence[NDArray[np.float64]], after: Sequence[NDArray[np.float64]]
) -> float:
    """How far patched outputs are from the runtime's own unpatched ones, calibrated in float64."""
    largest = 0.0
    for pattern, theirs, ours in zip(patterns, before, after, strict=True):
        head = pattern.head
        z = as_logits(theirs, head, raw=head.activation == "none")
        with np.errstate(all="ignore"):
            error = np.abs(ours - activated(z, head, pattern.temperature))
        known = error[~np.isnan(ours) & ~np.isnan(theirs)]
        largest = max(largest, float(np.where(np.isnan(known), np.inf, known).max(initial=0.0)))
    return largest


def _copied(feed: Feed) -> Feed:
    """A batch that outlives the next one."""
    arrays = {name: array.copy() for name, array in feed.arrays.items()}
    return Feed(arrays, None, feed.size, feed.padded_size, feed.run_size)


def laid_out(model: ModelFile, folder: Path, stem: str) -> Path:
    """The model as a file that every runtime takes for one, its external data beside it."""
    place = folder / stem
    place.mkdir()
    path = place / f"{stem}.onnx"
    if model.path is not None:
        shutil.copyfile(model.path, path)
    else:
        path.write_bytes(model.to_bytes())
    for location in external_locations(model):
        assert model.folder is not None
        (place / location).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model.folder / location, place / location)
    return path
