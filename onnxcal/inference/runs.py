"""Runs of one session over `Feed`s: each run as onnxruntime would do it alone, its results kept together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.inference.feeds import Feed
from onnxcal.inference.session import Session

PORTION_SECONDS = 0.05
"""After so long what is there is handed on, so that errors and progress of a slow model are seen as they come."""
_SLOTS = 32
"""Runs for which memory is bound to the session, at most."""
_FEW_RUNS = 8
"""Runs of a feed for which it is not worth it."""
_SLOT_BYTES = 1 << 16
"""Inputs and outputs of a run beyond which copying them to and fro costs more than binding saves."""
_SLOT_SECONDS = 2e-3
"""A run that takes longer does not feel what binding saves."""
_SLOTS_BYTES = 1 << 20
"""Memory that is bound, about: it should stay in a core's cache between being written and read."""
_ALIGNMENT = 64


@dataclass(frozen=True)
class Portion:
    """Some runs, and what came out: valid until the next portion is asked for, which may use its memory again."""

    feed: Feed
    """What was fed."""
    results: Sequence[Mapping[str, Any]]
    """Tensors by name, run by run."""
    joined: Mapping[str, NDArray[Any]] | None
    """The tensors of all runs, one behind the other on the first axis; None where that does not count samples."""

    def runs(self) -> Iterator[tuple[Feed, Mapping[str, Any]]]:
        """Run by run."""
        for number, tensors in enumerate(self.results):
            yield self.feed.part(number, number + 1), tensors


class Runner:
    """A session, and what it is asked for.

    Small runs go through memory that is bound to the session once: `run` takes it, and makes it, anew each time.
    """

    def __init__(self, session: Session, outputs: Sequence[str]) -> None:
        self.session = session
        self.outputs = list(outputs)
        self._form: Any = None  # of the inputs that the slots are made for
        self._slots: _Slots | None = None
        self._bindable = session.on_cpu

    def portions(self, feed: Feed) -> Iterator[Portion]:
        """Run a feed, and yield what came out, at least one run at a time.

        Raises
        ------
        ModelError
            onnxruntime failed.
        """
        done = 0
        while done < feed.runs:
            portion = self._bound(feed, done) or self._plain(feed, done)
            done += portion.feed.runs
            yield portion

    def _plain(self, feed: Feed, first: int) -> Portion:
        start = before = perf_counter()
        results: list[dict[str, Any]] = []
        size, fastest = feed.run_size, np.inf
        fresh = self._bindable and feed.runs >= _FEW_RUNS and _form(feed) != self._form
        for at in range(first * size, feed.padded_size, size):
            arrays = {name: array[at : at + size] for name, array in feed.arrays.items()}
            results.append(dict(zip(self.outputs, self.session.run(arrays, self.outputs), strict=True)))
            now = perf_counter()
            fastest, before = min(fastest, now - before), now
            if now - start > PORTION_SECONDS or (fresh and len(results) == 3):
                break
        if fresh:
            self._prepare(feed, results[-1], fastest)
        part = feed.part(first, first + len(results))
        return Portion(part, results, _joined(results, size))

    def _prepare(self, feed: Feed, tensors: Mapping[str, Any], seconds: float) -> None:
        """Bind memory for runs of this form, where it is worth it."""
        self._form, self._slots = _form(feed), None
        wanted = [*(array[: feed.run_size] for array in feed.arrays.values()), *tensors.values()]
        if seconds > _SLOT_SECONDS or not all(map(_is_plain, wanted)):
            return
        if sum(array.nbytes for array in wanted) <= _SLOT_BYTES and _joined([tensors], feed.run_size) is not None:
            self._slots = _Slots(self.session, feed, tensors)

    def _bound(self, feed: Feed, first: int) -> Portion | None:
        """Runs through the slots; None where there are none that fit, or an output came out in another shape."""
        slots = self._slots
        if slots is None or feed.runs - first < 2 or _form(feed) != self._form:
            return None
        start, last = perf_counter(), first
        joined = slots.room(feed.runs - first)
        try:
            while last < feed.runs and perf_counter() - start <= PORTION_SECONDS:
                count = min(slots.count, feed.runs - last)
                slots.run(feed, last, count, joined, last - first)
                last += count
        except Exception:  # onnxruntime's exceptions have no common base; a plain run says what is wrong
            self._slots, self._bindable = None, False
            return None
        part = feed.part(first, last)
        flat = {name: array[: part.runs].reshape(-1, *array.shape[2:]) for name, array in joined.items()}
        return Portion(part, _Split(flat, part.runs), flat)


