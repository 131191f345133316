"""Streaming a model's logits: the next batch is prepared while the current one runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxcal.data import Source
from onnxcal.data.streamed import StreamedSource
from onnxcal.errors import DataError
from onnxcal.graph.detect import find_head
from onnxcal.graph.head import Activation, Head
from onnxcal.graph.metadata import unpatched_name
from onnxcal.graph.modelfile import ModelFile, ModelLike, open_model
from onnxcal.graph.patch import unpatched, with_logits
from onnxcal.graph.tails import Hints
from onnxcal.inference.blocks import BLOCK_BYTES
from onnxcal.inference.digests import Digests
from onnxcal.inference.feeds import Feed, Feeder
from onnxcal.inference.gathered import Gathered
from onnxcal.inference.options import DEFAULT_BATCH_SIZE, BatchSize, RunOptions, run_options
from onnxcal.inference.prefetch import prefetched
from onnxcal.inference.recognition import Recognition
from onnxcal.inference.runs import Runner
from onnxcal.inference.session import open_session
from onnxcal.inference.sources import source_for
from onnxcal.logits import FloatArray, LabelArray, Labels, Logits, Sample, Task, check_task
from onnxcal.rows import probabilities_kind

PROGRESS_SECONDS = 0.02
"""Calls of `Progress` are at least so far apart."""

Progress: TypeAlias = Callable[[str, int, "int | None"], None]
"""Called now and then, and in the end: what is being done, the samples so far, and how many there are, where known."""


@dataclass(frozen=True)
class CollectedLogits:
    """The logits of a data set, with their labels: one row a sample, for a dense head one a position."""

    values: FloatArray
    """(N, K), or (N,) for binary, in the head's element type."""
    labels: LabelArray
    """(N,) class indices; or soft or 0/1 labels of the logits' shape."""
    head: Head
    """Where they were taken from."""
    sample: NDArray[np.int64] | None = field(repr=False)
    """(N,): which sample of the data each row belongs to; None if there is one row a sample and none was dropped."""
    data_sha256: str
    """Digest of the inputs and labels."""
    warnings: tuple[str, ...] = ()
    """Casts that were made, and the like."""

    @property
    def n_samples(self) -> int:
        """N, the number of rows."""
        return len(self.labels)

    @property
    def labelled(self) -> Sample:
        """What fits and scores are made from."""
        return Sample(Logits(self.values, self.head.task), Labels(self.labels), group=self.sample)


