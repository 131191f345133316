"""Keeping stdout for results while a user's code runs: what it prints goes to stderr, its subprocesses' output too."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


@contextmanager
def stdout_kept() -> Iterator[None]:
    """Let `sys.stdout` and the process's own standard output be stderr for a while."""
    try:
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # there is none, or no stderr
        kept = None
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)
