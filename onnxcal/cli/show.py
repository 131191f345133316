"""How a command shows its result: JSON on stdout, or text; progress and warnings on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import click

from onnxcal.report.json import as_document, as_text
from onnxcal.report.printable import printable


def show(result: Any, render: Callable[[Any, bool], None], *, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Print a result in the form that was asked for; warnings stay visible in each."""
    if as_json:
        click.echo(as_text(as_document(result)))
    elif not quiet:
        render(result, verbose)
    if as_json or quiet:
        for warning in result.warnings:
            click.echo(printable(f"onnxcal: warning: {warning}"), err=True)


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Callable[[str, int, int | None], None] | None]:
    """A bar with rate and time left on a terminal; nothing elsewhere.

    Meanwhile stdout is stderr: it is for results, and a user's loader that prints must not spoil them.
    """
    with redirect_stdout(sys.stderr):
        if quiet or not sys.stderr.isatty():
            yield None
        else:
            with _bar() as update:
                yield update


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int | None], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft
    from rich.text import Text

    class Rate(ProgressColumn):
        """Samples a second."""

        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:,.0f}/s")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeLeft())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def update(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks or done < bar.tasks[tasks[stage]].completed:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done)

        yield update
