"""`onnxcal export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxcal.cli import options

FORMATS = ("ort", "openvino", "mnn", "ncnn", "c", "tflite-recipe")


@click.command("export", epilog="Example: onnxcal export model.calibrated.onnx --to openvino --data test.npz")
@options.model_argument("model", "PATCHED")
@click.option("--to", required=True, type=click.Choice(FORMATS), help="The format; tflite-recipe is a text.")
@click.option(
    "-o", "--output", metavar="OUT", type=click.Path(path_type=Path),
    help="The main file; default: PATCHED's name with the format's suffix, beside it.",
)  # fmt: skip
@click.option("--compress", is_flag=True, help="Round weights to float16 (openvino, mnn, ncnn).")
@click.option(
    "--original", metavar="MODEL", type=click.Path(path_type=Path),
    help="The model that PATCHED was made from, needed after --fold.",
)  # fmt: skip
@options.data_options(required=False)
@options.ignore_index_option()
@options.runtime_limits()
@options.force_option()
@options.junit_option()
@options.shown_options()
def command(model: Path, junit: Path | None, as_json: bool, quiet: bool, verbose: bool, **kwargs: Any) -> None:
    """Convert PATCHED with another runtime's own converter, run it there, and hold it against the float64 reference.

    The files appear only if they are right; else the exit code is 1. Without --data they are run on drawn inputs.
    """
    from onnxcal.cli.show import progress_bar, show
    from onnxcal.exports.export import export
    from onnxcal.report.exported import print_exported
    from onnxcal.report.junit import junit_report

    with junit_report(junit, "export", [model, *kwargs.values()]) as add, progress_bar(quiet=quiet) as progress:
        result = export(model, progress=progress, **kwargs)
        if result.verification is not None:
            add(result)
    show(result, print_exported, as_json=as_json, quiet=quiet, verbose=verbose)
