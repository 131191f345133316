"""Draws README's picture: the reliability diagram of the demo's held-out half, before and after.

Usage: python tools/draw_reliability.py examples/quickstart/reliability.svg
Needs matplotlib, which is in the `dev` extra.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import matplotlib as mpl

import onnxcal
from onnxcal.metrics import Scores

mpl.use("svg")
mpl.rcParams.update({"svg.hashsalt": "onnxcal", "svg.fonttype": "path", "font.size": 10})
from matplotlib import pyplot as plt  # noqa: E402  the backend has to be chosen first
from matplotlib.axes import Axes  # noqa: E402

FEW = 10
BLUE, ORANGE, GREY = "#0072b2", "#e69f00", "#767676"  # Okabe and Ito's colour-blind safe palette
DEMO_DATA = Path(onnxcal.__file__).parent / "demo_data"


def draw(diagram: Axes, histogram: Axes, scores: Scores, title: str) -> None:
    """One reliability diagram, with the counts of its bins below."""
    bins = scores.bins
    left, width = bins.edges[:-1], bins.edges[1] - bins.edges[0]
    for shown, alpha, label in (
        (bins.counts >= FEW, 1.0, "accuracy"),
        (bins.counts < FEW, 0.35, f"… of < {FEW} images"),
    ):
        diagram.bar(
            left[shown],
            bins.accuracy[shown],
            width,
            align="edge",
            color=BLUE,
            alpha=alpha,
            edgecolor="white",
            label=label,
        )
    filled = bins.counts > 0
    diagram.hlines(
        bins.confidence[filled], left[filled], left[filled] + width, color=ORANGE, linewidth=3, label="mean confidence"
    )
    diagram.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfect calibration")
    diagram.set(xlim=(0, 1), ylim=(0, 1.02), title=title)
    diagram.text(
        0.04, 0.93, f"ECE {scores.ece:.3f}\nNLL {scores.nll:.3f}", va="top",
        bbox={"facecolor": "white", "edgecolor": GREY, "boxstyle": "round"},
    )  # fmt: skip
    histogram.bar(left, bins.counts, width, align="edge", color=GREY, edgecolor="white")
    histogram.set(xlim=(0, 1), yscale="log", ylim=(0.8, 1200), xlabel="confidence of the predicted class")


def main() -> None:
    """Calibrate the demo model in a temporary folder and draw what was measured."""
    parser = argparse.ArgumentParser(description="Draw the reliability diagram of the demo.")
    parser.add_argument("output", type=Path)
    output: Path = parser.parse_args().output
    with tempfile.TemporaryDirectory() as folder:
        result = onnxcal.calibrate(
            DEMO_DATA / "digits.onnx", DEMO_DATA / "digits.npz", output=Path(folder) / "calibrated.onnx"
        )
    figure, axes = plt.subplots(
        2, 2, figsize=(8, 4.9), sharex=True, sharey="row", height_ratios=(3, 1), layout="constrained"
    )
    draw(axes[0, 0], axes[1, 0], result.metrics.before, "as trained")
    draw(axes[0, 1], axes[1, 1], result.metrics.after, "after onnxcal (T of the other half)")
    axes[0, 0].set_ylabel("accuracy")
    axes[1, 0].set_ylabel("images")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.patch.set_facecolor("white")  # legible on a dark page too
    figure.savefig(output, metadata={"Date": None})
    print(f"{output}: T = {result.calibration.temperature:.4g}, {result.metrics.n_samples} held-out images")


if __name__ == "__main__":
    main()
