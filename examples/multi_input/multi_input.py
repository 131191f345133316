"""An image and a table row into one model, from a loader that also yields paths and ids.

Usage: python examples/multi_input/multi_input.py [--small] [--output FOLDER]

Half of a handwritten digit (scikit-learn's) is shown as a noisy image; of the hidden half, three numbers are told. The
loader's batches carry what a model does not take; `unpack` picks what it does, and the paths find the images to look at
again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

import onnxcal
from onnxcal.torch import export_calibrated

QUICK = "torchscript"
"""The exporter of the small setting; the other takes seconds, even of a small network."""


class Records(Dataset[dict[str, Any]]):
    """The upper half of each digit, with noise; ink, and its centre, of the lower half; the label, a path and an id."""

    def __init__(self) -> None:
        data = load_digits()
        images = torch.tensor(data.images, dtype=torch.float32) / 16
        lower = images[:, 4:]
        ink = lower.sum(dim=(1, 2))
        rows, columns = torch.arange(4.0)[:, None], torch.arange(8.0)
        centre = [(lower * at).sum(dim=(1, 2)) / ink.clamp(min=1) for at in (rows, columns)]
        self.image = images[:, None, :4] + 0.3 * torch.randn(len(images), 1, 4, 8)
        self.tabular = torch.stack([ink / 10, *centre], dim=1)
        self.label = torch.tensor(data.target)

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {
            "path": f"digits/{i:04}.png", "id": i, "image": self.image[i], "tabular": self.tabular[i],
            "label": self.label[i],
        }  # fmt: skip


def unpack(batch: dict[str, Any]) -> tuple[dict[str, Tensor], Tensor]:
    """What the model takes, by the names of `forward`, and the labels."""
    return {"image": batch["image"], "tabular": batch["tabular"]}, batch["label"]


class Network(nn.Module):
    """Convolutions over the image, a layer over the numbers, and an MLP over both."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Flatten())
        self.numbers = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 16), nn.ReLU())
        self.both = nn.Sequential(nn.Linear(16 * 32 + 16, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, image: Tensor, tabular: Tensor) -> Tensor:
        return self.both(torch.cat([self.convolutions(image), self.numbers(tabular)], dim=1))


def train(model: nn.Module, loader: DataLoader[Any], epochs: int) -> None:
    """Adam on the cross-entropy, until the network knows its images by heart."""
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(epochs):
        for batch in loader:
            inputs, labels = unpack(batch)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(**inputs), labels).backward()
            optimizer.step()


def least_sure(file: Path, loader: DataLoader[Any], count: int) -> list[tuple[str, int, float]]:
    """Path, prediction and probability of the predictions that the calibrated file is least sure of."""
    session = onnxruntime.InferenceSession(file)
    found = []
    for batch in loader:
        inputs, _ = unpack(batch)
        probabilities = session.run(None, {name: x.numpy() for name, x in inputs.items()})[0]
        found += zip(
            batch["path"], probabilities.argmax(axis=1).tolist(), probabilities.max(axis=1).tolist(), strict=True
        )
    return sorted(found, key=lambda each: each[2])[:count]


def experiment(folder: Path, *, small: bool = False) -> dict[str, float]:
    """Train, calibrate, measure, draw; the figures by name."""
    torch.manual_seed(0)
    records = Records()
    order = np.random.default_rng(0).permutation(len(records))
    ends = (300, 800, 1300) if small else (500, 1100, len(records))
    parts = {"train": order[: ends[0]], "val": order[ends[0] : ends[1]], "test": order[ends[1] : ends[2]]}
    loaders = {
        name: DataLoader(Subset(records, part.tolist()), batch_size=100, shuffle=name == "train")
        for name, part in parts.items()
    }
    model = Network()
    train(model, loaders["train"], epochs=60)

    file = folder / "multi_input.onnx"
    result = export_calibrated(
        model, loaders["val"], file, unpack=unpack, eval_loader=loaders["test"], exporter=QUICK if small else "dynamo",
        force=True,
    )  # fmt: skip
    before, after, t = result.metrics.before, result.metrics.after, result.calibration
    print(f"T = {t.temperature:.3f} ± {t.stderr:.3f}, verified: {result.verification.passed}")
    print(f"{result.metrics.n_samples} test images: accuracy {before.accuracy:.3f}", end="   ")
    print(f"NLL {before.nll:.3f} -> {after.nll:.3f}   ECE {before.ece:.3f} -> {after.ece:.3f}")
    print("look at these again:")
    for path, prediction, p in least_sure(file, loaders["test"], 3):
        print(f"  {path}: a {prediction}, {p:.0%} sure")

    figure = onnxcal.plots.figure("reliability", t)
    onnxcal.plots.save(figure, folder / "multi_input.svg", force=True)
    plt.close(figure)
    return {"temperature": t.temperature, "nll before": before.nll, "nll after": after.nll}


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
