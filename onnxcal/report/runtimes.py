"""Runtimes on a terminal: which there are, and how a model did in each, in 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from onnxcal.inference.runtimes.registry import RuntimesResult
from onnxcal.report.console import console, print_rows
from onnxcal.verification import Check, RuntimeCheck, Verification


def print_runtimes(result: RuntimesResult, verbose: bool) -> None:
    """`runtimes`."""
    screen = console()
    for state in result.runtimes:
        mark = Text("installed  ", "green") if state.installed else Text("missing    ", "dim")
        version = state.version or ("there" if state.installed else "-")
        screen.print(Text.assemble((f"{state.name:<16}", "bold"), mark, f"{version:<14} ", state.what), soft_wrap=True)
        if not state.installed:
            screen.print(Text(f"                {state.install}"), soft_wrap=True)


def print_runtime_checks(entries: Sequence[RuntimeCheck]) -> None:
    """A table of how a model did in each runtime, then what is wrong where."""
    if not entries:
        return
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
