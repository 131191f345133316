"""`sweep`: reliability at a range of temperatures."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

from onnxcal.metrics.diagrams import ReliabilitySweep, reliability_sweep
from onnxcal.report.plots.panels import CONFIDENCE, PERFECT, percent_axis
from onnxcal.report.plots.plot import Plot
from onnxcal.report.plots.style import LINES, MARKERS, palette_of
from onnxcal.report.plots.text import put_title, temperature_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW = 10
"""Samples below which a bin says nothing: drawn, but small."""


def fill(figure: Figure, sweep: ReliabilitySweep) -> None:
    """One panel, and the legend at its right."""
    ax = figure.subplots()
    draw_sweep(ax, sweep)
    figure.legend(loc="outside right center", fontsize=9, handlelength=3.2, labelspacing=0.9)


def draw_sweep(ax: Axes, sweep: ReliabilitySweep) -> None:
    """A line for each temperature; bins of fewer than ten samples are small marks without a line."""
    colours = palette_of(ax)
    ax.plot([0, 1], [0, 1], color=colours.muted, linestyle=(0, (5, 3)), linewidth=1.2, label=PERFECT)
    others = cycle(colour for colour in colours.series if colour != colours.main)
    for number, one in enumerate(sweep.diagrams):
        chosen, bins = number == sweep.chosen, one.bins
        solid, faint = bins.counts >= FEW, (bins.counts > 0) & (bins.counts < FEW)
        colour = colours.main if chosen else next(others)
        marker = MARKERS[number % len(MARKERS)]
        name = temperature_text(one.temperature) + (
            " (after)" if chosen else " (before)" if one.temperature == 1 else ""
        )
        ax.plot(
            bins.confidence[solid], bins.accuracy[solid], color=colour, marker=marker,
            linestyle="solid" if chosen else LINES[number % len(LINES)], linewidth=2.8 if chosen else 1.5,
            markersize=7 if chosen else 5.5, zorder=5 if chosen else 3, label=f"{name}\nECE {one.scores.ece:.3f}",
        )  # fmt: skip
        ax.plot(
            bins.confidence[faint],
            bins.accuracy[faint],
            color=colour,
            marker=marker,
            linestyle="none",
            markersize=3,
            alpha=0.6,
        )
    ax.set(xlim=(0, 1), ylim=(-0.02, 1.02), xlabel=CONFIDENCE, ylabel="accuracy")
    percent_axis(ax, "x", "y")
    put_title(ax, "Reliability at other temperatures", under=f"small marks: bins of fewer than {FEW} samples")


PLOT = Plot(reliability_sweep, fill, (7.6, 5.0))
