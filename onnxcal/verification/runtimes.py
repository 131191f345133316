"""`--runtime`: the calibrated model in other runtimes, and the unpatched one beside it, to know whose an error is."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from onnxcal.data import Source
from onnxcal.graph.external import external_locations
from onnxcal.graph.modelfile import ModelFile
from onnxcal.inference.collect import Progress
from onnxcal.inference.feeds import Feed, Feeder
from onnxcal.inference.runtimes.client import RuntimeFailed, RuntimeProcess
from onnxcal.inference.runtimes.runtime import Job, Runtime, Setting
from onnxcal.verification.blame import RightFrom, blame
from onnxcal.verification.both import BothModels
from onnxcal.verification.checks import Blame, RuntimeCheck
from onnxcal.verification.elsewhere import RuntimeComparison
from onnxcal.verification.reference import Seen
from onnxcal.verification.scores import RuntimeScores
from onnxcal.verification.side import Malformed, Side, Values, outputs_there
from onnxcal.verification.spread import own_spread
from onnxcal.verification.tail import Tails, read_logits, showing_logits
from onnxcal.verification.tolerances import Precision, body_precision, runtime_tolerances
from onnxcal.verification.wanted import Converted, RuntimeOptions

_ONE_BY_ONE = 64


def check_runtimes(
    patched: ModelFile,
    both: BothModels,
    source: Source,
    wanted: RuntimeOptions,
    progress: Progress | None = None,
    converted: Converted | None = None,
    *,
    changed: bool = False,
) -> tuple[RuntimeCheck, ...]:
    """Run both models in each runtime, in each of its settings.

    Both get the batches that the reference gets. What takes one sample at a time is given one at a time.

    Parameters
    ----------
    patched : the calibrated model.
    both : it and the unpatched one, as they were compared in onnxruntime.
    source : the data.
    converted : what the patched model was converted to, which is run in its place.
    changed : whether the patched model was changed after it was calibrated.
    """
    if not wanted.runtimes:
        return ()
    with tempfile.TemporaryDirectory(prefix="onnxcal-") as folder:
        before = laid_out(both.original, Path(folder), "before")
        after = laid_out(patched, Path(folder), "after") if converted is None else converted.path
        precision = body_precision(both.original)
        if converted is not None and converted.compressed and precision == "float32":
            precision = "float16"
        made_from = None if converted is None else converted.source
        look = _Look(patched, both, before, after, made_from, source, wanted, progress, precision, changed)
        return tuple(look.at(runtime, setting) for runtime in wanted.runtimes for setting in runtime.settings())


@dataclass(frozen=True)
class _Running:
    """A runtime in one of its settings."""

    runtime: Runtime
    setting: Setting
    process: RuntimeProcess
    folder: Path


@dataclass(frozen=True)
class _Look:
    """What is the same for all runtimes."""

    patched: ModelFile
    both: BothModels
    before: Path
    after: Path
    made_from: Path | None
    source: Source
    wanted: RuntimeOptions
    progress: Progress | None
    precision: Precision
    changed: bool

    def at(self, runtime: Runtime, setting: Setting) -> RuntimeCheck:
        """One runtime in one setting."""
        with (
            tempfile.TemporaryDirectory(prefix="onnxcal-") as folder,
            RuntimeProcess(runtime, Path(folder), self.wanted.timeout) as process,
        ):
            return self._seen_in(_Running(runtime, setting, process, Path(folder)))

    def _seen_in(self, running: _Running) -> RuntimeCheck:
        runtime, setting, total, begun = running.runtime, running.setting, self._total(), monotonic()
        before, after = self._sides()
        scores = RuntimeScores(self.both.comparisons[0].head, self.wanted.ignore_index)
        tails = Tails(after.comparisons)
        n_samples, late = 0, False
        wrong: Feed | None = None
        for feed in self._feeder(runtime).feeds():
            seen = self.both.reference.run(feed)
            ours = self._take(after, running, feed, seen, n_samples)
            theirs = self._take(before, running, feed, seen, n_samples)
            if wrong is None and not after.passed:
                wrong = _copied(feed)
            if ours is None:
                break
            n_samples += feed.size
            scores.add(ours[0], feed, seen.batch_axes[0], seen)
            tails.add(theirs, ours)
            late = monotonic() - begun > self.wanted.timeout
            if self.progress is not None:
                self.progress(f"{runtime.name} {setting.name}".strip(), n_samples, total)
            if late or n_samples >= total:
                break
        fault = None if wrong is None else self._fault(before, after, tails, running, wrong, n_samples)
        found = scores.scores()
        remarks = [] if fault is None else [fault[1]]
        if fault is None and after.spread:
            remarks.append(f"onnxruntime itself moves by {after.spread:.2g} when it adds up in another order")
        if late and n_samples < total:
            remarks.append(f"it had only {self.wanted.timeout:g} s, and ran the first {n_samples:,} samples")
        if scores.refusal is not None:
            remarks.append(f"no NLL and ECE: {scores.refusal}")
        return RuntimeCheck(
            name=runtime.name,
            version=runtime.version,
            passed=fault is None,
            max_abs_error=after.max_abs_error,
            argmax_changed=sum(c.argmax_changed for c in after.comparisons if c.chosen),
            n_samples=n_samples,
            setting=setting.name,
            counts=setting.counts and (runtime.name in self.wanted.named or not (before.refused and after.refused)),
            tolerance=after.worst.limit if after.ran else None,
            tolerance_needed=max(c.needed_tolerance for c in after.comparisons) if after.ran else None,
            max_abs_error_before=before.max_abs_error,
            nll=None if found is None else found.nll,
            ece=None if found is None else found.ece,
            blame=None if fault is None else fault[0],
            detail="; ".join(remarks),
        )

    def _fault(
        self, before: Side, after: Side, tails: Tails, running: _Running, wrong: Feed, n_samples: int
    ) -> tuple[Blame, str] | None:
        """Who is to blame and for what; None if it is only what the model's own spread explains.

        That is no error, if the patch does to it what it should.
        """
        tail: RightFrom | None = None
        if after.failed is None:
            unpatched, calibrated = self._spreads(running.runtime, n_samples)
            before.allow(unpatched)
            if tails.right:
                tail = "probabilities"
            elif before.passed and self._right_by_logits(running, wrong):
                tail = "logits"
            if tail is not None:  # of what the patch itself gets wrong, the model's spread explains nothing
                after.allow(calibrated)
                if after.passed:
                    return None
        who, why = blame(before, after, tail, self.precision, changed=self.changed)
        if after.failed is None:
            worst = after.worst
            why += f"; largest error {worst.worst.error:.2g} (limit {worst.limit:.2g}) of '{worst.output}', "
            why += f"{worst.worst.place}; minimum required tolerance {worst.needed_tolerance:.3g}"
            if worst.argmax_wrong:
                why += f"; {worst.argmax_wrong} predictions changed"
        if self._right_one_by_one(running, after, wrong):
            why += "; one sample at a time it is right: only with more than one is it wrong"
        return who, why

    def _spreads(self, runtime: Runtime, n_samples: int) -> tuple[list[float], list[float]]:
        """The model's own spread, unpatched and calibrated, on the samples that a runtime has seen."""
        feeder = self._feeder(runtime)

        def seen() -> Iterator[Feed]:
            left = n_samples
            for feed in feeder.feeds():
                yield feed
                left -= feed.size
                if left <= 0:
                    return

        both, divisible = self.both, feeder.fixed_size is None
        return own_spread(both.original, both.comparisons, both.reference, seen(), both.options, divisible=divisible)

    def _right_by_logits(self, running: _Running, feed: Feed) -> bool:
        """Whether the patched outputs of a batch are right for the logits that the runtime has."""
        _, after = self._sides()
        seen = self.both.reference.run(feed)
        try:
            model, names = showing_logits(self.both.original, after.comparisons)
            path = laid_out(model, running.folder, "logits")
            listed = tuple(value.name for value in model.graph.output)
            outputs = outputs_there(running.process, path.stem, self._job(path, listed, running, feed), feed.arrays)
            logits = read_logits(outputs, names, after.comparisons, seen)
        except (RuntimeFailed, Malformed):
            return False
        ours = self._take(after, running, feed, seen, 0)
        if ours is None:
            return False
        tails = Tails(after.comparisons)
        tails.add(logits, ours, raw=True)
        return tails.right

    def _right_one_by_one(self, running: _Running, after: Side, feed: Feed) -> bool:
        """Whether samples of a batch that came out wrong, or was refused, are right when each is run alone."""
        if feed.run_size == 1 or Feeder(self.both.reference.inputs, self.source, 1).fixed_size is not None:
            return False
        if after.refused and not running.process.holds(after.slot):
            return False
        (_, alone), (_, together) = self._sides(), self._sides()
        alone.slot, together.slot = "alone", "together"  # what was loaded may be bound to the size of its first batch
        first = range(min(feed.size, _ONE_BY_ONE))
        for number in first:
            one = _samples(feed, number, number + 1)
            self._take(alone, running, one, self.both.reference.run(one), number)
        if alone.passed and len(first) < feed.size:  # what was wrong may be further on
            some = _samples(feed, 0, len(first))
            self._take(together, running, some, self.both.reference.run(some), 0)
        return alone.passed and not together.passed

    def _take(self, side: Side, running: _Running, feed: Feed, seen: Seen, first: int) -> Values | None:
        """`Side.take`, of a batch as the model wants it."""
        if side.model == self.after:
            feed = replace(feed, arrays=self.both.as_wanted(feed.arrays))
        return side.take(running.process, self._job(side.model, side.outputs, running, feed), feed, seen, first)

    def _job(self, model: Path, outputs: tuple[str, ...], running: _Running, feed: Feed) -> Job:
        shapes = {name: array.shape for name, array in feed.arrays.items()}
        made_from = self.made_from if model == self.after else None
        return Job(model, shapes, outputs, running.setting.name, running.folder, Path.cwd(), made_from)

    def _sides(self) -> tuple[Side, Side]:
        tolerances = runtime_tolerances(self.precision)
        names = [[value.name for value in model.graph.output] for model in (self.both.original, self.patched)]
        before, after = [], []
        for pattern in self.both.comparisons:
            before.append(RuntimeComparison(pattern, pattern.head.output, 1.0, tolerances))
            after.append(RuntimeComparison(pattern, pattern.output, pattern.temperature, tolerances, pattern.given))
        return Side("before", self.before, names[0], before), Side("after", self.after, names[1], after)

    def _feeder(self, runtime: Runtime) -> Feeder:
        return Feeder(self.both.reference.inputs, self.source, 1 if runtime.single else self._batch_size())

    def _batch_size(self) -> int:
        return min(self.both.options.batch_size, self.wanted.samples)

    def _total(self) -> int:
        """How many samples every runtime runs: as many as are wanted, in whole batches, so that scores compare."""
        size = self._batch_size()
        enough = -(-self.wanted.samples // size) * size
        known = self.source.n_samples
        return enough if known is None else min(known, enough)


def _samples(feed: Feed, start: int, stop: int) -> Feed:
    """Some of a batch, as one of their own."""
    size = stop - start
    return Feed({name: array[start:stop] for name, array in feed.arrays.items()}, None, size, size, size)


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
