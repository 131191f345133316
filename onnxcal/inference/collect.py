"""Streaming a model's logits: the next batch is prepared while the current one runs."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import IO, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from onnxcal.data import Source, open_source
from onnxcal.errors import DataError, ModelError, UsageError
from onnxcal.graph.detect import find_head
from onnxcal.graph.head import Activation, Head
from onnxcal.graph.inspect import input_names
from onnxcal.graph.metadata import unpatched_name
from onnxcal.graph.modelfile import ModelFile, ModelLike, open_model
from onnxcal.graph.patch import unpatched, with_logits
from onnxcal.graph.tails import Hints
from onnxcal.inference.expected import logits_of
from onnxcal.inference.feeds import Feed, Feeder
from onnxcal.inference.recognition import Recognition
from onnxcal.inference.session import Session, open_session
from onnxcal.logits import FloatArray, LabelArray, Labels, Logits, Task, check_task
from onnxcal.rows import (
    check_label_values,
    check_logits,
    kept_rows,
    label_rows,
    logit_rows,
    probabilities_kind,
)

DEFAULT_BATCH_SIZE = 64
SPOOL_BYTES = 1 << 30
"""Logits beyond this size are kept in a temporary file."""

Progress: TypeAlias = Callable[[str, int, "int | None"], None]
"""Called after each batch: what is being done, the samples done so far, and how many there are, where that is known."""
Item = TypeVar("Item")


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
    def labelled(self) -> tuple[Logits, Labels]:
        """The checked pair that fits and scores are made from."""
        return Logits(self.values, self.head.task), Labels(self.labels)


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
    progress: Progress | None = None,
) -> CollectedLogits:
    """`collect_logits` for a model and a head that are already known; `forced` if the user said that it has logits."""
    form, (logits,) = with_logits(model, [head])
    recognition = Recognition(model, head, options)
    taps = list(dict.fromkeys([logits, *(recognition.taps if form is model else [])]))
    session = open_session(form, tap=taps, provider=options.provider, threads=options.threads)
    feeder = Feeder(session.inputs, source, options.batch_size)
    spool, truths, samples = _Spool(), [], []
    digests = _Digests()
    done, num_classes, dense, batch_axis = 0, head.num_classes, False, 0
    for feed in prefetched(feeder.feeds()):
        labels = feed.labels_of(head.output)
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
        rows, truth = rows_of(
            *samples_first(whole_samples(tensor, feed, head, batch_axis), head, batch_axis),
            class_indices(labels, head),
        )
        sample = np.repeat(np.arange(done, done + feed.size, dtype=np.int64), len(rows) // feed.size)
        dense = dense or len(rows) != feed.size
        if ignore_index is not None:
            keep = kept_rows(truth, ignore_index)
            rows, truth, sample = rows[keep], truth[keep], sample[keep]
        check_label_values(truth, head.task, rows.shape)
        check_logits(rows, truth, head.task)
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
    warnings = list(feeder.notes)
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
        labels=_joined(truths, num_classes or 2),
        head=replace(head, num_classes=num_classes),
        sample=np.concatenate(samples) if dense or ignore_index is not None else None,
        data_sha256=digests.hexdigest(),
        warnings=(*warnings, *recognition.notes),
    )


def rows_of(tensor: NDArray[Any], head: Head, labels: NDArray[Any]) -> tuple[FloatArray, LabelArray]:
    """One batch of logits and labels as rows.

    Raises
    ------
    DataError
        The head is not what it was taken for, or the labels do not fit its shape.
    """
    rows = logit_rows(tensor, head.task, head.axis, flatten=head.flatten)
    return rows, label_rows(labels, tensor.shape, head.task, head.axis, flatten=head.flatten)


def class_indices(labels: NDArray[Any], head: Head) -> NDArray[Any]:
    """Labels as class indices, where they are the names or numbers that the model itself gives its classes.

    Raises
    ------
    DataError
        They are strings, and none of the model's classes.
    """
    texts = labels.dtype.kind in "USO"
    classes = head.classes or ()
    known = {str(name) if texts else name: index for index, name in enumerate(classes)}
    if not texts and (known == {i: i for i in range(len(known))} or labels.dtype.kind not in "iu" or labels.ndim != 1):
        return labels
    values = [str(label) if texts else int(label) for label in labels.reshape(-1)]
    if all(value in known for value in values):
        return np.array([known[value] for value in values], np.int64).reshape(labels.shape)
    if not texts:
        return labels
    stranger = next(value for value in values if value not in known)
    raise DataError(
        f"label '{stranger}' is none of the classes of '{head.output}'",
        hint=f"its classes are {', '.join(str(name) for name in classes[:8])}"
        if classes
        else "pass class indices from 0",
    )


def whole_samples(tensor: Any, feed: Feed, head: Head, batch_axis: int) -> NDArray[Any]:
    """The part of a head's tensor that belongs to samples that count, without those that fill up the batch.

    Raises
    ------
    DataError
        The tensor's size is not a multiple of the batch's.
    """
    if not isinstance(tensor, np.ndarray) or tensor.ndim == 0:
        raise DataError(
            f"output '{head.output}' is no tensor with one row a sample", hint="choose another output with --head"
        )
    flattened = tensor.ndim == 2 and head.axis == 1  # (N·T, K): T rows a sample
    if tensor.shape[batch_axis] % feed.padded_size or not (flattened or tensor.shape[batch_axis] == feed.padded_size):
        raise DataError(
            f"{feed.padded_size} samples give logits of shape {tensor.shape}: axis {batch_axis} does not count samples",
            hint="check that the first axis of the inputs counts samples; or pass --batch-size 1",
        )
    if feed.size == feed.padded_size:
        return tensor
    keep = tensor.shape[batch_axis] // feed.padded_size * feed.size
    return tensor[(slice(None),) * batch_axis + (slice(keep),)]


def find_batch_axis(session: Session, logits: str, tensor: Any, feed: Feed, head: Head) -> int:
    """Which axis of the logits counts samples; where sizes alone could mislead, the model is asked with one sample.

    The first, or the second where the first counts classes; time-major models have it behind the time axis.
    """
    usual = 1 if head.axis == 0 and getattr(tensor, "ndim", 0) > 1 and head.task != "binary" else 0
    if not isinstance(tensor, np.ndarray) or tensor.ndim <= 2 or head.flatten:
        return usual
    fitting = [a for a in range(tensor.ndim) if tensor.shape[a] == feed.padded_size and a != head.axis]
    if feed.padded_size > 1:
        try:
            one = session.run({name: array[:1] for name, array in feed.arrays.items()}, [logits])[0]
        except ModelError:  # a fixed batch size
            one = None
        if isinstance(one, np.ndarray) and one.ndim == tensor.ndim:
            fitting = [a for a in fitting if one.shape[a] == 1]
    return usual if usual in fitting or len(fitting) != 1 else fitting[0]


def samples_first(tensor: NDArray[Any], head: Head, batch_axis: int) -> tuple[NDArray[Any], Head]:
    """Logits of a time-major model with the axis of samples in front, and the head as it is then."""
    if batch_axis == 0 or (batch_axis == 1 and head.axis == 0):
        return tensor, head
    axis = head.axis + 1 if head.axis < batch_axis else head.axis
    return np.moveaxis(tensor, batch_axis, 0), replace(head, axis=axis)


def prefetched(items: Iterator[Item]) -> Iterator[Item]:
    """The same items; the next one is made in another thread while the current one is used."""
    made: SimpleQueue[tuple[Item | None, BaseException | None]] = SimpleQueue()
    wanted = Semaphore(1)
    stopped = False

    def work() -> None:
        while True:
            wanted.acquire()
            if stopped:
                return
            try:
                made.put((next(items), None))
            except BaseException as error:  # StopIteration too: it ends the other side
                made.put((None, error))
                return

    # A daemon: when the user interrupts, nobody waits for a loader that hangs.
    thread = Thread(target=work, name="onnxcal-data", daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            wanted.release()
            yield item  # type: ignore[misc]  # None only beside an error
    finally:
        stopped = True
        wanted.release()
        thread.join(timeout=1.0)


class _Spool:
    """Rows in memory, and in a temporary file once they are many."""

    def __init__(self) -> None:
        self._rows: list[FloatArray] = []
        self._empty: FloatArray | None = None  # of the rows' shape and type
        self._bytes = 0
        self._file: IO[bytes] | None = None

    def append(self, rows: FloatArray) -> None:
        self._bytes += rows.nbytes
        self._empty = rows[:0]
        if self._file is None and self._bytes > SPOOL_BYTES:
            self._file = tempfile.TemporaryFile(prefix="onnxcal-")  # noqa: SIM115  the memory map keeps it
            for earlier in self._rows:
                self._file.write(np.ascontiguousarray(earlier).data)
            self._rows = []
        if self._file is None:
            self._rows.append(np.array(rows))  # a copy: what the session returned may be much larger than its rows
        else:
            self._file.write(np.ascontiguousarray(rows).data)

    def array(self) -> FloatArray:
        if self._file is None or self._empty is None:
            return np.concatenate(self._rows)
        self._file.flush()
        shape, dtype = self._empty.shape[1:], self._empty.dtype
        row_bytes = int(np.prod(shape)) * dtype.itemsize
        with self._file:  # the map outlives it
            return np.memmap(self._file, dtype, "r", shape=(self._bytes // row_bytes, *shape))


class _Digests:
    """SHA-256 of each input and of the labels, the same for any batch size."""

    def __init__(self) -> None:
        self._by_name: dict[str, Any] = {}

    def update(self, feed: Feed, labels: NDArray[Any]) -> None:
        for name, array in {**feed.arrays, "": labels}.items():
            digest = self._by_name.setdefault(name, hashlib.sha256())
            part = np.ascontiguousarray(array[: feed.size])
            if part.dtype.kind in "USO":  # strings; a length before each keeps ("ab", "c") from being ("a", "bc")
                texts = [str(item).encode() for item in part.reshape(-1)]
                digest.update(b"".join(len(text).to_bytes(8, "little") + text for text in texts))
            else:
                digest.update(part.view(np.uint8).data)

    def hexdigest(self) -> str:
        whole = hashlib.sha256()
        for name in sorted(self._by_name):
            whole.update(name.encode() + b"\0" + self._by_name[name].digest())
        return whole.hexdigest()


def _joined(truths: list[LabelArray], num_classes: int) -> LabelArray:
    """Labels of all batches; class indices become one-hot where other batches were soft."""
    if len({truth.ndim for truth in truths}) > 1:
        truths = [np.eye(num_classes)[truth.astype(np.int64)] if truth.ndim == 1 else truth for truth in truths]
    return np.concatenate(truths)  # type: ignore[return-value]  # all of one dtype by now
