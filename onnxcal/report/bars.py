"""A reliability diagram in text, for those on a terminal: bars of accuracy, a mark where the confidence is, counts.

    confidence    before                          after
    0.87 - 0.93   ██████████████┊       ▏   52    ████████████████████▏    71

Between the end of a bar and the mark lies the gap that the ECE is the mean of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnxcal.metrics import ReliabilityBins

_EIGHTHS = " ▏▎▍▌▋▊▉"
_LABEL = "confidence   "
_COUNT = 8
_LEAST_BAR, _MOST_BAR = 10, 40


@dataclass(frozen=True)
class BarGlyphs:
    """The characters that bars are drawn with."""

    full: str = "█"
    """A whole cell of a bar."""
    parts: str = _EIGHTHS
    """Cells that are filled by 0, 1, … of as many parts."""
    mark: str = "│"
    """Where the mean confidence of a bin is."""
    empty: str = "·"
    """What an empty bin shows."""


ASCII_BARS = BarGlyphs("#", " ", "|", ".")


def bar_glyphs_for(encoding: str) -> BarGlyphs:
    """Block characters, or ASCII where an encoding has none."""
    try:
        "█▏▎▍▌▋▊▉│·".encode(encoding)
    except (UnicodeError, LookupError):
        return ASCII_BARS
    return BarGlyphs()


def reliability_lines(
    panels: Sequence[tuple[str, ReliabilityBins]], width: int, glyphs: BarGlyphs | None = None
) -> list[str]:
    """The diagram as lines of at most `width` columns, the surest bin first.

    Parameters
    ----------
    panels : a title and the bins of each, all with the same edges.
    width : columns.
    glyphs : the characters to use.
    """
    glyphs = glyphs or BarGlyphs()
    room = (width - len(_LABEL)) // len(panels) - _COUNT - 2
    bar = max(_LEAST_BAR, min(_MOST_BAR, room))
    titles = "".join(f"{title:<{bar + 1}}{'samples':>{_COUNT - 1}}  " for title, _ in panels)
    lines = [(_LABEL + titles).rstrip()]
    edges = panels[0][1].edges
    for m in reversed(range(len(edges) - 1)):
        label = f"{edges[m]:.2f}-{edges[m + 1]:.2f}".ljust(len(_LABEL))
        cells = [f"{_bar(bins, m, bar, glyphs)}{bins.counts[m]:>{_COUNT - 1},}  " for _, bins in panels]
        lines.append((label + "".join(cells)).rstrip())
    lines.append(f"{'':{len(_LABEL)}}bar: share right; {glyphs.mark} mean confidence; the gap is what ECE counts")
    return lines


def _bar(bins: ReliabilityBins, m: int, width: int, glyphs: BarGlyphs) -> str:
    """One bar with its mark, in `width` + 1 columns."""
    if bins.counts[m] == 0:
        return glyphs.empty.ljust(width + 1)
    filled = float(bins.accuracy[m]) * width
    whole = int(filled)
    part = glyphs.parts[int((filled - whole) * len(glyphs.parts))]
    cells = list((glyphs.full * whole + part).ljust(width + 1)[: width + 1])
    cells[min(width, round(float(bins.confidence[m]) * width))] = glyphs.mark
    return "".join(cells)
