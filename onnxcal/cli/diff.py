"""`onnxcal diff`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from onnxcal.cli import options


@click.command("diff", epilog="Example: onnxcal diff model.onnx model.calibrated.onnx")
@options.model_argument("a", "A.onnx")
@options.model_argument("b", "B.onnx")
@options.shown_options()
def command(a: Path, b: Path, as_json: bool, quiet: bool, verbose: bool) -> None:
    """What a patch changed between A and B, node by node and byte range by byte range.

    The exit code is 1 if anything else changed.
    """
    from onnxcal.cli.show import show
    from onnxcal.graph.diff import diff
    from onnxcal.report.difference import print_diff, verdict

    result = diff(a, b)
    show(result, print_diff, as_json=as_json, quiet=quiet, verbose=verbose)
    if not result.passed:
        if quiet:
            click.echo(verdict(result), err=True)
        sys.exit(1)
