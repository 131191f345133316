"""Batches of a source cut and joined to blocks: a block is checked, hashed and handed over as one, and run in parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.data import Batch, Source

BLOCK_BYTES = 1 << 20
"""Inputs and labels of a block, unless one run alone has more."""
MAX_RUNS = 1024
"""Runs of a block, however small they are."""
PATIENCE = 0.002
"""Seconds for which small batches are waited for to join them: a slow loader's batch is handed over as it comes."""


def blocks(
    source: Source, size: int, limit: int = BLOCK_BYTES, *, fixed: bool = False
) -> Iterator[tuple[Batch, int]]:
    """All samples of a source as `(block, samples a run)`; all runs of a block are equally large.

    The runs are those of `source.batches(size)`, whatever the blocks.

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
    start = monotonic()
    for whole in source.batches(1 << 62):
        if held is not None and not held.takes(whole):
            yield held.block()
            held, start = None, monotonic()
        alone = whole.size > size or (fixed and whole.size < size) or 2 * _nbytes(whole) > limit
        if held is None and alone:
            yield from _pieces(whole, size, limit)
            start = monotonic()
            continue
        if held is None:
            held = _Joining(whole, limit)
        held.add(whole)
        if held.full or monotonic() - start >= PATIENCE:
            yield held.block()
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
    """Small batches of one form, copied into arrays of many."""

    def __init__(self, first: Batch, limit: int) -> None:
        self._form = _form(first)
        self._size = first.size
        self._capacity = max(1, min(MAX_RUNS, limit // max(1, _nbytes(first))))
        self._runs = 0
        self._arrays = [
            np.empty((self._capacity * self._size, *array.shape[1:]), array.dtype) for array in _arrays(first)
        ]
        self._first = first

    @property
    def full(self) -> bool:
        """Whether there is no room for one more."""
        return self._runs == self._capacity

    def takes(self, batch: Batch) -> bool:
        """Whether a batch has the form of those that are here."""
        return not self.full and _form(batch) == self._form

    def add(self, batch: Batch) -> None:
        """Copy one more: whoever made it may use its arrays again."""
        start = self._runs * self._size
        for held, array in zip(self._arrays, _arrays(batch), strict=True):
            held[start : start + self._size] = array
        self._runs += 1

    def block(self) -> tuple[Batch, int]:
        """All of them as one batch, and their size."""
        arrays = iter([array[: self._runs * self._size] for array in self._arrays])
        first = self._first
        if isinstance(first.inputs, Mapping):
            inputs: Any = {name: next(arrays) for name in first.inputs}
        else:
            inputs = tuple(next(arrays) for _ in first.inputs)
        if isinstance(first.labels, Mapping):
            return Batch(inputs, {name: next(arrays) for name in first.labels}), self._size
        return Batch(inputs, None if first.labels is None else next(arrays)), self._size


def _arrays(batch: Batch) -> list[NDArray[Any]]:
    if batch.labels is None:
        return [*batch.arrays]
    return [*batch.arrays, *(batch.labels.values() if isinstance(batch.labels, Mapping) else (batch.labels,))]


def _form(batch: Batch) -> tuple[Any, ...]:
    """What batches that can be joined have in common."""
    names = tuple(batch.inputs) if isinstance(batch.inputs, Mapping) else len(batch.inputs)
    heads = tuple(batch.labels) if isinstance(batch.labels, Mapping) else batch.labels is None
    return (names, heads, *((array.shape, array.dtype) for array in _arrays(batch)))


def _nbytes(batch: Batch) -> int:
    return sum(array.nbytes for array in _arrays(batch))
