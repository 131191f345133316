"""Words and numbers on plots. Names in models are hostile: they come out as the letters that they are, and not long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxcal.report.plots.style import SMALL, palette_of
from onnxcal.report.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

LONGEST_NAME = 32


def shown_name(name: str, longest: int = LONGEST_NAME) -> str:
    """A name without characters that act on what displays them, cut in its middle where it is long."""
    text = printable(name[: 4 * longest] + name[-4 * longest :] if len(name) > 8 * longest else name)
    if len(text) <= longest:
        return text
    half = (longest - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def narrow_name(name: str, size: float, points: float) -> str:
    """`shown_name` as long as fits into some width: 32 letters W are three times as wide as 32 letters i."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size)
    for longest in range(LONGEST_NAME, 3, -1):
        text = shown_name(name, longest)
        if text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] <= points:
            break
    return text


def plain(text: Text) -> Text:
    """A text in which `$` is a dollar and `\\` is a backslash."""
    text.set_parse_math(False)
    text.set_usetex(False)
    return text


def put_title(ax: Axes, title: str, beside: str = "", under: str = "") -> None:
    """A title above the left end of the axes, smaller words at the right end, and under it."""
    plain(ax.set_title(title, loc="left", pad=20 if under else 7))
    if beside:
        plain(ax.set_title(beside, loc="right", fontsize=small_size(), pad=20 if under else 7))
    if under:
        said = ax.annotate(
            under, (0, 1), xytext=(0, 6), xycoords="axes fraction", textcoords="offset points", fontsize=small_size()
        )
        plain(said).set_in_layout(False)  # it is no wider than the axes, and the title makes room for its height


def put_corner(ax: Axes, lines: str, corner: str) -> None:
    """Some lines in a box in one corner: `lower right` or `upper left`."""
    colours = palette_of(ax)
    x, y, across, down = (0.975, 0.03, "right", "bottom") if corner == "lower right" else (0.025, 0.97, "left", "top")
    box = {"facecolor": colours.background, "edgecolor": colours.muted, "linewidth": 0.6, "boxstyle": "round,pad=0.3"}
    text = ax.text(x, y, lines, transform=ax.transAxes, ha=across, va=down, fontsize=small_size(), bbox=box, zorder=6)
    plain(text)


def temperature_text(temperature: float) -> str:
    """T with three digits."""
    return f"T = {temperature:.3g}"


def interval_text(value: float, interval: tuple[float, float] | None) -> str:
    """A score with its 95 % interval, where that is known."""
    return f"{value:.3f}" if interval is None else f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def percent_text(share: float) -> str:
    """A share in percent, with one digit behind the point."""
    return f"{100 * share:.1f} %"


def count_text(count: int) -> str:
    """A count in at most four characters: 999, 1.2k, 12k, 3.4M."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.1f}{letter}" if count < 9.95 * size else f"{count / size:.0f}{letter}"
    return str(count)


def small_size() -> float:
    """Of words that explain, in points."""
    import matplotlib as mpl

    return float(mpl.rcParams["font.size"]) * SMALL
