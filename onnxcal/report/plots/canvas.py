"""Figures that do not depend on the user's settings, and files of them that are the same on any day."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from onnxcal.errors import UsageError
from onnxcal.report.plots.style import PALETTES, settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PIXELS_PER_INCH = 200
_FONTS = ("Noto Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Microsoft YaHei", "Hiragino Sans", "Arial Unicode MS")
"""Where installed, for letters of names that matplotlib's own DejaVu Sans does not have."""
_DATELESS: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": "onnxcal"},
    "pdf": {"CreationDate": None, "Creator": "onnxcal", "Producer": None},
    "png": {"Software": None},
}


def require_matplotlib() -> None:
    """Raise UsageError, naming the extra, where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UsageError(
            "plots need matplotlib, which is not installed", hint="pip install 'onnxcal[report]'"
        ) from None


@contextmanager
def drawing(style: str) -> Iterator[None]:
    """matplotlib as it comes, with our colours, whatever the user's settings are; they are back afterwards."""
    import matplotlib as mpl
    from matplotlib.font_manager import fontManager

    known = set(fontManager.get_font_names())
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Glyph .* missing from", category=UserWarning)
        mpl.rcdefaults()
        parameters: Any = mpl.rcParams  # typed by key in some versions
        parameters.update(settings(PALETTES[style]))
        parameters["font.family"] = ["DejaVu Sans", *(font for font in _FONTS if font in known)]
        yield


def new_figure(size: tuple[float, float]) -> Figure:
    """An empty figure of some inches that is in no window, and in no list of pyplot's."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def write_figure(figure: Figure, file: BinaryIO, suffix: str) -> None:
    """Write a figure as `.svg`, `.png` or `.pdf`: the same bytes for the same figure."""
    kind = suffix.lower().removeprefix(".")
    with drawing("light"):  # colours are the figure's own by now; ids in SVG and fonts in PDF are settings
        figure.savefig(file, format=kind, dpi=PIXELS_PER_INCH, metadata=_DATELESS[kind])
