"""`StreamedSource`: data that are never all in memory; files of samples read, cut and joined as runs need them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from onnxcal.data.batch import Batch
from onnxcal.logits import Task


class StreamedSource(ABC):
    """A `Source` that makes batches of the size that it is asked for, and holds no more than it was asked for."""

    name: str
    """How messages call it."""
    n_samples: int | None = None
    """How many samples there are, where that is known before reading them."""
    notes: tuple[str, ...] = ()
    """What was left out or passed over, one sentence each."""
    sample_bytes: int | None = None
    """Bytes of one sample's inputs, where that is known before reading them."""

    @abstractmethod
    def chunks(self, size: int) -> Iterator[Batch]:
        """All samples in order, in pieces as they come; about `size` at a time where that is the source's choice."""

    def batches(self, size: int) -> Iterator[Batch]:
        """All samples from the beginning, `size` at a time, whatever the pieces that they lie in."""
        return recut(self.chunks(size), size)

    def check_classes(self, output: str, task: Task, num_classes: int) -> None:
        """Raise DataError if the data count or call their classes otherwise than a head does.

        Parameters
        ----------
        output : name of the head.
        task : what its classes mean.
        num_classes : K, as the logits have it; 2 for `binary`.
        """
        return


def recut(chunks: Iterator[Batch], size: int) -> Iterator[Batch]:
    """The same samples, `size` at a time; only the last batch may have fewer."""
    held: list[Batch] = []
    count = 0
    for chunk in chunks:
        start = 0
        while chunk.size - start >= size - count:
            held.append(chunk.slice(start, start + size - count))
            start += size - count
            yield _joined(held)
            held, count = [], 0
        if start < chunk.size:
            held.append(chunk.slice(start, chunk.size))
            count += chunk.size - start
    if held:
        yield _joined(held)


def _joined(batches: Sequence[Batch]) -> Batch:
    if len(batches) == 1:
        return batches[0]
    return Batch(_concatenated([batch.inputs for batch in batches]), _concatenated([batch.labels for batch in batches]))


def _concatenated(parts: Sequence[Any]) -> Any:
    """Arrays, tuples or dicts of arrays, or nothing, one behind the other."""
    first = parts[0]
    if isinstance(first, Mapping):
        return {name: _concatenated([part[name] for part in parts]) for name in first}
    if isinstance(first, tuple):
        return tuple(_concatenated(arrays) for arrays in zip(*parts, strict=True))
    return None if first is None else np.concatenate(parts)
