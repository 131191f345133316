"""The picture: one panel a problem, one row a contestant, time in passes of `exp` on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

from fitbench.race import EXP, Race

mpl.use("svg")
mpl.rcParams.update({"svg.hashsalt": "onnxcal", "svg.fonttype": "path", "font.size": 9})
from matplotlib import pyplot as plt  # noqa: E402  the backend has to be chosen first
from matplotlib.axes import Axes  # noqa: E402

BLUE, ORANGE, GREY = "#0072b2", "#e69f00", "#767676"  # Okabe and Ito's colour-blind safe palette


def draw(races: Sequence[Race], path: Path) -> None:
    """Write the picture; rows are in the order of the last problem's times."""
    times = {name: timed.to_exp for race in races for name, timed in race.fits.items()}
    names = sorted(times, key=times.__getitem__, reverse=True)
    titles = {name: timed.title for race in races for name, timed in race.fits.items()}
    figure, axes = plt.subplots(
        1, len(races), figsize=(3.2 + 2.6 * len(races), 1.4 + 0.24 * len(names)), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for panel, race in zip(axes[0], races, strict=True):
        _panel(panel, race, names)
    axes[0, 0].set_yticks(range(len(names)), [titles[name] for name in names])
    figure.supxlabel("time of a fit, in passes of one chunked single-thread exp over the logits", fontsize=9)
    handles = {label: mark for panel in axes[0] for mark, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles), frameon=False)
    figure.patch.set_facecolor("white")  # legible on a dark page too
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _panel(panel: Axes, race: Race, names: Sequence[str]) -> None:
    right = [name for name in names if name in race.fits and race.fits[name].correct]
    wrong = [name for name in names if name in race.fits and not race.fits[name].correct]
    kinds = (
        ("onnxcal", "D", BLUE, [name for name in right if name == "onnxcal"]),
        ("T right to 1e-4", "o", BLUE, [name for name in right if name != "onnxcal"]),
        ("wrong T, with its relative error", "X", ORANGE, wrong),
    )
    for label, marker, color, chosen in kinds:
        x = [race.fits[name].to_exp for name in chosen]
        y = [names.index(name) for name in chosen]
        panel.scatter(x, y, s=36, label=label, zorder=3, marker=marker, color=color)
    for name, timed in race.fits.items():
        if not timed.correct:
            off = "no number" if timed.relative_error is None else f"{timed.relative_error:.0e}"
            panel.annotate(
                off, (timed.to_exp, names.index(name)), (-6, 0), textcoords="offset points",
                ha="right", va="center", color=GREY, fontsize=7,
            )  # fmt: skip
    panel.axvline(1, color=GREY, linestyle="--", linewidth=1)
    panel.set_xscale("log")
    panel.margins(x=0.25)
    panel.grid(axis="x", color="#dddddd", linewidth=0.6)
    panel.set_title(f"{race.problem} (exp: {1000 * race.limits[EXP].median_seconds:.3g} ms)", fontsize=9)
