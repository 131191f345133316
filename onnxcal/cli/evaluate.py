"""`onnxcal evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxcal.cli import options


@click.command("evaluate", epilog="Example: onnxcal evaluate model.calibrated.onnx --data test.npz")
@options.model_argument()
@options.data_options()
@options.ignore_index_option()
@options.head_options()
@options.plot_option()
@options.shown_options()
def command(model: Path, as_json: bool, quiet: bool, verbose: bool, plot: bool, **kwargs: Any) -> None:
    """Accuracy, NLL, ECE and Brier score of MODEL as it stands, calibrated or not."""
    from onnxcal.cli.show import progress_bar, show
    from onnxcal.pipeline import evaluate
    from onnxcal.report import terminal

    with progress_bar(quiet=quiet) as progress:
        result = evaluate(model, progress=progress, **kwargs)
    show(result, terminal.print_evaluated, as_json=as_json, quiet=quiet, verbose=verbose)
    if plot and not as_json:
        terminal.print_reliability(result.metrics)
