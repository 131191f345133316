"""The process that a runtime runs in: pickled requests on stdin, pickled answers on stdout. `client.py` starts it."""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import re
import sys
from pathlib import Path
from typing import Any, BinaryIO

from onnxcal.inference.runtimes.runtime import Program, Runtime

_LONGEST = 240


def main(module: str) -> None:
    """Answer until stdin ends, with the runtime of a module.

    `("load", slot, job)` loads a model, `("run", slot, feeds)` gives its outputs. The answer is `(True, outputs)` or
    `(False, why not)`. `("convert", "", conversion)` writes a model in the runtime's own format.
    """
    requests, answers = _private_streams()
    _yield_memory()
    runtime: Runtime = importlib.import_module(module).RUNTIME
    programs: dict[str, Program] = {}
    while True:
        try:
            verb, slot, what = pickle.load(requests)
        except EOFError:
            return
        answer: tuple[bool, Any]
        try:
            if verb == "load":
                programs[slot] = runtime.load(what)
                answer = (True, [])
            elif verb == "convert":
                assert runtime.convert is not None
                runtime.convert(what)
                answer = (True, [])
            else:
                answer = (True, list(programs[slot].run(what)))
        except BaseException as error:  # what a runtime raises is its own affair, SystemExit and Rust's panics included
            answer = (False, _reason(error))
        pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()


def _private_streams() -> tuple[BinaryIO, BinaryIO]:
    """Stdin and stdout as they came; libraries that read or print find nothing and stderr in their place."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, answers


def _yield_memory() -> None:
    """If memory runs out, this process is to go, and none of the user's; on Linux, nor may it have more than there is.

    What is reserved and not written to does not count: engines for WebAssembly reserve terabytes.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    if sys.platform == "linux":
        import resource

        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (total, resource.RLIM_INFINITY))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _reason(error: BaseException) -> str:
    """The line of an error that says what is wrong.

    That is the one that compilers mark, or Rust's last cause, or one of OpenVINO's list; else the first that is more
    than a heading or a place in someone's source.
    """
    said, _, _ = str(error).partition("\nStack backtrace:")
    said, _, cause = said.partition("\nCaused by:\n")
    lines = [line.strip() for line in said.splitlines() if line.strip(" :")]
    marked = [line[line.index("error: ") :] for line in lines if "error: " in line]
    caused = [re.sub(r"^\s*\d+: ", "", line).strip() for line in cause.splitlines() if line.strip()][-1:]
    listed = [line.removeprefix("-- ") for line in lines if line.startswith("-- ") and not line.endswith(":")]
    plain = [line for line in lines if not line.endswith(":")]
    text = next(iter((*marked, *caused, *listed, *plain, *lines)), type(error).__name__)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
