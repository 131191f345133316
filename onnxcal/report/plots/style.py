"""Colours that the colour-blind can tell apart (Okabe & Ito 2008) on light and on dark, and what else figures share.

Nothing is told by colour alone: what differs in colour differs in hatch, line style or marker too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Palette:
    """Colours by what they mean."""

    ink: str
    """Text, bands."""
    muted: str
    """Axes, the diagonal, captions."""
    background: str
    """Of figure and axes."""
    empty: str
    """Of bins without samples."""
    main: str
    """Accuracy; after calibration; right predictions."""
    main_fill: str
    """The same, as an area."""
    other: str
    """The gap; before calibration; wrong predictions."""
    other_fill: str
    """The same, as an area."""
    series: tuple[str, ...]
    """For lines that belong to one scale, from its low to its high end."""


LIGHT = Palette(
    ink="#1a1a1a", muted="#666666", background="#ffffff", empty="#ececec",
    main="#0072b2", main_fill="#5aa9d6", other="#d55e00", other_fill="#fbe3d3",
    series=("#cc79a7", "#d55e00", "#b07c00", "#1a1a1a", "#009e73", "#0072b2"),
)  # fmt: skip
DARK = Palette(
    ink="#f0f0f0", muted="#a8a8a8", background="#16181c", empty="#2b2e34",
    main="#56b4e9", main_fill="#2f7fb0", other="#e69f00", other_fill="#4a3510",
    series=("#cc79a7", "#e08040", "#e69f00", "#f0f0f0", "#20c090", "#56b4e9"),
)  # fmt: skip
PALETTES = {"light": LIGHT, "dark": DARK}
MARKERS = ("v", "s", "D", "o", "^", "P")
LINES: tuple[Any, ...] = (
    (0, (1, 1.2)),
    (0, (4, 1.5)),
    (0, (6, 1.5, 1, 1.5)),
    "solid",
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (8, 2)),
)
TITLE_SIZE, CAPTION_SIZE = 11.0, 9.0
"""In points."""
SMALL = 0.85
"""Size of what explains, relative to the figure's font."""


def palette_of(ax: Axes) -> Palette:
    """The palette for what is drawn on: dark where the axes, or the figure behind them, are dark."""
    from matplotlib.colors import to_rgba

    for color in (ax.get_facecolor(), ax.figure.get_facecolor()):
        red, green, blue, alpha = to_rgba(color)
        if alpha > 0.5:
            return LIGHT if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else DARK
    return LIGHT


def settings(palette: Palette) -> dict[str, Any]:
    """matplotlib's settings for a figure of ours."""
    return {
        "axes.edgecolor": palette.muted,
        "axes.facecolor": palette.background,
        "axes.labelcolor": palette.ink,
        "axes.linewidth": 0.8,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.facecolor": palette.background,
        "font.size": 10.0,
        "axes.labelsize": 10.0,
        "axes.titlesize": TITLE_SIZE,
        "grid.color": palette.muted,
        "grid.alpha": 0.25,
        "grid.linewidth": 0.6,
        "hatch.linewidth": 0.8,
        "legend.frameon": False,
        "pdf.fonttype": 42,
        "svg.fonttype": "path",
        "svg.hashsalt": "onnxcal",
        "text.color": palette.ink,
        "text.parse_math": False,
        "xtick.color": palette.muted,
        "xtick.labelcolor": palette.ink,
        "xtick.labelsize": 9.0,
        "ytick.color": palette.muted,
        "ytick.labelcolor": palette.ink,
        "ytick.labelsize": 9.0,
    }
