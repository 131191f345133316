"""`onnxcal build`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxcal.cli import options
from onnxcal.errors import UsageError


@click.command("build", epilog="Example: onnxcal build -j 2")
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@click.option(
    "--config", metavar="FILE", type=click.Path(path_type=Path),
    help="Default: the nearest onnxcal.toml, or pyproject.toml with [tool.onnxcal].",
)  # fmt: skip
@click.option("-j", "--jobs", metavar="N", type=click.IntRange(1), default=1, show_default=True, help="Make N at once.")
@click.option("--check", is_flag=True, help="Make nothing; say what is out of date, and exit 1 if anything is.")
@click.option("--force", is_flag=True, help="Make what is up to date too; replace what is no calibrated model.")
@options.depfile_option()
@options.shown_options()
def command(as_json: bool, quiet: bool, verbose: bool, **kwargs: Any) -> None:
    """Make the calibrated models that an onnxcal.toml declares, where something changed.

    Whether something changed is told by content: of the model with its external data, the data, the options and gates.
    Exit code: 2 if a target could not be made, else 1 if a gate or a verification said no (or, with --check, if one is
    out of date), else 0. One that fails does not stop the others.
    """
    from onnxcal.builds.build import build
    from onnxcal.builds.results import EXIT_CODES
    from onnxcal.builds.table import line, print_built
    from onnxcal.cli.show import show

    result = build(**kwargs, done=lambda one: click.echo(line(one), err=True) if one.error or not quiet else None)
    show(result, print_built, as_json=as_json, quiet=quiet, verbose=verbose)
    unmade = [one.name for one in result.targets if EXIT_CODES[one.status] == 2]
    if unmade:
        raise UsageError(
            f"{len(unmade)} of {len(result.targets)} targets could not be made: {', '.join(unmade)}",
            hint="what is wrong with each is said above",
        )
    if result.exit_code:
        raise SystemExit(result.exit_code)
