"""`onnxcal demo`."""

from __future__ import annotations

from pathlib import Path

import click

from onnxcal.cli import options


@click.command("demo", epilog="Example: onnxcal demo /tmp/onnxcal-demo")
@click.argument("folder", metavar="[DIR]", default="onnxcal-demo", type=click.Path(path_type=Path))
@options.shown_options()
def command(folder: Path, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Calibrate a small network on real handwritten digits, offline, and see what changes.

    The model, its data and the calibrated model are left in DIR (default: onnxcal-demo).
    """
    from importlib.resources import files

    from onnxcal.atomic import cannot_write, write_file
    from onnxcal.cli.show import progress_bar, show
    from onnxcal.errors import UsageError
    from onnxcal.pipeline import calibrate
    from onnxcal.report import terminal

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from None
    for name in ("digits.onnx", "digits.npz"):
        content = files("onnxcal").joinpath("demo_data").joinpath(name).read_bytes()
        if (folder / name).exists() and (folder / name).read_bytes() != content:
            raise UsageError(f"'{folder / name}' exists and is not the demo's", hint="pass another DIR")
        write_file(folder / name, lambda file, content=content: file.write(content), force=True)  # type: ignore[misc]
    with progress_bar(quiet=quiet) as progress:
        result = calibrate(folder / "digits.onnx", folder / "digits.npz", force=True, progress=progress)
    show(result, terminal.print_demo, as_json=as_json, quiet=quiet, verbose=verbose)
