"""Work beside other work: a thread with a result. `concurrent.futures` would do, and takes 20 ms to import."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Job(Generic[Result]):
    """A function that runs in a thread of its own from now on; a process that ends does not wait for it."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self._found: list[Result] = []
        self._error: BaseException | None = None

        def run() -> None:
            try:
                self._found.append(work())
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until it is done, well or not."""
        self._thread.join()

    def result(self) -> Result:
        """Wait for it; raises what it raised."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._found[0]
