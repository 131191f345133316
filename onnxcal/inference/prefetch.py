"""Making the next item while the current one is used."""

from __future__ import annotations

from collections.abc import Iterator
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import TypeVar

Item = TypeVar("Item")


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
