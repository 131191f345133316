"""`onnxcal patch`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxcal.cli import options
from onnxcal.cli.postponed import postpone


@click.command("patch", epilog="Example: onnxcal patch model.onnx --calibration calibration.json")
@options.model_argument()
@click.option("--temperature", type=float, metavar="T", help="Divide the logits by T.")
@click.option("--calibration", metavar="CAL.json", type=click.Path(path_type=Path), help="What onnxcal fit -o wrote.")
@options.data_options(required=False)
@options.head_options(several=True)
@options.patch_options()
@options.target_option()
@options.shown_options()
def command(model: Path, as_json: bool, quiet: bool, verbose: bool, **kwargs: Any) -> None:
    """Put a known temperature into MODEL.

    Only its structure is checked, unless --data is given: then the result is also run and verified.
    """
    from onnxcal.graph.mapped import map_file

    source = map_file(model)
    source.start_digest()  # a second per GB, beside which everything else is done, down to importing onnx
    if kwargs["data"] is None:
        postpone("numpy")
        postpone("onnx", "onnx.onnx_ml_pb2", "onnx.onnx_cpp2py_export")

    from onnxcal.cli.show import progress_bar, show
    from onnxcal.patching import patch
    from onnxcal.report import terminal

    with progress_bar(quiet=quiet) as progress:
        result = patch(source, progress=progress, **kwargs)
    show(result, terminal.print_patched, as_json=as_json, quiet=quiet, verbose=verbose)
