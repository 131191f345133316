"""`onnxcal revert`."""

from __future__ import annotations

from pathlib import Path

import click

from onnxcal.cli import options


@click.command("revert", epilog="Example: onnxcal revert model.calibrated.onnx -o model.onnx")
@options.model_argument("patched", "PATCHED")
@click.option("-o", "--output", metavar="MODEL", required=True, type=click.Path(path_type=Path), help="Where to.")
@click.option(
    "--original",
    metavar="MODEL",
    type=click.Path(path_type=Path),
    help="What PATCHED was made from, where the patch cannot be taken out: it is checked, and copied.",
)
@options.force_option()
@options.shown_options()
def command(
    patched: Path, output: Path, original: Path | None, force: bool, as_json: bool, quiet: bool, verbose: bool
) -> None:
    """Take the patch out of PATCHED: what comes out is the original, byte for byte."""
    from onnxcal.cli.show import show
    from onnxcal.patched import revert
    from onnxcal.report import terminal

    result = revert(patched, output=output, original=original, force=force)
    show(result, terminal.print_reverted, as_json=as_json, quiet=quiet, verbose=verbose)
