"""`onnxcal calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxcal.cli import options


@click.command("calibrate", epilog="Example: onnxcal calibrate model.onnx --data validation.npz")
@options.model_argument()
@options.data_options()
@click.option(
    "--eval-data", metavar="DATA", type=options.DataName(), help="Measure on this data instead of on a held-out half."
)
@click.option("--eval-labels", metavar="FILE", type=click.Path(path_type=Path), help="Labels of --eval-data x.npy.")
@click.option("--no-holdout", is_flag=True, help="Measure on the samples that are fitted on.")
@options.ignore_index_option()
@options.head_options(several=True)
@options.method_option()
@options.fit_options()
@options.patch_options()
@click.option(
    "--save-calibration", metavar="CAL.json", type=click.Path(path_type=Path), help="Keep the calibration too."
)
@click.option(
    "--report",
    metavar="FILE.html",
    type=click.Path(path_type=Path),
    help="Write a report with pictures (extra: report).",
)
@click.option(
    "--summary",
    metavar="FILE.md",
    type=click.Path(path_type=Path),
    help="Write a short Markdown summary, for a pull request or a model card.",
)
@options.depfile_option()
@options.gate_options()
@options.target_option()
@options.runtime_options()
@options.junit_option()
@options.plot_option()
@options.shown_options()
def command(
    model: Path, as_json: bool, quiet: bool, verbose: bool, plot: bool, junit: Path | None, **kwargs: Any
) -> None:
    """Fit a temperature on MODEL's own logits, patch it in, and verify the result.

    The temperature is judged on a held-out half of the data; the one that is written is then fitted on all of it.
    """
    from onnxcal.cli.show import progress_bar, show
    from onnxcal.pipeline import calibrate
    from onnxcal.report import terminal
    from onnxcal.report.junit import junit_report

    with junit_report(junit, "calibrate", [model, *kwargs.values()]) as add, progress_bar(quiet=quiet) as progress:
        result = calibrate(model, progress=progress, **kwargs)
        add(result)
    show(result, terminal.print_calibrated, as_json=as_json, quiet=quiet, verbose=verbose)
    if not as_json and not quiet:
        terminal.print_also(report=kwargs["report"], calibration=kwargs["save_calibration"])
    if plot and not as_json:
        terminal.print_reliability(result.metrics)
