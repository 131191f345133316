"""`onnxcal set-temperature`."""

from __future__ import annotations

from pathlib import Path

import click

from onnxcal.cli import options


@click.command("set-temperature", epilog="Example: onnxcal set-temperature model.calibrated.onnx 1.7")
@options.model_argument("model", "PATCHED")
@click.argument("temperature", metavar="T", type=float)
@click.option("--head", metavar="NAME", help="The output whose T it is, where several are calibrated.")
@options.shown_options()
def command(model: Path, temperature: float, head: str | None, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Change T in PATCHED, in place, without fitting again; the file says from then on that T was set by hand.

    A T that is folded into weights cannot be set.
    """
    from onnxcal.cli.show import show
    from onnxcal.patched import set_temperature
    from onnxcal.report import terminal

    result = set_temperature(model, temperature, head=head)
    show(result, terminal.print_temperature_set, as_json=as_json, quiet=quiet, verbose=verbose)
