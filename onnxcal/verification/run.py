"""`verify`: every check of a patched model, the file's and those of running it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from onnxcal.data import Source
from onnxcal.errors import ModelError, UsageError
from onnxcal.graph.detect import candidates
from onnxcal.graph.division import not_as_recorded, other_temperature
from onnxcal.graph.external import external_files
from onnxcal.graph.metadata import calibrated_heads
from onnxcal.graph.modelfile import ModelFile, ModelLike, open_model
from onnxcal.graph.patch import not_made_from, unpatched
from onnxcal.graph.payload import other_divisor
from onnxcal.graph.planner import make_plan
from onnxcal.graph.remade import recorded_head, recorded_patch
from onnxcal.graph.view import GraphView
from onnxcal.inference.collect import Progress
from onnxcal.inference.options import DEFAULT_BATCH_SIZE, BatchSize, RunOptions, run_options
from onnxcal.inference.sources import source_for
from onnxcal.verification.both import BothModels
from onnxcal.verification.checks import Check, Verification
from onnxcal.verification.file import check_checker, check_untouched
from onnxcal.verification.head import HeadComparison
from onnxcal.verification.moved import Moved, how_far
from onnxcal.verification.runtimes import check_runtimes
from onnxcal.verification.wanted import DEFAULT_SAMPLES, DEFAULT_TIMEOUT, Converted, RuntimeOptions, runtime_options


def verify(
    model: ModelLike,
    patched: ModelLike,
    data: Any,
    *,
    labels: Any = None,
    runtime: str | Sequence[str] = (),
    runtime_samples: int = DEFAULT_SAMPLES,
    runtime_timeout: float = DEFAULT_TIMEOUT,
    preprocess: Any = None,
    label_column: str | None = None,
    ignore_index: int | None = None,
    batch_size: BatchSize = DEFAULT_BATCH_SIZE,
    provider: str | None = None,
    threads: int | None = None,
    tolerance: float | None = None,
    progress: Progress | None = None,
) -> VerifyResult:
    """Run a patched model and the one it was made from over data, and check that it is what its calibration says.

    Parameters
    ----------
    model : the model that was patched (or one of its patched forms).
    patched : the file that `patch` or `calibrate` wrote.
    data, labels, preprocess, label_column : see `onnxcal.data.open_source`; labels are not needed, but for the scores
        of a file that was changed.
    runtime : names of other runtimes to run both in, too, or `"all"` for those that are installed.
    runtime_samples : how many samples each of these runs, the first ones.
    runtime_timeout : seconds that each has for loading a model, for a batch, and for all of them.
    ignore_index : samples (or pixels) with this label do not count for NLL and ECE in those runtimes.
    batch_size : samples a run, or `"auto"` for as many as run fastest.
    provider, threads : how onnxruntime runs both.
    tolerance : accept a file that was converted or quantised after it was calibrated, if its probabilities are within
        this of the reference; its bytes and its other outputs are then held to nothing. Default: that of the head's
        element type, and no change at all.
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
    if tolerance is not None and not 0 <= tolerance <= 1:
        raise UsageError(f"--tolerance {tolerance} is not between 0 and 1", hint="it is an error of a probability")
    wanted, absent = runtime_options(runtime, runtime_samples, runtime_timeout, ignore_index)
    file = open_model(model)
    source = source_for(file, None, data, labels, preprocess=preprocess, label_column=label_column)
    options, chosen = run_options(file, source, batch_size, provider, threads)
    verifying = _Verification(file, open_model(patched), options, tolerance)
    return verifying.over(source, progress, (*chosen, *absent), wanted)


def verify_file(
    model: ModelFile,
    patched: ModelFile,
    source: Source,
    options: RunOptions,
    progress: Progress | None = None,
    wanted: RuntimeOptions | None = None,
    converted: Converted | None = None,
) -> tuple[Verification, tuple[str, ...]]:
    """`verify` of a file that was just written, for data that are open already; also returns what should be known."""
    verifying = _Verification(model, patched, options, None)
    result = verifying.over(source, progress, (), wanted, converted)
    ahead = (line for comparison in verifying.comparisons for line in comparison.float16_note())
    return result.verification, (*result.warnings, *ahead)


@dataclass(frozen=True)
class VerifyResult:
    """What `verify` found."""

    verification: Verification
    """The checks."""
    moved: Moved | None = None
    """How far the file has moved, if it was changed after it was calibrated; else None."""
    warnings: tuple[str, ...] = ()
    """Casts that were made, and the like."""


