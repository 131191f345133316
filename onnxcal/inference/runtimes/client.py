"""A runtime in a process of its own: it may crash, hang or eat memory, and onnxcal says so and goes on."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from onnxcal.inference.runtimes.runtime import Conversion, Job, Runtime


class RuntimeFailed(Exception):
    """A runtime did not do what it was asked: one sentence."""


class RuntimeProcess:
    """A runtime that holds models in slots. When it has died, the next request starts it anew, without them.

    Parameters
    ----------
    runtime : one that is installed.
    folder : where it may write.
    timeout : seconds that one request may take.
    """

    def __init__(self, runtime: Runtime, folder: Path, timeout: float) -> None:
        self._runtime, self._folder, self._timeout = runtime, folder, timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile(prefix="onnxcal-")  # noqa: SIM115  closed with the process
        self._slots: set[str] = set()

    def __enter__(self) -> RuntimeProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._log.close()

    def load(self, slot: str, job: Job) -> None:
        """Load a model.

        Raises
        ------
        RuntimeFailed
            The runtime refused it, crashed, or took too long.
        """
        self._slots.discard(slot)
        self._ask("load", slot, job)
        self._slots.add(slot)

    def holds(self, slot: str) -> bool:
        """Whether a model was loaded into a slot, and has not gone with a process that died since."""
        return slot in self._slots

    def convert(self, conversion: Conversion) -> None:
        """Write a model in the runtime's own format; errors as of `load`."""
        self._ask("convert", "", conversion)

    def run(self, slot: str, feeds: Mapping[str, NDArray[Any]]) -> list[Any]:
        """All outputs of a model that was loaded; errors as of `load`."""
        outputs: list[Any] = self._ask("run", slot, dict(feeds))
        return outputs

    def _ask(self, verb: str, slot: str, what: Any) -> Any:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Event()

        def stop() -> None:
            late.set()
            _kill(process)

        timer = threading.Timer(self._timeout, stop)
        timer.start()
        try:
            pickle.dump((verb, slot, what), process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            done, answer = pickle.load(process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            with suppress(subprocess.TimeoutExpired):  # it has closed its end, and is about to be gone
                process.wait(1)
            self._end()
            if late.is_set():
                raise RuntimeFailed(f"it did not {verb} within {self._timeout:g} s (--runtime-timeout)") from None
            raise RuntimeFailed(f"it crashed: {self._last_words(process.returncode)}") from None
        finally:
            timer.cancel()
        if not done:
            raise RuntimeFailed(answer)
        return answer

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            program = (
                f"import sys; sys.path[:] = {sys.path!r}; "
                f"from onnxcal.inference.runtimes.worker import main; main({self._runtime.load.__module__!r})"
            )
            self._process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                cwd=self._folder,
                start_new_session=True,  # so that what it starts ends with it
            )
        return self._process

    def _end(self) -> None:
        self._slots.clear()
        if self._process is None:
            return
        _kill(self._process)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # what was not written is not wanted any more
                assert stream is not None
                stream.close()
        self._process = None

    def _last_words(self, code: int) -> str:
        if code < 0:
            known = {number.value: number.name for number in signal.Signals}
            return known.get(-code, f"signal {-code}") + (", out of memory?" if -code == signal.SIGKILL else "")
        self._log.seek(max(0, os.fstat(self._log.fileno()).st_size - 4096))
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[:200] if lines else f"exit code {code}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started."""
    with suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
