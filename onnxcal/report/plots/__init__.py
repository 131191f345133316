"""Plots of what a calibration does: one kind a file, which draws what `metrics` has worked out.

`KINDS` is the registry: a kind is the module of its name (`-` is `_`), whose `PLOT` says what it shows. matplotlib is
imported when something is drawn.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from onnxcal.report.plots.canvas import drawing, new_figure, require_matplotlib, write_figure
from onnxcal.report.plots.caption import put_caption
from onnxcal.report.plots.kinds import check_kind, check_style
from onnxcal.report.plots.plot import Plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from onnxcal.metrics.subject import Subject

__all__ = ["Plot", "draw", "find_plot", "require_matplotlib", "write_figure"]


def find_plot(kind: str) -> Plot:
    """What a kind of plot is made of.

    Raises
    ------
    UsageError
        It is not known; the hint names the nearest that is.
    """
    name = check_kind(kind).replace("-", "_")
    plot: Plot = importlib.import_module(f"onnxcal.report.plots.{name}").PLOT
    return plot


def draw(kind: str, subject: Subject, data: Any = None, *, style: str = "light") -> Figure:
    """A figure of one kind.

    Parameters
    ----------
    kind : one of `KINDS`.
    subject : what it is of.
    data : the numbers, where `find_plot(kind).data(subject)` has worked them out already.
    style : `light` or `dark`.

    Raises
    ------
    UsageError
        The kind or the style is not known, or matplotlib is not installed.
    """
    plot = find_plot(kind)
    check_style(style)
    require_matplotlib()
    numbers = plot.data(subject) if data is None else data
    with drawing(style):
        figure = new_figure(plot.size)
        put_caption(figure, subject, plot.note)
        plot.fill(figure, numbers)
        return figure
