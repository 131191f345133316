"""`onnxcal fit`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from onnxcal.cli import options


@click.command("fit", epilog="Example: onnxcal fit logits.npz -o calibration.json")
@click.argument("logits", metavar="LOGITS.npz", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="CAL.json", type=click.Path(path_type=Path), help="Keep the calibration.")
@click.option("--eval-data", metavar="LOGITS.npz", type=click.Path(path_type=Path), help="Measure on these logits.")
@options.ignore_index_option()
@click.option("--task", type=click.Choice(options.TASKS), help="What the classes mean; default by the logits' shape.")
@click.option("--axis", type=int, metavar="N", help="The class axis of the logits; default 1.")
@options.method_option()
@options.force_option()
@options.shown_options()
def command(
    logits: Path,
    output: Path | None,
    eval_data: Path | None,
    ignore_index: int | None,
    task: str | None,
    axis: int | None,
    method: str,
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Fit a calibrator on the arrays `logits` and `labels` of an .npz file.

    Scores are measured on the samples that are fitted on, unless --eval-data is given.
    """
    from onnxcal.atomic import check_apart, check_writable
    from onnxcal.calibrators import fit
    from onnxcal.cli.show import show
    from onnxcal.data.npz import read_logits
    from onnxcal.report import terminal
    from onnxcal.report.calibration import write_calibration
    from onnxcal.results import FitResult

    if output is not None:
        check_apart([output], [logits, eval_data])
        check_writable(output, force=force)
    stored = read_logits(logits)
    apart = None if eval_data is None else read_logits(eval_data)
    calibration = fit(
        stored.logits,
        stored.labels,
        method=method,
        task=task or stored.task,  # type: ignore[arg-type]  # fit says which tasks there are
        axis=axis,
        ignore_index=ignore_index,
        eval_data=None if apart is None else (apart.logits, apart.labels),
    )
    calibration = replace(calibration, output=stored.output, data_sha256=stored.data_sha256)
    if output is not None:
        write_calibration(calibration, output, force=force)
    result = FitResult.of(calibration)
    show(result, terminal.print_fit, as_json=as_json, quiet=quiet, verbose=verbose)
