"""Batches that a user's own code makes: a list, a `torch.utils.data.DataLoader`, a generator, or a callable."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

from onnxcal.data.batch import Batch, make_batch
from onnxcal.errors import DataError, OnnxcalError


class IterableSource:
    """Batches as `(inputs, labels)` pairs, from something that can be iterated over again."""

    def __init__(self, name: str, make_batches: Callable[[], Iterable[Any]], n_samples: int | None = None) -> None:
        self.name = name
        self.n_samples = n_samples
        self._make_batches = make_batches

    def batches(self, size: int) -> Iterator[Batch]:
        """The user's batches, in order; longer ones cut to `size`."""
        iterator = self._call(lambda: iter(self._make_batches()))
        end = object()
        for number in range(1 << 62):
            item = self._call(lambda: next(iterator, end))
            if item is end:
                return
            batch = _batch_of(item, f"batch {number} of {self.name}")
            for start in range(0, batch.size, size):
                yield batch.slice(start, start + size)

    def _call(self, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except OnnxcalError:
            raise
        except Exception as error:
            raise DataError(
                f"{self.name} raised {type(error).__name__}: {error}",
                hint="run it on its own: it must yield (inputs, labels) batches",
            ) from error


class ReplayedSource:
    """An iterator that can be read only once: its batches are kept in a temporary file for the next reading."""

    def __init__(self, name: str, iterator: Iterator[Any]) -> None:
        self.name = name
        self.n_samples: int | None = None
        self._once = IterableSource(name, lambda: iterator)
        self._kept: IO[bytes] | None = None
        self._count = 0

    def batches(self, size: int) -> Iterator[Batch]:
        """The first time, what the iterator yields; from then on, what was kept."""
        if self._kept is None:
            self._kept = tempfile.TemporaryFile(prefix="onnxcal-")  # noqa: SIM115  kept until the source goes
            for batch in self._once.batches(1 << 62):
                pickle.dump(batch, self._kept, protocol=5)  # our own file, without a name
                self._count += 1
                yield from _cut(batch, size)
            return
        self._kept.seek(0)
        for _ in range(self._count):
            yield from _cut(pickle.load(self._kept), size)


def _cut(batch: Batch, size: int) -> Iterator[Batch]:
    for start in range(0, batch.size, size):
        yield batch.slice(start, start + size)


def _batch_of(item: Any, where: str) -> Batch:
    if isinstance(item, (tuple, list)) and len(item) == 2:
        return make_batch(item[0], item[1], where)
    if isinstance(item, (tuple, list)):
        raise DataError(
            f"{where} has {len(item)} parts, expected (inputs, labels)",
            hint="yield pairs; several inputs go into one tuple or dict",
        )
    return make_batch(item, None, where)
