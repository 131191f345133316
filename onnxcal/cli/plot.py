"""`onnxcal plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem
from click.types import StringParamType

from onnxcal.cli import options
from onnxcal.report.plots.kinds import KINDS, STYLES, check_kind


class _Kind(StringParamType):
    """One of the kinds; another is answered with the nearest."""

    name = "kind"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The kind itself."""
        return check_kind(str(value))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The kinds that begin so."""
        return [CompletionItem(kind, help=text) for kind, text in KINDS.items() if kind.startswith(incomplete)]


class _Command(click.Command):
    """`plot`, whose help lists the kinds."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The kinds, then the options."""
        with formatter.section("Kinds"):
            formatter.write_dl(list(KINDS.items()))
        super().format_options(ctx, formatter)


@click.command("plot", cls=_Command, epilog="Example: onnxcal plot reliability logits.npz -o reliability.svg")
@click.argument("kind", metavar="KIND", type=_Kind())
@click.argument("source", metavar="MODEL|LOGITS.npz", type=click.Path(path_type=Path))
@options.data_options(required=False)
@click.option(
    "-o", "--output", metavar="FILE", required=True, type=click.Path(path_type=Path), help="To .svg, .png or .pdf."
)
@click.option("--temperature", type=float, metavar="T", help="Show this T; default the model's own, else it is fitted.")
@click.option(
    "--calibration", metavar="CAL.json", type=click.Path(path_type=Path), help="Show what onnxcal fit -o wrote."
)
@click.option("--style", type=click.Choice(STYLES), default="light", show_default=True, help="The background.")
@click.option(
    "--class-names",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A text file with a name a line; default what MODEL calls its classes.",
)
@options.ignore_index_option()
@options.head_options()
@options.bootstrap_options()
@options.force_option()
@options.shown_options()
def command(kind: str, source: Path, as_json: bool, quiet: bool, verbose: bool, **kwargs: Any) -> None:
    """Draw a KIND of picture of MODEL (with --data) or of stored logits, before and after calibration.

    Needs matplotlib: pip install 'onnxcal[report]'. With --json, the numbers that are drawn are printed.
    """
    from onnxcal.cli.show import progress_bar, show
    from onnxcal.plots import plot
    from onnxcal.report import terminal

    with progress_bar(quiet=quiet) as progress:
        result = plot(kind, source, progress=progress, **kwargs)
    show(result, terminal.print_plotted, as_json=as_json, quiet=quiet, verbose=verbose)
