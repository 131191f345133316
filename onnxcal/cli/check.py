"""`onnxcal check`."""

from __future__ import annotations

from pathlib import Path

import click

from onnxcal.cli import options
from onnxcal.errors import UsageError


@click.command("check", epilog="Example: onnxcal check models/*.calibrated.onnx")
@click.argument("files", metavar="PATCHED...", nargs=-1, required=True, type=click.Path(path_type=Path))
@options.shown_options()
def command(files: tuple[Path, ...], as_json: bool, quiet: bool, verbose: bool) -> None:
    """Check calibrated models by themselves, without data and without the models they were made from.

    Each is run on drawn inputs: does it compute softmax(z/T) with the T that it names, and is it the original but for
    the patch? Whether T is right takes labelled data: onnxcal verify and onnxcal evaluate. Exit code: 2 if a file could
    not be checked, else 1 if a check said no, else 0.
    """
    from onnxcal.cli.show import show
    from onnxcal.report.checked import failures, print_checked
    from onnxcal.verification.committed import check

    result = check(files)
    show(result, print_checked, as_json=as_json, quiet=quiet, verbose=verbose)
    if quiet or as_json:
        for line in failures(result):
            click.echo(line, err=True)
    unchecked = [file.path for file in result.files if file.exit_code == 2]
    if unchecked:
        raise UsageError(
            f"{len(unchecked)} of {len(result.files)} files could not be checked: {', '.join(unchecked)}",
            hint="pass files that onnxcal calibrate, patch or build wrote; what is wrong with each is said above",
        )
    if result.exit_code:
        raise SystemExit(result.exit_code)
