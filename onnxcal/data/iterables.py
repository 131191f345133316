"""Batches that a user's own code makes: a list, a `torch.utils.data.DataLoader`, a generator, or a callable."""

from __future__ import annotations

import pickle
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

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
            item = self._call(partial(next, iterator, end))
            if item is end:
                return
            batch = _batch_of(item, f"batch {number} of {self.name}")
            if 0 < batch.size <= size:
                yield batch
                continue
            for start in range(0, batch.size, size):
                yield batch.slice(start, start + size)

    def _call(self, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except OnnxcalError:
            raise
        except (Exception, SystemExit) as error:
            raise DataError(
                f"{self.name} raised {type(error).__name__}: {error}",
                hint="run it on its own: it must yield (inputs, labels) batches",
            ) from error


class ReplayedSource:
    """An iterator that can be read only once: its batches are kept in a temporary file for the next reading."""

    def __init__(self, name: str, iterator: Iterator[Any], n_samples: int | None = None) -> None:
        self.name = name
        self.n_samples = n_samples
        self._rest = IterableSource(name, lambda: iterator).batches(1 << 62)
        self._kept = tempfile.TemporaryFile(prefix="onnxcal-")  # noqa: SIM115  closed when the source goes
        self._starts: list[int] = []
        self._error: OnnxcalError | None = None
        weakref.finalize(self, self._kept.close)

    def batches(self, size: int) -> Iterator[Batch]:
        """What was kept of an earlier reading, then what the iterator still yields."""
        for number in range(1 << 62):
            batch = self._again(number) if number < len(self._starts) else self._next()
            if batch is None:
                return
            for start in range(0, batch.size, size):
                yield batch.slice(start, start + size)

    def _again(self, number: int) -> Batch:
        self._kept.seek(self._starts[number])
        batch: Batch = pickle.load(self._kept)  # our own file, without a name
        return batch

    def _next(self) -> Batch | None:
        if self._error is not None:
            raise self._error
        try:
            batch = next(self._rest, None)
        except OnnxcalError as error:
            self._error = error
            raise
        if batch is None:
            return None
        self._starts.append(self._kept.seek(0, 2))
        pickle.dump(batch, self._kept, protocol=5)
        return self._again(len(self._starts) - 1)  # a copy: the iterator may use its arrays again


def _batch_of(item: Any, where: str) -> Batch:
    if isinstance(item, (tuple, list)) and len(item) == 2:
        return make_batch(item[0], item[1], where)
    if isinstance(item, (tuple, list)):
        raise DataError(
            f"{where} has {len(item)} parts, expected (inputs, labels)",
            hint="yield pairs; several inputs go into one tuple or dict",
        )
    return make_batch(item, None, where)