class _Verification:
    """All checks of one patched file."""

    def __init__(self, model: ModelFile, patched: ModelFile, options: RunOptions, tolerance: float | None) -> None:
        entries = calibrated_heads(patched)
        if not entries:
            raise ModelError(
                f"{patched.name} carries no calibration: onnxcal did not patch it",
                hint="pass the original first and the file that onnxcal wrote second",
            )
        external_files(patched)  # must be there
        self.original, self.patched, self.options, self.tolerance = unpatched(model), patched, options, tolerance
        self.untouched = check_untouched(self.original, patched)
        self.changed = not self.untouched.passed and not _is_of_another(self.original, patched)
        self.comparisons = [
            HeadComparison(
                self.original,
                patched,
                entry,
                recorded_head(self.original, entry),
                tolerance=tolerance,
                keep_rows=not self.untouched.passed,
            )
            for entry in entries
        ]
        self.siblings = list(_siblings(self.original, patched, self.comparisons, tolerance))

    def over(
        self,
        source: Source,
        progress: Progress | None,
        chosen: Sequence[str],
        wanted: RuntimeOptions | None,
        converted: Converted | None = None,
    ) -> VerifyResult:
        """Run both models over all data."""
        run = BothModels(self.original, self.patched, [*self.comparisons, *self.siblings], self.options)
        run.over(source, progress)
        lenient = self.tolerance is not None
        checks = [self.untouched, check_checker(self.original, self.patched), *run.checks()]
        if self.changed and lenient:
            checks = [_waived(check) for check in checks]
        notes = [*chosen, *run.notes, *(note for comparison in run.comparisons for note in comparison.notes())]
        moved = None
        if self.changed:
            fed = [entry.comparison for entry in run.inputs if entry.is_there]
            moved = how_far(self.original, self.comparisons, fed, source, self.options, run.n_samples)
            if lenient:
                notes.append("the file was changed after it was calibrated: only its probabilities were checked")
                notes += _other_temperatures(self.original, self.patched, self.comparisons)
        wanted = wanted or RuntimeOptions()
        others = check_runtimes(self.patched, run, source, wanted, progress, converted, changed=self.changed)
        elsewhere = dict.fromkeys(entry.name for entry in others if entry.name != "onnxruntime")
        if run.inputs and elsewhere:
            notes.append(f"T as an input was fed in onnxruntime only; in {', '.join(elsewhere)} T was its default")
        checks += [entry.as_check() for entry in others if entry.counts]
        passed = all(check.passed for check in checks)
        return VerifyResult(Verification(passed, (run.runtime(), *others), tuple(checks)), moved, tuple(notes))


def _is_of_another(original: ModelFile, patched: ModelFile) -> bool:
    """Whether a patched file was made from another model, so that it cannot have moved from this one."""
    try:
        return not_made_from(patched, original) is not None
    except ModelError:  # it does not say what it was made from
        return False


def _other_temperatures(
    original: ModelFile, patched: ModelFile, comparisons: Sequence[HeadComparison]
) -> Iterator[str]:
    """What to say of a T that no conversion makes of the recorded one, though a tolerance takes it."""
    entries = [comparison.entry for comparison in comparisons if comparison.entry.form == "folded"]
    folded = [recorded_patch(original, patched, entry) for entry in entries]
    for scaling in make_plan(GraphView(original), folded).scalings:
        divisor = other_divisor(original, patched, scaling)
        if divisor is not None:
            said = f"are the original's divided by {divisor:.6g}, and the calibration says {scaling.divisor:.6g}"
            yield f"the weights '{scaling.copy or scaling.tensor}' {said}: no conversion rounds T so far"
    for comparison in comparisons:
        if comparison.entry.form == "folded":
            continue
        try:
            found = other_temperature(patched, comparison.output, comparison.temperature)
        except ModelError:
            yield (
                f"the division of '{comparison.output}' by T is not to be found in it any more: another T is only "
                "noticed where it moves the probabilities by more than the tolerance"
            )
            continue
        if found is not None:
            yield not_as_recorded(comparison.output, found, comparison.temperature)


_WAIVED = ("untouched bytes", "other outputs")


def _waived(check: Check) -> Check:
    """A check that a tolerance, which is for changed files, makes a remark of."""
    if check.passed or check.name not in _WAIVED:
        return check
    return replace(check, passed=True, detail=f"not held to anything, for --tolerance was given: {check.detail}")


def _siblings(
    original: ModelFile, patched: ModelFile, comparisons: Sequence[HeadComparison], tolerance: float | None
) -> Iterator[HeadComparison]:
    """Other outputs that show a calibrated head too: one class each, or its logarithm."""
    taken = {comparison.head.output for comparison in comparisons}
    for candidate in candidates(original):
        head = candidate.head
        if head is None or head.output in taken or head.activation == "none":
            continue
        for comparison in comparisons:
            if head.shares_calibration(comparison.head):
                yield HeadComparison(original, patched, comparison.entry, head, tolerance=tolerance)
                break
