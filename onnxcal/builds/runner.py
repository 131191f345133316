"""Running jobs in processes of their own, several at once; none outlives an interruption."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

_WORKER = "onnxcal.builds.worker"  # by name: it imports what a build that has nothing to do does not need
_PACKAGES = Path(__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    code: int
    """0, 1 or 2, as the exit codes of the command line."""
    error: str | None
    """What went wrong."""
    hint: str | None
    """What to do about it."""
    result: Mapping[str, Any] | None
    """The document of `calibrate --json`."""


def run_jobs(
    jobs: Sequence[Mapping[str, Any]], folder: Path, *, at_once: int, done: Callable[[int, Outcome], None]
) -> None:
    """Run them all, whatever becomes of each.

    Parameters
    ----------
    jobs : keyword arguments of `calibrate`.
    folder : in which they run.
    at_once : processes.
    done : called with a job's number as soon as it is over, from one thread at a time.
    """
    running: set[subprocess.Popen[str]] = set()
    lock, stopped = Lock(), False

    def run(number: int) -> None:
        with lock:
            if stopped:
                return
            process = _start(folder)
            running.add(process)
        text, _ = process.communicate(json.dumps(jobs[number]))
        with lock:
            running.discard(process)
            if not stopped:
                done(number, _outcome(process.returncode, text))

    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(run, number) for number in range(len(jobs))]
        try:
            for future in futures:
                future.result()
        except BaseException:
            with lock:
                stopped = True
                for process in running:
                    process.terminate()
            raise


def _start(folder: Path) -> subprocess.Popen[str]:
    paths = [str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-m", _WORKER],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,  # an interruption on the terminal reaches this process, which ends the others
    )


def _outcome(code: int, text: str) -> Outcome:
    try:
        return Outcome(**json.loads(text))
    except (ValueError, TypeError):
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        return Outcome(2, f"the process that made it {how}", "try onnxcal calibrate with the same options", None)
