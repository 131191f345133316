"""The terminal: rows of labels and values, warnings, and what to do next, in 80 columns and without colour too."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from onnxcal.report.printable import printable, spelled

if TYPE_CHECKING:
    from rich.console import Console

LABEL_WIDTH = len("temperature") + 2


class Styled(NamedTuple):
    """A value in a colour, which says nothing that the text does not."""

    text: str
    """The value."""
    style: str
    """As rich calls it: `bold green`."""


def print_rows(rows: Iterable[tuple[str, str | Styled]]) -> None:
    """Label and value; values wrap between words, so that a path can be copied whole."""
    for name, value in rows:
        text, style = value if isinstance(value, Styled) else (value, "")
        lines = wrapped(text, width() - LABEL_WIDTH)
        print_line((name.ljust(LABEL_WIDTH), "bold"), (lines[0], style))
        for line in lines[1:]:
            print_line((" " * LABEL_WIDTH, ""), (line, style))


def print_warnings(warnings: Iterable[str]) -> None:
    """One sentence each."""
    lead = "warning:"
    for warning in warnings:
        first, *others = wrapped(f"{lead} {warning}", width())
        print_line((lead, "bold yellow"), (first.removeprefix(lead), ""))
        for line in others:
            print_line((line, ""))


def print_next(*commands: str) -> None:
    """Commands that come next."""
    for number, command in enumerate(commands):
        print_line((f"{'next:' if number == 0 else '     '} {command}", ""))


def print_line(*pieces: tuple[str, str]) -> None:
    """One line, of texts with their styles."""
    if _is_plain():
        print("".join(text for text, _ in pieces))
        return
    from rich.text import Text

    console().print(Text.assemble(*pieces), soft_wrap=True)


def width() -> int:
    """Columns of the terminal, 80 where it is none."""
    return shutil.get_terminal_size((80, 24)).columns if _is_plain() else console().width


def _is_plain() -> bool:
    """Whether there are no colours to show, so that rich, which takes longer to import than a patch, need not be."""
    forced = any(os.environ.get(name) for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"))
    return not forced and not sys.stdout.isatty()


def wrapped(text: str, width: int, *, breaking: bool = False) -> list[str]:
    """Lines of printable text, in characters that standard output has.

    Words that are longer than a line stay whole, unless `breaking`.
    """
    text = spelled(printable(text), getattr(sys.stdout, "encoding", None) or "utf-8")
    return textwrap.wrap(text, max(width, 20), break_long_words=breaking, break_on_hyphens=False) or [""]


def console() -> Console:
    """Standard output as it is now; 80 columns where it is no terminal."""
    from rich.console import Console

    class PipeConsole(Console):
        """Leaves a pipe which nobody reads any more to `cli.main`; rich's own console exits with 1."""

        def on_broken_pipe(self) -> None:
            """Raise what happened."""
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    return PipeConsole(highlight=False, emoji=False, markup=False)
