"""`temperature`: NLL and ECE as functions of T, with what was fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from onnxcal.metrics.temperatures import TemperatureCurve, temperature_curve
from onnxcal.report.plots.panels import legend_below, panel_below, stacked
from onnxcal.report.plots.plot import Plot
from onnxcal.report.plots.style import palette_of
from onnxcal.report.plots.text import put_title, temperature_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROOM = 0.08
"""Above and below a curve, as a share of its height."""


def fill(figure: Figure, curve: TemperatureCurve) -> None:
    """One panel over the other."""
    ((ax, below),) = stacked(figure, 1, 1, height=1.0)
    draw_curve(ax, curve, below=below)
    legend_below(figure, (ax, below), 3)


def draw_curve(ax: Axes, curve: TemperatureCurve, *, below: Axes | None = None) -> None:
    """NLL over log T, and ECE in axes below, by default hung under `ax`."""
    colours = palette_of(ax)
    below = below or panel_below(ax, height=0.6)
    t = curve.temperatures
    ax.plot(t, curve.nll, color=colours.main, linewidth=2.2, label="NLL")
    below.plot(t, curve.ece, color=colours.other, linewidth=2.2, linestyle=(0, (6, 1.5)), label="ECE (15 bins)")
    below.plot(
        t, curve.ece_floor, color=colours.muted, linewidth=1.4, linestyle=(0, (1, 1.5)), label="ECE from noise alone"
    )
    chosen, one = (int(np.argmin(np.abs(t - at))) for at in (curve.temperature, 1.0))
    name = temperature_text(curve.temperature)
    if curve.interval is not None:
        name += f" [{curve.interval[0]:.3g}, {curve.interval[1]:.3g}]"
    for axes, values in ((ax, curve.nll), (below, curve.ece)):
        if curve.interval is not None:
            axes.axvspan(*curve.interval, color=colours.main, alpha=0.22, linewidth=0, label="95 % interval of T")
        axes.axvline(curve.temperature, color=colours.ink, linewidth=1.1, zorder=1)
        axes.axvline(1.0, color=colours.muted, linewidth=1.1, linestyle=(0, (5, 3)), zorder=1)
        axes.plot(
            t[one], values[one], marker="o", markersize=8, color=colours.background, markeredgecolor=colours.ink,
            linestyle="none", markeredgewidth=1.4, label="T = 1, as it was", zorder=5,
        )  # fmt: skip
        axes.plot(
            t[chosen],
            values[chosen],
            marker="D",
            markersize=7.5,
            color=colours.ink,
            linestyle="none",
            label=name,
            zorder=6,
        )
        axes.grid(axis="y")
        _values_of_interest(axes, values, (chosen, one))
    ax.set(xscale="log", ylabel="NLL (nats)", xlim=(t[0], t[-1]))
    below.set(xlabel="temperature T (logarithmic)", ylabel="ECE", ylim=(0, None))
    _plain_ticks(below)
    put_title(ax, "NLL and ECE at other temperatures")


def _values_of_interest(ax: Axes, values: np.ndarray, marked: tuple[int, int]) -> None:
    """Limits that show the optimum: very wrong temperatures may leave the panel at its top."""
    low, high = float(values.min()), float(values.max())
    reach = max(3 * (float(values[list(marked)].max()) - low), 0.25 * (high - low))
    top = min(high, low + reach)
    ax.set_ylim(low - _ROOM * (top - low), top + _ROOM * (top - low))


def _plain_ticks(ax: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = ax.get_xlim()
    wide = high / low > 300
    ax.xaxis.set_major_locator(LogLocator(10, subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


PLOT = Plot(temperature_curve, fill, (7.0, 5.6), fitted=True)
