"""`onnxcal set-temperature`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from onnxcal.cli import options


class _Command(click.Command):
    """A negative number is a temperature that is refused as such, and no option that is not known."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does it, but for that."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption:
            from onnxcal.calibrators.temperature import as_temperature

            for text in given:
                with suppress(ValueError):
                    as_temperature(float(text))
            raise


@click.command("set-temperature", cls=_Command, epilog="Example: onnxcal set-temperature model.calibrated.onnx 1.7")
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
