"""Tables of scores on a terminal: before and after a calibration, or of a model as it stands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from onnxcal.metrics import Metrics, Scores
from onnxcal.report.console import console, print_line, width, wrapped

if TYPE_CHECKING:
    from rich.table import Table

SPLITS = {"holdout": "held-out half", "eval": "evaluation set", "fit": "the samples fitted on"}
"""What was measured on, in words."""
_CHANGE = "change (95 %)"
_NARROW = 72
"""Columns below which a table of scores is shown in two."""


def print_metrics(metrics: Metrics) -> None:
    """Before and after, and the interval of what changed; in two tables where the terminal is narrow."""
    title = f"{SPLITS[metrics.split]}, {metrics.n_samples:,} samples"
    rows = [
        (name, before, after, _change(metrics, name))
        for (name, before), (_, after) in zip(_scores(metrics.before), _scores(metrics.after), strict=True)
    ]
    changes = [] if metrics.intervals is None else [(name, change) for name, *_, change in rows if change]
    if width() < _NARROW:
        console().print(f"\n  {title}")
        _print_rows(_score_table("", "before", "after"), (row[:3] for row in rows))
        if changes:
            _print_rows(_score_table("", _CHANGE), changes)
    elif changes:
        _print_rows(_score_table(title, "before", "after", _CHANGE), rows)
    else:
        _print_rows(_score_table(title, "before", "after"), (row[:3] for row in rows))
    note = {
        "holdout": "Measured with the T of the other half; the T above is then fitted on both.",
        "eval": "",
        "fit": "Measured on the samples that T was fitted on: expect a little less on others.",
    }[metrics.split]
    floor = f"Of as many samples, perfect probabilities have an ECE of about {metrics.after.ece_floor:.4f}."
    for said in filter(None, (note, floor)):
        for line in wrapped(said, width() - 3):
            print_line((f"   {line}", "dim"))
    console().print()


def print_scores(scores: Scores) -> None:
    """Of one model as it stands."""
    table = _score_table(f"{scores.n_samples:,} samples", "")
    for row in _scores(scores):
        table.add_row(*row)
    _print_table(table, below=1)


def _change(metrics: Metrics, name: str) -> str:
    """The interval of what calibration changed in a score, if it has one."""
    sure = metrics.intervals
    change = None if sure is None else getattr(sure.difference, name.split()[0].lower(), None)
    return "" if change is None else f"{change[0]:+.4f} to {change[1]:+.4f}"


def _print_rows(table: Table, rows: Iterable[tuple[str, ...]]) -> None:
    for row in rows:
        table.add_row(*row)
    _print_table(table, below=0)


def _print_table(table: Table, *, below: int) -> None:
    from rich.padding import Padding

    console().print(Padding(table, (1, 0, below, 2), expand=False))


def _score_table(title: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 1), header_style="bold")
    table.add_column(title, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _scores(scores: Scores) -> list[tuple[str, str]]:
    return [
        ("accuracy", f"{scores.accuracy:.2%}"),
        ("mean confidence", f"{scores.confidence:.2%}"),
        ("NLL", f"{scores.nll:.4f}"),
        ("ECE (15 bins)", f"{scores.ece:.4f}"),
        ("Brier score", f"{scores.brier:.4f}"),
    ]