def collect_logits(
    model: ModelLike,
    data: Any,
    *,
    labels: Any = None,
    preprocess: Any = None,
    label_column: str | None = None,
    head: str | None = None,
    task: Task | None = None,
    axis: int | None = None,
    activation: Activation | None = None,
    ignore_index: int | None = None,
    batch_size: BatchSize = DEFAULT_BATCH_SIZE,
    provider: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> CollectedLogits:
    """Run a model over labelled data and keep its logits.

    Of a patched model these are the logits before the calibration.

    Parameters
    ----------
    model : path, `onnx.ModelProto`.
    data, labels, preprocess, label_column : see `onnxcal.data.open_source`.
    head : name of the output, needed where several can be a classifier.
    task, axis, activation : override what is detected.
    ignore_index : samples with this label are dropped.
    batch_size : samples a run, or `"auto"` for as many as run fastest; batches of the data's own are never joined.
    provider, threads : how onnxruntime runs it.
    progress : called after each batch with what is done, the samples so far, and their number where it is known.

    Raises
    ------
    ModelError
        The model cannot be read or run, or it is not clear what its logits are.
    DataError
        The data do not fit the model, or its logits or labels are not usable.
    """
    check_task(task)
    file = open_model(model)
    original = unpatched(file)
    found = find_head(original, unpatched_name(file, head), Hints(task, axis, activation))
    source = source_for(original, found, data, labels, preprocess=preprocess, label_column=label_column)
    options, notes = run_options(original, source, batch_size, provider, threads)
    forced = activation == "none"
    collected = collect(original, found, source, options, ignore_index=ignore_index, forced=forced, progress=progress)
    return replace(collected, warnings=(*notes, *collected.warnings))


def collect(
    model: ModelFile,
    head: Head,
    source: Source,
    options: RunOptions,
    *,
    ignore_index: int | None = None,
    forced: bool = False,
    labels_of: str | None = None,
    progress: Progress | None = None,
) -> CollectedLogits:
    """`collect_logits` for a model and a head that are already known.

    `forced` if the user said that it has logits; `labels_of` names the head in the data, if it is called otherwise.
    """
    form, (logits,) = with_logits(model, [head])
    recognition = Recognition(model, head, options)
    taps = list(dict.fromkeys([logits, *(recognition.taps if form is model else [])]))
    session = open_session(form, tap=taps, provider=options.provider, threads=options.threads)
    feeder = Feeder(session.inputs, source, options.batch_size)
    digests = Digests()
    runner = Runner(session, taps)
    gathered = Gathered(head, logits, recognition, labels_of or head.output, ignore_index, source.n_samples)
    report = _rarely(progress, source.n_samples)
    feeds: Iterator[Feed]
    if options.threads is None and session.on_cpu:  # no core is idle: to hash beside a run would slow the run down
        feeds = _digested(prefetched(feeder.feeds(BLOCK_BYTES)), digests, gathered.labels_of)
    else:
        feeds = prefetched(_digested(feeder.feeds(BLOCK_BYTES), digests, gathered.labels_of))
    _check_classes(source, head, head.num_classes)
    for feed in feeds:
        if feed.labels_of(gathered.labels_of) is None:
            raise DataError(
                f"{source.name} has no labels" + (f" for '{head.output}'" if feed.labels is not None else ""),
                hint="add an array or a column named 'labels', pass --labels FILE.npy or --label-column NAME, or yield "
                "(inputs, labels) batches",
            )
        for portion in runner.portions(feed):
            if gathered.done == 0:
                gathered.find_batch_axis(session, portion)
            gathered.add(portion)
            if head.num_classes is None and gathered.done == portion.feed.size:
                _check_classes(source, head, gathered.num_classes)
            report(gathered.done, last=False)
    report(gathered.done, last=True)
    if gathered.empty:
        raise DataError(f"{source.name} has no sample whose label is not ignored", hint="check --ignore-index")
    values = gathered.values()
    truth, read_as = gathered.labels(values)
    warnings = [*feeder.notes, *read_as]
    kind = probabilities_kind(Logits(values, head.task)) if head.activation == "none" or not head.is_logits else None
    if kind is not None and head.activation == "none":
        what = f"output '{head.output}' of {model.name} holds {kind}, not logits"
        if not forced:
            raise DataError(what, hint=f"pass --activation {'sigmoid' if head.task != 'multiclass' else 'softmax'}")
        warnings.append(
            f"{what}: over them a softmax is a double softmax, whose temperature corrects the wrong function; its ECE "
            "may look better while its NLL is worse. --activation softmax calibrates their logarithms instead"
        )
    return CollectedLogits(
        values=values,
        labels=truth,
        head=replace(head, num_classes=gathered.num_classes),
        sample=gathered.sample(),
        data_sha256=digests.hexdigest(),
        warnings=(*warnings, *recognition.notes),
    )


def _check_classes(source: Source, head: Head, num_classes: int | None) -> None:
    """Let data that count classes of their own compare, once K is known."""
    if isinstance(source, StreamedSource) and num_classes is not None:
        source.check_classes(head.output, head.task, num_classes)


def _digested(feeds: Iterable[Feed], digests: Digests, labels_of: str) -> Iterator[Feed]:
    """The same feeds, taken into the digests on the way."""
    for feed in feeds:
        labels = feed.labels_of(labels_of)
        if labels is not None:
            digests.update(feed, labels)
        yield feed


class _Report(Protocol):
    def __call__(self, done: int, *, last: bool) -> None: ...


def _rarely(progress: Progress | None, total: int | None) -> _Report:
    """Call `progress` not more often than can be seen, and in the end, and never twice for the same."""
    told, at = 0, -PROGRESS_SECONDS

    def report(done: int, *, last: bool) -> None:
        nonlocal told, at
        now = monotonic()
        if progress is not None and done > told and (last or now - at >= PROGRESS_SECONDS):
            told, at = done, now
            progress("collecting logits", done, total)

    return report
