"""`classes`: reliability of the classes that are worst calibrated, in small multiples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxcal.metrics.diagrams import ClassDiagram, ClassDiagrams, class_diagrams
from onnxcal.report.plots.panels import legend_below, outer_labels, panel_below, stacked
from onnxcal.report.plots.plot import Plot
from onnxcal.report.plots.reliability import draw_bins, draw_counts
from onnxcal.report.plots.style import TITLE_SIZE, palette_of
from onnxcal.report.plots.text import narrow_name, put_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
WIDEST_NAME = 115.0
"""Room for a name, in points, beside the number of samples."""


def fill(figure: Figure, classes: ClassDiagrams) -> None:
    """A panel for each class, worst first."""
    rows = -(-len(classes.worst) // COLUMNS)
    columns = min(COLUMNS, len(classes.worst))
    if rows == 1:
        figure.set_size_inches(figure.get_figwidth(), figure.get_figheight() * 0.58)
    pairs = stacked(figure, rows, columns)
    for ax, below in pairs[len(classes.worst) :]:
        ax.remove()
        below.remove()
    pairs = pairs[: len(classes.worst)]
    most = max(int(one.after.bins.counts.max()) for one in classes.worst)
    for (ax, below), one in zip(pairs, classes.worst, strict=True):
        draw_class(ax, one, below=below, what="label" if classes.task == "multilabel" else "predicted class", most=most)
    outer_labels(pairs, columns)
    legend_below(figure, [ax for ax, _ in pairs], 3)


def draw_class(
    ax: Axes,
    one: ClassDiagram,
    *,
    below: Axes | None = None,
    what: str = "predicted class",
    most: int | None = None,
) -> None:
    """One class: the diagram after calibration, marks for the one before, and counts under it.

    Parameters
    ----------
    ax : where to draw.
    one : what to draw.
    below : where the counts are drawn, default hung under `ax`.
    what : what a class is, see `ClassDiagrams`.
    most : largest count that the lower axes have room for, default of this class.
    """
    colours = palette_of(ax)
    draw_bins(ax, one.after.bins)
    before = one.before.bins
    some = before.weights > 0
    ax.plot(
        before.confidence[some], before.accuracy[some], linestyle="none", marker="o", markersize=4.5, zorder=6,
        markerfacecolor=colours.background, markeredgecolor=colours.ink, markeredgewidth=1.1, clip_on=False,
        label="before (T = 1)",
    )  # fmt: skip
    named = f"{what} {one.index}" if one.name is None else narrow_name(one.name, TITLE_SIZE, WIDEST_NAME)
    after = one.after.scores
    ece = f"ECE {one.before.scores.ece:.3f} → {after.ece:.3f}, noise {after.ece_floor:.3f}"
    put_title(ax, named, beside=f"n = {int(before.counts.sum()):,}", under=ece)
    draw_counts(below or panel_below(ax), one.after.bins, most=most, numbers=False)


PLOT = Plot(class_diagrams, fill, (9.0, 8.0))
