"""What became of the targets of a build, on the terminal: a line when each is done, and a table at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from onnxcal.builds.results import BuildResult, Status, TargetResult
from onnxcal.report.console import console, print_rows, print_warnings
from onnxcal.report.printable import printable

_STYLES: Mapping[Status, str] = {
    "up to date": "dim", "made": "green", "out of date": "yellow", "refused": "bold red", "failed": "bold red",
}  # fmt: skip


def line(target: TargetResult) -> str:
    """One target, with what went wrong."""
    text = f"{target.name}: {target.status}"
    if target.error is not None:
        text += f": {target.error}" + (f"\n  hint: {target.hint}" if target.hint else "")
    elif target.reason is not None:
        text += f" ({target.reason})"
    return "\n".join(printable(part) for part in text.split("\n"))


def print_built(result: BuildResult, verbose: bool) -> None:
    """`build`."""
    shown = [(target, figures) for target in result.targets for figures in _figures(target.result)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 1), header_style="bold")
    table.add_column("target", no_wrap=True)
    table.add_column("")
    measured = any(figures for _, figures in shown)
    for column in ("head", "T", "NLL", "ECE") if measured else ():
        table.add_column(column, justify="left" if column == "head" else "right", no_wrap=True)
    above = None
    for target, figures in shown:
        status = Text(target.status, style=_STYLES[target.status])
        first = (printable(target.name), status) if target is not above else ("", "")
        table.add_row(*first, *(figures or ("",) * 4 if measured else ()))
        above = target
    console().print(Padding(table, (1, 0, 1, 2), expand=False))
    print_warnings(result.warnings)
    if verbose:
        print_rows([("declared in", printable(result.config))])


def _figures(result: Mapping[str, Any] | None) -> list[tuple[str, ...]]:
    """Output, T, and NLL and ECE before and after, of each head; one empty row where nothing was measured."""
    if result is None or "calibration" not in result or "metrics" not in result:
        return [()]
    return [
        (
            printable(str(head["calibration"]["output"])),
            f"{head['calibration']['temperature']:.4g}",
            *(f"{_number(head, 'before', key)} → {_number(head, 'after', key)}" for key in ("nll", "ece")),
        )
        for head in result.get("heads") or [result]
    ]


def _number(head: Mapping[str, Any], when: str, key: str) -> str:
    value = head["metrics"][when][key]
    return "–" if value is None else f"{value:.4f}"
