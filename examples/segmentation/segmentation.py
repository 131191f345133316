"""A label for every pixel: a dense head, with pixels that nobody could label.

Usage: python examples/segmentation/segmentation.py [--small] [--output FOLDER]

Discs and squares on a noisy ground, drawn by this script. The pixels along a shape's edge have the label 255, as in
Pascal VOC: they count neither for training nor for T. The network sees few images, and sees them often.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import onnxcal
from onnxcal.torch import export_calibrated

QUICK = "torchscript"
"""The exporter of the small setting; the other takes seconds, even of a small network."""
IGNORED = 255
CLASSES = ("ground", "disc", "square")
SIZE = 32


def shapes(count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Images (N, 1, H, W) and labels (N, H, W): 0 to 2, or 255 along edges."""
    at = np.arange(SIZE)
    images = np.zeros((count, 1, SIZE, SIZE), np.float32)
    labels = np.zeros((count, SIZE, SIZE), np.int64)
    for image, label in zip(images, labels, strict=True):
        for kind in (1, 2, 1, 2):
            y, x = rng.uniform(5, SIZE - 5, size=2)
            radius = rng.uniform(3, 6)
            dy, dx = np.abs(at[:, None] - y), np.abs(at - x)
            distance = (np.hypot(dy, dx) if kind == 1 else np.maximum(dy, dx)) - radius
            image[0, distance < 0] = rng.uniform(0.5, 1)
            label[distance < 0.7] = IGNORED
            label[distance < -0.7] = kind
        image += 0.35 * rng.normal(size=image.shape)
    return torch.tensor(images), torch.tensor(labels)


def network() -> nn.Module:
    """Dilated convolutions: every pixel sees its neighbourhood of 31 × 31."""

    def layer(channels: int, out: int, dilation: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, out, 3, padding=dilation, dilation=dilation), nn.BatchNorm2d(out), nn.ReLU()]

    return nn.Sequential(
        *layer(1, 16, 1), *layer(16, 16, 2), *layer(16, 16, 4), *layer(16, 16, 8), nn.Conv2d(16, len(CLASSES), 1)
    )


def train(model: nn.Module, data: TensorDataset, epochs: int) -> None:
    """Adam on the cross-entropy of the pixels that have a label."""
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(epochs):
        for x, y in DataLoader(data, batch_size=8, shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y, ignore_index=IGNORED).backward()
            optimizer.step()


def draw(calibration: onnxcal.Calibration, image: Tensor, label: np.ndarray, logits: Tensor, path: Path) -> None:
    """An image, its labels, how sure the network is of each pixel before and after; and reliability."""
    figure = plt.figure(figsize=(11, 7.6), layout="constrained")
    axes = figure.subplot_mosaic(
        [["image", "truth", "before", "after"], ["left", "left", "right", "right"]], height_ratios=[1, 1.7]
    )
    z = logits.numpy()[None]
    sure = {"before": onnxcal.Calibration(1.0).apply(z)[0].max(axis=0), "after": calibration.apply(z)[0].max(axis=0)}
    axes["image"].imshow(image[0].numpy(), cmap="gray")
    axes["image"].set_title("image")
    axes["truth"].imshow(np.where(label == IGNORED, np.nan, label), cmap="viridis")
    axes["truth"].set_title("labels: ground, disc, square\nwhite: 255, ignored")
    for name, p in sure.items():
        shown = axes[name].imshow(p, vmin=1 / len(CLASSES), vmax=1, cmap="magma")
        axes[name].set_title(f"{name}: confidence")
    figure.colorbar(shown, ax=[axes["before"], axes["after"]], label="probability of the top class")
    for name in ("image", "truth", "before", "after"):
        axes[name].set(xticks=[], yticks=[])
    for name, at in (("left", "before"), ("right", "after")):
        onnxcal.plots.reliability_diagram(calibration, at=at, ax=axes[name], legend=False)
    figure.legend(*axes["left"].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    onnxcal.plots.save(figure, path, force=True)
    plt.close(figure)


def experiment(folder: Path, *, small: bool = False) -> dict[str, float]:
    """Train, calibrate, measure, draw; the figures by name."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    sizes = {"train": 8, "val": 20, "test": 20} if small else {"train": 16, "val": 60, "test": 60}
    sets = {name: TensorDataset(*shapes(count, rng)) for name, count in sizes.items()}
    model = network()
    train(model, sets["train"], epochs=40 if small else 150)

    file = folder / "segmentation.onnx"
    val, test = (DataLoader(sets[name], batch_size=20) for name in ("val", "test"))
    result = export_calibrated(
        model, val, file, eval_loader=test, ignore_index=IGNORED, exporter=QUICK if small else "dynamo", force=True
    )
    before, after, t = result.metrics.before, result.metrics.after, result.calibration
    print(
        f"T = {t.temperature:.3f} ± {t.robust_stderr:.3f}, where the pixels of one image count as one sample", end="; "
    )
    print(f"± {t.stderr:.3f} as if each were one")
    print(f"{result.metrics.n_samples:,} labelled test pixels: accuracy {before.accuracy:.3f}", end="   ")
    print(f"NLL {before.nll:.3f} -> {after.nll:.3f}   ECE {before.ece:.3f} -> {after.ece:.3f}")

    x, y = sets["test"].tensors
    with torch.no_grad():
        draw(t, x[0], y[0].numpy(), model.eval()(x[:1])[0], folder / "segmentation.svg")
    return {
        "temperature": t.temperature,
        "nll before": before.nll,
        "nll after": after.nll,
        "pixels": result.metrics.n_samples,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="fewer images, for a look or a test")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent, help="folder for the picture and the model"
    )
    arguments = parser.parse_args()
    experiment(arguments.output, small=arguments.small)


if __name__ == "__main__":
    main()
