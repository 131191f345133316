"""`onnxcal inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from onnxcal.cli.options import model_argument, shown_options


@click.command("inspect", epilog="Example: onnxcal inspect model.onnx")
@model_argument()
@shown_options()
def command(model: Path, as_json: bool, quiet: bool, verbose: bool) -> None:
    """What heads MODEL has, how each ends, and whether it is patched."""
    from onnxcal.cli.show import show
    from onnxcal.graph.inspect import inspect
    from onnxcal.report import terminal

    show(inspect(model), terminal.print_inspection, as_json=as_json, quiet=quiet, verbose=verbose)
