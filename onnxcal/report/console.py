"""The terminal: rows of labels and values, warnings, and what to do next, in 80 columns and without colour too."""

from __future__ import annotations

import errno
import os
import textwrap
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from onnxcal.report.printable import printable, spelled

LABEL_WIDTH = len("temperature") + 2


def print_rows(rows: Iterable[tuple[str, str | Text]]) -> None:
    """Label and value; values wrap between words, so that a path can be copied whole."""
    screen = console()
    for name, value in rows:
        style = value.style if isinstance(value, Text) else ""
        lines = wrapped(str(value), screen.width - LABEL_WIDTH)
        screen.print(Text.assemble((name.ljust(LABEL_WIDTH), "bold"), (lines[0], style)), soft_wrap=True)
        for line in lines[1:]:
            screen.print(Text.assemble(" " * LABEL_WIDTH, (line, style)), soft_wrap=True)


def print_warnings(warnings: Iterable[str]) -> None:
    """One sentence each."""
    for warning in warnings:
        for number, line in enumerate(wrapped(f"warning: {warning}", console().width)):
            text = Text(line)
            if number == 0:
                text.stylize("bold yellow", 0, len("warning:"))
            console().print(text, soft_wrap=True)


def print_next(*commands: str) -> None:
    """Commands that come next."""
    for number, command in enumerate(commands):
        console().print(Text(f"{'next:' if number == 0 else '     '} {command}"), soft_wrap=True)


def wrapped(text: str, width: int) -> list[str]:
    """Lines of printable text, in characters that standard output has."""
    text = spelled(printable(text), console().encoding)
    return textwrap.wrap(text, max(width, 20), break_long_words=False, break_on_hyphens=False) or [""]


class _PipeConsole(Console):
    """A console that leaves a pipe which nobody reads any more to `cli.main`; rich's own exits with 1."""

    def on_broken_pipe(self) -> None:
        """Raise what happened."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def console() -> Console:
    """Standard output as it is now; 80 columns where it is no terminal."""
    return _PipeConsole(highlight=False, emoji=False, markup=False)
