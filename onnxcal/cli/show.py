"""How a command shows its result: JSON on stdout, or text; progress and warnings on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from onnxcal.report.json import as_document, as_text
from onnxcal.report.printable import printable
from onnxcal.report.progress import Report, progress_of
from onnxcal.report.stdout import stdout_kept


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
def progress_bar(*, quiet: bool) -> Iterator[Report | None]:
    """A bar with rate and time left on a terminal; nothing elsewhere.

    Meanwhile stdout is stderr: it is for results, and a user's loader that prints must not spoil them.
    """
    with stdout_kept(), progress_of(not quiet) as report:
        yield report
