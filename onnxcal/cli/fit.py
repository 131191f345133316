"""`onnxcal fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxcal.cli import options


@click.command("fit", epilog="Example: onnxcal fit logits.npz -o calibration.json")
@click.argument("logits", metavar="LOGITS.npz...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="CAL.json", type=click.Path(path_type=Path), help="Keep the calibration.")
@click.option("--eval-data", metavar="LOGITS.npz", type=click.Path(path_type=Path), help="Measure on these logits.")
@options.ignore_index_option()
@click.option("--task", type=click.Choice(options.TASKS), help="What the classes mean; default by the logits' shape.")
@click.option("--axis", type=int, metavar="N", help="The class axis of the logits; default 1.")
@options.method_option()
@options.fit_options()
@click.option("--no-spool", is_flag=True, help="Keep no logits: a single pass over the files, without scores.")
@options.force_option()
@options.plot_option()
@options.shown_options()
def command(
    logits: tuple[Path, ...],
    output: Path | None,
    eval_data: Path | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    plot: bool,
    **fitting: Any,
) -> None:
    """Fit a calibrator on the arrays `logits` and `labels` (and `sample_weight`) of .npz files, shards of one set.

    Scores are measured on the samples that are fitted on, unless --eval-data is given.
    """
    from onnxcal.atomic import check_apart, check_writable
    from onnxcal.cli.show import show
    from onnxcal.data.shards import fit_files
    from onnxcal.report import terminal
    from onnxcal.report.calibration import write_calibration
    from onnxcal.results import FitResult

    if output is not None:
        check_apart([output], [*logits, eval_data])
        check_writable(output, force=force)
    calibration = fit_files(logits, eval_data, **fitting)
    if output is not None:
        write_calibration(calibration, output, force=force)
    result = FitResult.of(calibration)
    show(result, terminal.print_fit, as_json=as_json, quiet=quiet, verbose=verbose)
    if plot and not as_json:
        terminal.print_reliability(result.metrics)
