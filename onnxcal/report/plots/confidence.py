"""`confidence`: how sure right and wrong predictions are, before and after calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from onnxcal.metrics.confidences import ConfidenceHistogram, ConfidenceHistograms, confidence_histograms
from onnxcal.report.plots.panels import CONFIDENCE, MEANS, legend_below, percent_axis
from onnxcal.report.plots.plot import Plot
from onnxcal.report.plots.style import palette_of
from onnxcal.report.plots.text import percent_text, put_title, temperature_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def fill(figure: Figure, histograms: ConfidenceHistograms) -> None:
    """Two panels with the same axes."""
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for ax, name, one in zip(axes, ("before", "after"), (histograms.before, histograms.after), strict=True):
        draw_histogram(ax, one, title=f"{name}: {temperature_text(one.temperature)}")
    axes[1].set_ylabel("")
    legend_below(figure, axes, 4)


def draw_histogram(ax: Axes, histogram: ConfidenceHistogram, *, title: str) -> None:
    """Right predictions upwards, wrong ones downwards, each as shares of their own number."""
    from matplotlib.ticker import FuncFormatter

    colours = palette_of(ax)
    left, width = histogram.edges[:-1], float(histogram.edges[1])
    right, wrong = histogram.shares
    numbers = [f"{int(counts.sum()):,}" for counts in (histogram.right, histogram.wrong)]
    ax.bar(
        left,
        right,
        width,
        align="edge",
        color=colours.main_fill,
        edgecolor=colours.background,
        label="right predictions",
    )
    ax.bar(
        left, -wrong, width, align="edge", facecolor=colours.other_fill, edgecolor=colours.other, hatch="////",
        linewidth=0.8, label="wrong predictions",
    )  # fmt: skip
    means = (histogram.mean_right, 1, "solid", MEANS[0]), (histogram.mean_wrong, -1, (0, (4, 1.5)), MEANS[1])
    for mean, sign, line, label in means:
        if mean is not None:
            ax.plot([mean, mean], [0, sign * 1.04], color=colours.ink, linewidth=1.6, linestyle=line, label=label)
            ax.annotate(
                f"mean {percent_text(mean)}", (mean, sign * 1.0), xytext=(-4, 0), textcoords="offset points",
                ha="right", va="center", fontsize=9,
            )  # fmt: skip
    ax.axhline(0, color=colours.muted, linewidth=0.8)
    ax.set(xlim=(0, 1), ylim=(-1.08, 1.08), xlabel=CONFIDENCE, ylabel="share of wrong  |  of right")
    ax.set_yticks(np.linspace(-1, 1, 9))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):.0%}".replace("%", " %")))
    percent_axis(ax, "x")
    put_title(ax, title, beside=f"{numbers[0]} right, {numbers[1]} wrong")


PLOT = Plot(confidence_histograms, fill, (8.0, 4.6))
