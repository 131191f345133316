"""How a model is run; and for `--batch-size auto`, which number of samples a run is fastest, by trying."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from onnxcal.data import Source
from onnxcal.data.streamed import StreamedSource
from onnxcal.defaults import DEFAULT_BATCH_SIZE as DEFAULT_BATCH_SIZE
from onnxcal.defaults import BatchSize as BatchSize
from onnxcal.errors import ModelError, UsageError
from onnxcal.graph.modelfile import ModelFile
from onnxcal.inference.feeds import Feed, Feeder
from onnxcal.inference.session import Session, open_session

MAX_BATCH_SIZE = 4096
"""More than that is never tried."""
BATCH_BYTES = 1 << 28
"""Nor more than this for the inputs and outputs of a run; what lies between them is not known."""
GAIN = 1.1
"""A larger batch must do so many times more samples a second."""
_LONG_SECONDS = 1.0
"""A run of this length is not doubled."""
_TRIALS, _TRIAL_SECONDS = 5, 0.1


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


def run_options(
    model: ModelFile, source: Source | None, batch_size: BatchSize, provider: str | None, threads: int | None
) -> tuple[RunOptions, tuple[str, ...]]:
    """`RunOptions` with a number in place of `auto`, and a note of what was chosen.

    T depends on the choice no more than on any batch size: by rounding, unless what the model gives for one sample
    depends on the others in its batch (8-bit scales that are found at run time, say). Hence the note.

    Raises
    ------
    UsageError
        A number out of range, or a word other than `auto`.
    ModelError
        With `auto`: the model cannot be loaded.
    DataError
        With `auto`: the first samples do not fit the model.
    """
    if isinstance(batch_size, str) and batch_size != "auto":
        raise UsageError(f"batch_size {batch_size!r} is neither a number nor 'auto'", hint="leave it out for 64")
    options = RunOptions(DEFAULT_BATCH_SIZE if batch_size == "auto" else batch_size, provider, threads)
    if batch_size != "auto" or source is None:
        return options, ()
    session = open_session(model, provider=provider, threads=threads)
    feed = _first_samples(Feeder(session.inputs, source, MAX_BATCH_SIZE))
    if feed is None:
        return options, ()
    size = fastest_batch_size(session, feed)
    note = f"--batch-size auto chose {size} samples a run; to have the same result to the last bit, pass that number"
    return RunOptions(size, provider, threads), (note,)


def fastest_batch_size(session: Session, feed: Feed) -> int:
    """The batch size with the most samples a second, of 1, 2, 4, … and all that there are.

    A larger one counts only if it does `GAIN` times as many, and two that do not end the search.

    Parameters
    ----------
    session : the model.
    feed : samples to try it on, one run of them all.

    Returns
    -------
    A number of samples; `DEFAULT_BATCH_SIZE` if the model runs none of them.
    """
    best, most, misses = 0, 0.0, 0
    for size in _sizes(feed.size):
        try:
            seconds, nbytes = _time(session, feed, size)
        except ModelError:  # built for one size that it does not declare
            if best:
                break
            continue
        if size / seconds > GAIN * most:
            best, most, misses = size, size / seconds, 0
        else:
            misses += 1
        if misses == 2 or seconds > _LONG_SECONDS or 2 * nbytes > BATCH_BYTES:
            break
    return best or DEFAULT_BATCH_SIZE


def _sizes(available: int) -> Iterator[int]:
    size = 1
    while size < available:
        yield size
        size *= 2
    yield available


def _time(session: Session, feed: Feed, size: int) -> tuple[float, int]:
    """Seconds of the fastest of some runs, and the bytes that go in and come out."""
    arrays = {name: array[:size] for name, array in feed.arrays.items()}
    results = session.run(arrays, session.outputs)  # the first run of a size allocates
    nbytes = sum(array.nbytes for array in (*arrays.values(), *results) if isinstance(array, np.ndarray))
    start, fastest = perf_counter(), np.inf
    for _ in range(_TRIALS):
        before = perf_counter()
        session.run(arrays, session.outputs)
        now = perf_counter()
        fastest = min(fastest, now - before)
        if now - start > _TRIAL_SECONDS:
            break
    return float(fastest), nbytes


def _first_samples(feeder: Feeder) -> Feed | None:
    """As many samples as can be tried; None if the model fixes the batch, or there are none."""
    if feeder.fixed_size is not None:
        return None
    source, most = feeder.source, MAX_BATCH_SIZE
    if isinstance(source, StreamedSource) and source.sample_bytes:
        most = max(1, min(most, BATCH_BYTES // source.sample_bytes))
    batch = next(source.batches(most), None)
    if batch is None:
        return None
    sample_bytes = max(1, sum(array[:1].nbytes for array in batch.arrays))
    batch = batch.slice(0, max(1, min(batch.size, BATCH_BYTES // sample_bytes)))
    return feeder.feed(batch, batch.size, 0)
