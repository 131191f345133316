"""Runtimes on a terminal: which there are, and how a model did in each, in 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onnxcal.report.console import console, print_line, print_rows

if TYPE_CHECKING:
    from onnxcal.inference.runtimes.registry import RuntimesResult
    from onnxcal.verification import Check, RuntimeCheck, Verification


def print_runtimes(result: RuntimesResult, verbose: bool) -> None:
    """`runtimes`."""
    for state in result.runtimes:
        there = ("installed ", "green") if state.installed else ("missing   ", "dim")
        version = state.version or ("there" if state.installed else "-")
        print_line((f"{state.name:<15}", "bold"), there, (f"{version:<13}{state.what}", ""))
        if not state.installed:
            print_line((f"{'':<15}{state.install}", ""))


def print_runtime_checks(entries: Sequence[RuntimeCheck]) -> None:
    """A table of how a model did in each runtime, then what is wrong where."""
    if not entries:
        return
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column("runtime", no_wrap=True, max_width=30)
    table.add_column("result", no_wrap=True)
    for column in ("error", "limit", "flips", "NLL", "ECE"):
        table.add_column(column, justify="right", no_wrap=True)
    for entry in entries:
        table.add_row(entry.title, Text(runtime_outcome(entry), style(entry)), *figures(entry))
    console().print(Padding(table, (1, 0, 1, 2), expand=False))
    print_rows(
        (" FAIL" if entry.counts and not entry.passed else " note", f"{entry.title}: {entry.detail}")
        for entry in entries
        if entry.detail
    )


def own_checks(verification: Verification) -> list[Check]:
    """The checks besides those of other runtimes, which have a table of their own."""
    elsewhere = {entry.as_check().name for entry in verification.runtimes[1:]}
    return [check for check in verification.checks if check.name not in elsewhere]


def runtime_outcome(entry: RuntimeCheck) -> str:
    """PASSED or FAILED; in lower case where it does not count."""
    word = "PASSED" if entry.passed else "FAILED"
    return word if entry.counts else word.lower()


def style(entry: RuntimeCheck) -> str:
    """How the outcome is shown."""
    return "green" if entry.passed else "bold red" if entry.counts else "yellow"


def figures(entry: RuntimeCheck) -> tuple[str, str, str, str, str]:
    """Largest error, its limit, flipped predictions, NLL and ECE, as text."""
    if entry.max_abs_error is None:
        return ("-", "-", "-", "-", "-")
    return (
        f"{entry.max_abs_error:.1e}",
        "" if entry.tolerance is None else f"{entry.tolerance:.1e}",
        f"{entry.argmax_changed:,}",
        "" if entry.nll is None else f"{entry.nll:.4f}",
        "" if entry.ece is None else f"{entry.ece:.4f}",
    )
