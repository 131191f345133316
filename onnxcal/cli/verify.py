"""`onnxcal verify`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from onnxcal.cli import options


@click.command("verify", epilog="Example: onnxcal verify model.onnx model.calibrated.onnx --data test.npz")
@options.model_argument()
@options.model_argument("patched", "PATCHED")
@options.data_options()
@options.ignore_index_option()
@options.runtime_options()
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1),
    metavar="X",
    help="Accept a file that was changed after it was calibrated, if its probabilities are within X.",
)
@options.junit_option()
@options.shown_options()
def command(
    model: Path, patched: Path, junit: Path | None, as_json: bool, quiet: bool, verbose: bool, **kwargs: Any
) -> None:
    """Run PATCHED and the MODEL it was made from, and check that it is what its calibration says.

    The exit code is 1 if it is not. Of a file that was converted or quantised since, it says how far that moved it.
    """
    from onnxcal.cli.show import progress_bar, show
    from onnxcal.report import terminal
    from onnxcal.report.junit import junit_report
    from onnxcal.verification import verify

    with (
        junit_report(junit, "verify", [model, patched, *kwargs.values()]) as add,
        progress_bar(quiet=quiet) as progress,
    ):
        result = verify(model, patched, progress=progress, **kwargs)
        add(result)
    show(result, terminal.print_verified, as_json=as_json, quiet=quiet, verbose=verbose)
    if not result.verification.passed:
        if quiet:
            click.echo(terminal.verdict(result.verification), err=True)
        sys.exit(1)
