"""`risk-coverage`: the share of errors among the surest predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxcal.metrics.risk import RiskCoverages, risk_coverages
from onnxcal.report.plots.panels import percent_axis
from onnxcal.report.plots.plot import Plot
from onnxcal.report.plots.style import palette_of
from onnxcal.report.plots.text import put_title, temperature_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def fill(figure: Figure, curves: RiskCoverages) -> None:
    """One panel."""
    ax = figure.subplots()
    draw_curves(ax, curves)
    ax.legend(loc="upper left", fontsize=9, handlelength=3.0)


def draw_curves(ax: Axes, curves: RiskCoverages) -> None:
    """Both curves, the one after calibration thin over the other, so that equal ones are seen to be equal."""
    from matplotlib.ticker import PercentFormatter

    colours = palette_of(ax)
    lines = (
        ("before: T = 1", curves.before, colours.other, 4.0, (0, (3, 0.8))),
        (f"after: {temperature_text(curves.temperature)}", curves.after, colours.main, 1.6, "solid"),
    )
    for name, one, colour, width, line in lines:
        ax.plot(one.coverage, one.risk, color=colour, linewidth=width, linestyle=line, label=_label(name, one.aurc))
    rate, best = float(curves.after.risk[-1]), curves.best
    ax.axhline(rate, color=colours.muted, linewidth=1.2, linestyle=(0, (5, 3)), label=_label("in no order", rate))
    ax.plot(
        best.coverage,
        best.risk,
        color=colours.ink,
        linewidth=1.2,
        linestyle=(0, (1, 1.5)),
        label=_label("best order", best.aurc),
    )
    top = max(float(curves.before.risk[curves.before.coverage > 0.05].max(initial=rate)), rate)
    ax.set(
        xlim=(0, 1),
        ylim=(0, 1.45 * top or 1),
        xlabel="coverage (surest predictions kept)",
        ylabel="risk (share of errors)",
    )
    ax.grid(axis="y")
    percent_axis(ax, "x")
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    put_title(ax, "Errors among the surest predictions")


def _label(name: str, aurc: float) -> str:
    return f"{name}, AURC {aurc:.4f}"


PLOT = Plot(risk_coverages, fill, (7.0, 4.6))
