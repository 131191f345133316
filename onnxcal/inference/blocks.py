"""Batches of a source cut and joined to blocks: a block is checked, hashed and handed over as one, and run in parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.data import Batch, Source
from onnxcal.data.streamed import StreamedSource

BLOCK_BYTES = 1 << 20
"""Inputs and labels of a block, unless one run alone has more."""
MAX_RUNS = 1024
"""Runs of a block, however small they are."""
PATIENCE = 0.01
"""Seconds for which small batches are waited for to join them: a slow loader's batch is handed over as it comes."""


def blocks(source: Source, size: int, limit: int = BLOCK_BYTES, *, fixed: bool = False) -> Iterator[tuple[Batch, int]]:
    """All samples of a source as `(block, samples a run)`; all runs of a block are equally large.

    The runs are those of `source.batches(size)`, whatever the blocks. Joined batches lie in memory that is used again
    for the block after the next: of a block nothing may be kept when the next but one is asked for.

    Parameters
    ----------
    source : labelled data.
    size : samples a run, at most.
    limit : bytes of a block; 0 for one run a block.
    fixed : the model takes `size` samples and no fewer: batches with fewer, which must be filled up, stay apart.
    """
    if limit == 0:
        for batch in source.batches(size):
            yield batch, batch.size
        return
    held: _Joining | None = None
    given: deque[_Joining] = deque(maxlen=2)
    start = monotonic()
    for whole in source.batches(size if isinstance(source, StreamedSource) else 1 << 62):
        if held is not None and not held.add(whole):
            yield held.block()
            given.append(held)
            held, start = None, monotonic()
        if held is None:
            if whole.size > size or (fixed and whole.size < size) or 2 * _nbytes(whole) > limit:
                yield from _pieces(whole, size, limit)
                start = monotonic()
                continue
            held = given.popleft() if len(given) == 2 and given[0].restart(whole) else _Joining(whole, limit)
        if held.full or monotonic() - start >= PATIENCE:
            yield held.block()
            given.append(held)
            held, start = None, monotonic()
    if held is not None:
        yield held.block()


def _pieces(whole: Batch, size: int, limit: int) -> Iterator[tuple[Batch, int]]:
    """A large batch cut; what is left behind the last full run is a block of its own."""
    full = whole.size - whole.size % size
    run_bytes = max(1, _nbytes(whole) * size // whole.size)
    step = size * max(1, min(MAX_RUNS, limit // run_bytes))
    for start in range(0, full, step):
        yield whole.slice(start, min(start + step, full)), size
    if full < whole.size:
        yield whole.slice(full, whole.size), whole.size - full


class _Joining:
    """Small batches of one form, copied into arrays of many: whoever made them may use theirs again."""

    def __init__(self, first: Batch, limit: int) -> None:
        self._first, self._size = first, first.size
        self._names = _names(first)
        self._forms = [(array.shape, array.dtype) for array in _arrays(first)]
        capacity = max(1, min(MAX_RUNS, limit // max(1, _nbytes(first))))
        self._room, self._used = capacity * self._size, 0
        self._arrays = [np.empty((self._room, *shape[1:]), dtype) for shape, dtype in self._forms]
        self.add(first)

    @property
    def full(self) -> bool:
        """Whether there is no room for one more."""
        return self._used == self._room

    def restart(self, batch: Batch) -> bool:
        """Begin anew with another first batch; False if it has another form."""
        self._used = 0
        return self.add(batch)

    def add(self, batch: Batch) -> bool:
        """Copy one more; False if it has another form."""
        arrays, start = _arrays(batch), self._used
        if len(arrays) != len(self._forms) or _names(batch) != self._names:
            return False
        for array, (shape, dtype) in zip(arrays, self._forms, strict=True):
            if array.shape != shape or array.dtype != dtype:
                return False
        self._used = stop = start + self._size
        for held, array in zip(self._arrays, arrays, strict=True):
            held[start:stop] = array
        return True

    def block(self) -> tuple[Batch, int]:
        """All of them as one batch, and their size."""
        arrays = iter([array[: self._used] for array in self._arrays])
        first = self._first
        if isinstance(first.inputs, Mapping):
            inputs: Any = {name: next(arrays) for name in first.inputs}
        else:
            inputs = tuple(next(arrays) for _ in first.inputs)
        if isinstance(first.labels, Mapping):
            return Batch(inputs, {name: next(arrays) for name in first.labels}), self._size
        return Batch(inputs, None if first.labels is None else next(arrays)), self._size


def _arrays(batch: Batch) -> tuple[NDArray[Any], ...]:
    labels = batch.labels
    if isinstance(labels, np.ndarray):
        return (*batch.arrays, labels)
    return batch.arrays if labels is None else (*batch.arrays, *labels.values())


def _names(batch: Batch) -> Any:
    """What the arrays are called, where they have names."""
    inputs, labels = batch.inputs, batch.labels
    if isinstance(inputs, tuple) and isinstance(labels, np.ndarray):
        return None
    return (
        len(inputs) if isinstance(inputs, tuple) else tuple(inputs),
        tuple(labels) if isinstance(labels, Mapping) else labels is None,
    )


def _nbytes(batch: Batch) -> int:
    return sum(array.nbytes for array in _arrays(batch))
