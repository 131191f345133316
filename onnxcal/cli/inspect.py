"""`onnxcal inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from onnxcal.cli.options import model_argument, shown_options, target_option
from onnxcal.errors import UsageError


@click.command("inspect", epilog="Example: onnxcal inspect model.onnx")
@model_argument()
@click.option(
    "--card", is_flag=True, help="Print what a calibrated MODEL says of itself, in Markdown for a model card."
)
@target_option()
@shown_options()
def command(model: Path, card: bool, target: tuple[str, ...], as_json: bool, quiet: bool, verbose: bool) -> None:
    """What heads MODEL has, how each ends, and whether it is patched.

    The exit code is 1 if it does not fit a --target.
    """
    from onnxcal.cli.show import show
    from onnxcal.graph.inspect import inspect
    from onnxcal.report import terminal

    if card:
        from onnxcal.report.markdown import card_of

        if target:
            raise UsageError("--card says nothing of a --target", hint="pass one of them")
        if as_json:
            raise UsageError("--card is Markdown, and --json is not", hint="pass one of them; both hold the same")
        text = card_of(inspect(model))
        if not quiet:
            click.echo(text, nl=False)
        return
    result = inspect(model, target=target)
    show(result, terminal.print_inspection, as_json=as_json, quiet=quiet, verbose=verbose)
    failed = [fit for fit in result.targets if not fit.passed]
    if quiet:
        for fit in failed:
            click.echo(f"onnxcal: {fit.target}: {fit.detail}; {fit.remedy}", err=True)
    if failed:
        raise SystemExit(1)
