"""`reliability`: accuracy per bin of confidence, before and after calibration (Guo et al. 2017, figure 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from onnxcal.metrics.diagrams import ReliabilityDiagram, ReliabilityDiagrams, reliability_diagrams
from onnxcal.metrics.reliability import ReliabilityBins
from onnxcal.report.plots.panels import (
    CONFIDENCE,
    EMPTY,
    PERFECT,
    legend_below,
    outer_labels,
    panel_below,
    percent_axis,
    stacked,
)
from onnxcal.report.plots.plot import Plot
from onnxcal.report.plots.style import palette_of
from onnxcal.report.plots.text import count_text, interval_text, percent_text, put_corner, put_title, temperature_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BOX_HEIGHT, _BOX_WIDTH = 0.22, 0.35
"""What a box in a corner takes, as shares of the axes."""


def fill(figure: Figure, diagrams: ReliabilityDiagrams) -> None:
    """Two panels with the same axes."""
    pairs = stacked(figure, 1, 2)
    corner = free_corner(diagrams.before.bins, diagrams.after.bins)
    most = max(int(one.bins.counts.max()) for one in (diagrams.before, diagrams.after))
    for (ax, below), name, one in zip(pairs, ("before", "after"), (diagrams.before, diagrams.after), strict=True):
        title = f"{name}: {temperature_text(one.temperature)}"
        draw_diagram(ax, one, title=title, below=below, corner=corner, most=most)
    outer_labels(pairs, 2)
    legend_below(figure, [ax for ax, _ in pairs], 5)


def draw_diagram(
    ax: Axes,
    diagram: ReliabilityDiagram,
    *,
    title: str,
    below: Axes | None = None,
    corner: str | None = None,
    most: int | None = None,
) -> None:
    """One diagram, and the counts of its bins under it.

    Parameters
    ----------
    ax : where to draw.
    diagram : what to draw.
    title : above it.
    below : where the counts are drawn, default hung under `ax`.
    corner : where the ECE is written, see `free_corner`; default where it hides nothing.
    most : largest count that the lower axes have room for, default of this diagram.
    """
    bins = diagram.bins
    draw_bins(ax, bins)
    scores = diagram.scores
    corner = corner or free_corner(bins)
    ece = f"ECE {interval_text(scores.ece, diagram.ece_interval)}"
    put_title(
        ax,
        title,
        beside=f"NLL {scores.nll:.3f}, accuracy {percent_text(scores.accuracy)}",
        under=ece if corner == "above" else "",
    )
    if corner != "above":
        put_corner(ax, ece.replace(" [", "\n["), corner)
    draw_counts(below or panel_below(ax), bins, most=most)


def draw_bins(ax: Axes, bins: ReliabilityBins) -> None:
    """Accuracies with their bands, gaps to the mean confidence, and bins without samples."""
    colours = palette_of(ax)
    left, width = bins.edges[:-1], float(bins.edges[1])
    some = bins.weights > 0
    at, accuracy, confidence = left[some], bins.accuracy[some], bins.confidence[some]
    low, high = (bound[some] for bound in bins.band)
    ax.bar(
        left[~some], 1.0, width, align="edge", color=colours.empty, linewidth=0, label=EMPTY if (~some).any() else None
    )  # fmt: skip
    ax.bar(
        at,
        accuracy,
        width,
        align="edge",
        color=colours.main_fill,
        edgecolor=colours.background,
        linewidth=0.8,
        label="accuracy",
    )
    ax.bar(
        at, np.abs(confidence - accuracy), width, bottom=np.minimum(accuracy, confidence), align="edge",
        facecolor=colours.other_fill, edgecolor=colours.other, hatch="////", linewidth=0.8,
        label="gap to mean confidence",
    )  # fmt: skip
    ax.hlines(accuracy, at, at + width, color=colours.main, linewidth=2.2, zorder=3)
    ax.errorbar(
        at + width / 2, accuracy, yerr=np.stack([accuracy - low, high - accuracy]), fmt="none", ecolor=colours.ink,
        elinewidth=1.0, capsize=2.2, capthick=1.0, zorder=4, label="95 % interval (Wilson)",
    )  # fmt: skip
    ax.plot([0, 1], [0, 1], color=colours.muted, linestyle=(0, (5, 3)), linewidth=1.2, zorder=5, label=PERFECT)
    ax.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    percent_axis(ax, "x", "y")


def draw_counts(ax: Axes, bins: ReliabilityBins, *, most: int | None = None, numbers: bool = True) -> None:
    """How many samples are in each bin, on a log axis, with the number on each bar."""
    colours = palette_of(ax)
    left, width = bins.edges[:-1], float(bins.edges[1])
    ax.bar(left, bins.counts, width, align="edge", color=colours.muted, edgecolor=colours.background, linewidth=0.8)
    top = float(max(most or 0, int(bins.counts.max()), 10))
    ax.set(
        yscale="log", ylim=(0.7, top**1.35 if numbers else top * 2), xlim=(0, 1), xlabel=CONFIDENCE, ylabel="samples"
    )
    percent_axis(ax, "x")
    _plain_decades(ax, top)
    if numbers:
        for x, count in zip(left + width / 2, bins.counts, strict=True):
            ax.annotate(
                count_text(int(count)), (float(x), max(float(count), 0.7)), xytext=(0, 1.5), textcoords="offset points",
                ha="center", va="bottom", fontsize=7, color=colours.ink,
            )  # fmt: skip


def free_corner(*several: ReliabilityBins) -> str:
    """Where a box hides nothing: `lower right`, at the foot of tall bars; `upper left`; or `above` the axes."""
    if all(_lowest(bins) > _BOX_HEIGHT for bins in several):
        return "lower right"
    if all(_highest(bins) < 1 - _BOX_HEIGHT for bins in several):
        return "upper left"
    return "above"


def _lowest(bins: ReliabilityBins) -> float:
    """Of all that is drawn where the box would be at the lower right; 0 where there is nothing."""
    here = bins.edges[1:] > 1 - _BOX_WIDTH
    drawn = np.minimum(bins.band[0], bins.confidence)[here]
    return float(np.where(bins.weights[here] > 0, drawn, 0.0).min())


def _highest(bins: ReliabilityBins) -> float:
    """Of all that is drawn where the box would be at the upper left."""
    here = (bins.edges[:-1] < _BOX_WIDTH) & (bins.weights > 0)
    return float(np.maximum(bins.band[1], bins.confidence)[here].max(initial=0.0))


def _plain_decades(ax: Axes, top: float) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    decades = [10.0**power for power in range(0, 10) if 10.0**power <= top]
    ax.yaxis.set_major_locator(FixedLocator(decades if len(decades) < 5 else decades[::2]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: count_text(round(value)).replace(".0", "")))


PLOT = Plot(reliability_diagrams, fill, (8.0, 5.2), note="ECE [95 % interval, bias-corrected]")
