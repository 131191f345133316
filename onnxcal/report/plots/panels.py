"""Parts of axes that several kinds of plots share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CONFIDENCE = "confidence of the predicted class"

PERFECT, EMPTY = "perfect calibration", "no samples"
MEANS = ("mean of the right", "mean of the wrong")
FIRST, LAST = "accuracy", (PERFECT, EMPTY, *MEANS)
"""Labels at the two ends of a legend."""
COUNTS, GAP = 0.3, 0.06
"""Height of a panel of counts, and the space over it, as shares of the panel above."""


def panel_below(ax: Axes, height: float = COUNTS) -> Axes:
    """More axes in the lower part of the room that some had, with the same x; `height` is a share of the upper part."""
    figure, place = ax.figure, ax.get_subplotspec()
    if place is not None:
        parts = place.subgridspec(2, 1, height_ratios=(1.0, height), hspace=2 * GAP)
        ax.set_subplotspec(parts[0])
        below = figure.add_subplot(parts[1], sharex=ax)
    else:
        x0, y0, width, whole = ax.get_position().bounds
        upper = whole / (1 + GAP + height)
        ax.set_position((x0, y0 + whole - upper, width, upper))
        below = figure.add_axes((x0, y0, width, height * upper), sharex=ax)
    ax.tick_params(labelbottom=False)
    return below


def stacked(figure: Figure, rows: int, columns: int, height: float = COUNTS) -> list[tuple[Axes, Axes]]:
    """A grid of axes with others right under them; all share x, and either kind its y. Row by row."""
    grid = figure.add_gridspec(2 * rows, columns, height_ratios=(1.0, height) * rows)
    made: list[tuple[Axes, Axes]] = []
    for number in range(rows * columns):
        row, column = divmod(number, columns)
        over, under = made[0] if made else (None, None)
        ax = figure.add_subplot(grid[2 * row, column], sharex=over, sharey=over)
        made.append((ax, figure.add_subplot(grid[2 * row + 1, column], sharex=ax, sharey=under)))
        ax.tick_params(labelbottom=False)
    return made


def outer_labels(pairs: list[tuple[Axes, Axes]], columns: int) -> None:
    """Labels of y at the left only, of x at the foot only."""
    for number, (ax, below) in enumerate(pairs):
        if number % columns:
            for panel in (ax, below):
                panel.set_ylabel("")
                panel.tick_params(labelleft=False)
        if number + columns < len(pairs):
            below.set_xlabel("")


def percent_axis(ax: Axes, *which: str) -> None:
    """Ticks of shares as 0, 20 … 100 %."""
    from matplotlib.ticker import MultipleLocator, PercentFormatter

    for name in which:
        axis = ax.xaxis if name == "x" else ax.yaxis
        axis.set_major_locator(MultipleLocator(0.2))
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))


def legend_below(figure: Figure, axes: Sequence[Axes], columns: int) -> None:
    """One legend for all axes, at the foot of the figure: each label once."""
    found: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    found = dict(sorted(found.items(), key=lambda one: (one[0] != FIRST) + (one[0] in LAST)))
    figure.legend(
        list(found.values()), list(found), loc="outside lower center", ncols=columns, fontsize=9,
        columnspacing=1.4, handlelength=2.0,
    )  # fmt: skip
