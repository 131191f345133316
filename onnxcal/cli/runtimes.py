"""`onnxcal runtimes`."""

from __future__ import annotations

import click

from onnxcal.cli.options import shown_options


@click.command("runtimes", epilog="Example: onnxcal runtimes")
@shown_options()
def command(as_json: bool, quiet: bool, verbose: bool) -> None:
    """What runtimes verify and calibrate can check a model in (--runtime): what is there, and how to install the rest.

    None of them is started for that.
    """
    from onnxcal.cli.show import show
    from onnxcal.inference.runtimes.registry import list_runtimes
    from onnxcal.report.runtimes import print_runtimes

    show(list_runtimes(), print_runtimes, as_json=as_json, quiet=quiet, verbose=verbose)
