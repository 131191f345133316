"""Streaming a model's logits: the next batch is prepared while the current one runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxcal.data import Source, open_source
from onnxcal.errors import DataError, UsageError
from onnxcal.graph.detect import find_head
from onnxcal.graph.head import Activation, Head
from onnxcal.graph.inspect import input_names
from onnxcal.graph.metadata import unpatched_name
from onnxcal.graph.modelfile import ModelFile, ModelLike, open_model
from onnxcal.graph.patch import unpatched, with_logits
from onnxcal.graph.tails import Hints
from onnxcal.inference.expected import logits_of
from onnxcal.inference.feeds import Feeder
from onnxcal.inference.labels import LabelReader
from onnxcal.inference.prefetch import prefetched
from onnxcal.inference.recognition import Recognition
from onnxcal.inference.samples import find_batch_axis
from onnxcal.inference.session import open_session
from onnxcal.inference.spool import Digests, Spool
from onnxcal.logits import FloatArray, LabelArray, Labels, Logits, Sample, Task, check_task
from onnxcal.rows import (
    check_label_values,
    check_logits,
    kept_rows,
    probabilities_kind,
)

DEFAULT_BATCH_SIZE = 64

Progress: TypeAlias = Callable[[str, int, "int | None"], None]
"""Called after each batch: what is being done, the samples done so far, and how many there are, where that is known."""


@dataclass(frozen=True)
class RunOptions:
    """How to run a model; the same for every pass over the data."""

    batch_size: int = DEFAULT_BATCH_SIZE
    """Samples a run, unless the model fixes it."""
    provider: str | None = None
    """onnxruntime execution provider, default CPU."""
    threads: int | None = None
    """Intra-op threads, default all cores."""

    def __post_init__(self) -> None:
        for name, value, limit in (("batch_size", self.batch_size, 1 << 31), ("threads", self.threads, 1024)):
            if value is not None and not 1 <= value <= limit:
                raise UsageError(f"{name} {value} is not between 1 and {limit:,}", hint="leave it out for the default")


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
    head: str | None = None,
    task: Task | None = None,
    axis: int | None = None,
    activation: Activation | None = None,
    ignore_index: int | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    provider: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> CollectedLogits:
    """Run a model over labelled data and keep its logits.

    Of a patched model these are the logits before the calibration.

    Parameters
    ----------
    model : path, `onnx.ModelProto`.
    data, labels : see `onnxcal.data.open_source`.
    head : name of the output, needed where several can be a classifier.
    task, axis, activation : override what is detected.
    ignore_index : samples with this label are dropped.
    batch_size, provider, threads : how onnxruntime runs it.
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
    options = RunOptions(batch_size, provider, threads)
    return collect(
        original,
        found,
        open_source(data, labels, inputs=input_names(original)),
        options,
        ignore_index=ignore_index,
        forced=activation == "none",
        progress=progress,
    )


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
    spool, truths, samples = Spool(), [], []
    digests = Digests()
    reader = LabelReader(head)
    done, num_classes, dense, batch_axis = 0, head.num_classes, False, 0
    for feed in prefetched(feeder.feeds()):
        labels = feed.labels_of(labels_of or head.output)
        if labels is None:
            raise DataError(
                f"{source.name} has no labels" + (f" for '{head.output}'" if feed.labels is not None else ""),
                hint="add an array named 'labels', pass --labels FILE.npy, or yield (inputs, labels) batches",
            )
        digests.update(feed, labels)
        tensors = dict(zip(taps, session.run(feed.arrays, taps), strict=True))
        tensor = logits_of(tensors[logits], head)
        if done == 0:
            batch_axis = find_batch_axis(session, logits, tensor, feed, head)
        taps_of_feed = partial(recognition.tensors, tensors, feed)
        rows, truth = reader.rows(tensor, labels, feed, batch_axis, taps_of_feed)
        sample = np.repeat(np.arange(done, done + feed.size, dtype=np.int64), len(rows) // feed.size)
        dense = dense or len(rows) != feed.size
        if ignore_index is not None:
            keep = kept_rows(truth, ignore_index)
            rows, truth, sample = rows[keep], truth[keep], sample[keep]
        if not reader.numbered:
            check_label_values(truth, head.task, rows.shape)
        check_logits(rows, np.zeros(len(truth), np.int64) if reader.numbered else truth, head.task)
        recognition.check(tensor, tensors, feed)
        recognition.count(rows)
        if num_classes is None:
            num_classes = rows.shape[1] if rows.ndim == 2 else 2
        spool.append(rows)
        truths.append(truth)
        samples.append(sample)
        done += feed.size
        if progress is not None:
            progress("collecting logits", done, source.n_samples)
    if sum(map(len, truths)) == 0:
        raise DataError(f"{source.name} has no sample whose label is not ignored", hint="check --ignore-index")
    values = spool.array()
    truth, read_as = reader.classes(_joined(truths, num_classes or 2), values)
    if reader.numbered:
        check_label_values(truth, head.task, values.shape)
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
        head=replace(head, num_classes=num_classes),
        sample=np.concatenate(samples) if dense or ignore_index is not None else None,
        data_sha256=digests.hexdigest(),
        warnings=(*warnings, *recognition.notes),
    )


def _joined(truths: list[LabelArray], num_classes: int) -> LabelArray:
    """Labels of all batches; class indices become one-hot where other batches were soft."""
    if len({truth.ndim for truth in truths}) > 1:
        truths = [np.eye(num_classes)[truth.astype(np.int64)] if truth.ndim == 1 else truth for truth in truths]
    return np.concatenate(truths)  # type: ignore[return-value]  # all of one dtype by now