class _Slots:
    """Memory for some runs of one form, bound to the session."""

    def __init__(self, session: Session, feed: Feed, tensors: Mapping[str, NDArray[Any]]) -> None:
        size = feed.run_size
        run_bytes = sum(array[:size].nbytes for array in feed.arrays.values()) + sum(a.nbytes for a in tensors.values())
        self.count = max(1, min(_SLOTS, feed.runs, _SLOTS_BYTES // run_bytes))
        self._inputs = {n: _aligned((self.count, size, *a.shape[1:]), a.dtype) for n, a in feed.arrays.items()}
        self._outputs = {n: _aligned((self.count, *a.shape), a.dtype) for n, a in tensors.items()}
        self._results: dict[str, NDArray[Any]] = {}
        self._runs: list[Callable[[], None]] = [
            session.bound(
                {name: array[slot] for name, array in self._inputs.items()},
                {name: array[slot] for name, array in self._outputs.items()},
            )
            for slot in range(self.count)
        ]

    def room(self, runs: int) -> dict[str, NDArray[Any]]:
        """Arrays for the outputs of so many runs, one entry of the first axis each; the same memory every time."""
        if any(runs > len(self._results.get(name, ())) for name in self._outputs):
            self._results = {n: np.empty((runs, *slots.shape[1:]), slots.dtype) for n, slots in self._outputs.items()}
        return {name: array[:runs] for name, array in self._results.items()}

    def run(self, feed: Feed, first: int, count: int, results: Mapping[str, NDArray[Any]], start: int) -> None:
        """Runs `first` to `first + count` of a feed; what comes out goes to `results` from entry `start` on."""
        cut = slice(first * feed.run_size, (first + count) * feed.run_size)
        for name, array in feed.arrays.items():
            slots = self._inputs[name][:count]
            slots[...] = array[cut].reshape(slots.shape)
        for run in self._runs[:count]:
            run()
        for name, slots in self._outputs.items():
            results[name][start : start + count] = slots[:count]


class _Split(Sequence[Mapping[str, Any]]):
    """Joined results as those of single runs, cut when they are asked for."""

    def __init__(self, joined: Mapping[str, NDArray[Any]], runs: int) -> None:
        self._joined, self._runs = joined, runs

    def __len__(self) -> int:
        return self._runs

    def __getitem__(self, run: Any) -> Any:
        if not 0 <= run < self._runs:
            raise IndexError(run)
        rows = {name: len(array) // self._runs for name, array in self._joined.items()}
        return {name: array[run * rows[name] : (run + 1) * rows[name]] for name, array in self._joined.items()}


def _joined(results: Sequence[Mapping[str, Any]], size: int) -> Mapping[str, NDArray[Any]] | None:
    first = results[0]
    for tensor in first.values():
        if not isinstance(tensor, np.ndarray) or tensor.ndim == 0 or len(tensor) % size:
            return None
    if len(results) == 1:
        return first
    if any(tensors[name].shape != first[name].shape for tensors in results for name in first):
        return None
    return {name: np.concatenate([tensors[name] for tensors in results]) for name in first}


def _form(feed: Feed) -> Any:
    return (feed.run_size, *((name, array.dtype, array.shape[1:]) for name, array in feed.arrays.items()))


def _is_plain(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim > 0 and value.size > 0 and value.dtype.kind in "biuf"


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros, each entry of the first axis contiguous and at an address of its own alignment.

    Kernels may add in another order where an address is aligned otherwise: equal addresses give equal bits.
    """
    inner: tuple[int, ...] = np.empty(shape[1:], dtype).strides
    step = -(-int(np.prod(shape[1:])) * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
    raw = np.zeros(shape[0] * step + _ALIGNMENT, np.uint8)
    slots: NDArray[Any] = np.ndarray(shape, dtype, raw, -raw.ctypes.data % _ALIGNMENT, (step, *inner))
    return slots
