"""A LeNet-5 that tells shirts from T-shirts, trained for too long: T against reliability, NLL and ECE.

Usage: python examples/lenet_binary/lenet_binary.py [--small] [--output FOLDER]

Data: Fashion-MNIST as Debian packages it (dataset-fashion-mnist), where that is installed; else scikit-learn's 3s and
8s. T is chosen on validation images; what is said of it is measured on test images that chose nothing.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import onnxcal
from onnxcal.torch import export_calibrated

FASHION = Path("/usr/share/datasets/fashion-mnist")
T_SHIRT, SHIRT = 0, 6
EPOCHS, ENOUGH = 15, 6
NAMES = {"val": "validation", "test": "test"}
QUICK = "torchscript"
"""The exporter of the small setting; the other takes seconds, even of a small network."""


def lenet() -> nn.Module:
    """LeNet-5 (LeCun et al. 1998) with ReLU and max pooling, and one sigmoid output."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 1), nn.Sigmoid(),
    )  # fmt: skip


def fashion(split: str) -> tuple[Tensor, Tensor]:
    """T-shirts (0) and shirts (1), N × 1 × 28 × 28."""
    with gzip.open(FASHION / f"{split}-labels-idx1-ubyte.gz") as file:
        y = np.frombuffer(file.read(), np.uint8, offset=8)
    with gzip.open(FASHION / f"{split}-images-idx3-ubyte.gz") as file:
        x = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    two = (y == T_SHIRT) | (y == SHIRT)
    return torch.tensor(x[two] / 255, dtype=torch.float32), torch.tensor(y[two] == SHIRT, dtype=torch.float32)[:, None]


def digits() -> tuple[Tensor, Tensor]:
    """3s (0) and 8s (1), made larger, and noisy, for they do not look alike enough."""
    from sklearn.datasets import load_digits

    data = load_digits()
    two = np.isin(data.target, (3, 8))
    x = torch.tensor(data.images[two][:, None] / 16, dtype=torch.float32)
    x = nn.functional.interpolate(x, size=28, mode="bilinear") + 0.9 * torch.randn(len(x), 1, 28, 28)
    return x, torch.tensor(data.target[two] == 8, dtype=torch.float32)[:, None]


def load(*, small: bool) -> dict[str, TensorDataset]:
    """Training, validation and test images."""
    if FASHION.exists():
        train, test = fashion("train"), fashion("t10k")
        sizes = {"train": 600, "val": 1000} if small else {"train": 2000, "val": 3000}
        val_end = sizes["train"] + sizes["val"]
        parts = {"train": slice(sizes["train"]), "val": slice(sizes["train"], val_end)}
        sets = {name: TensorDataset(*(array[part] for array in train)) for name, part in parts.items()}
        return {**sets, "test": TensorDataset(*test)}
    x, y = digits()
    cuts = {"train": slice(100), "val": slice(100, 230), "test": slice(230, None)}
    return {name: TensorDataset(x[cut], y[cut]) for name, cut in cuts.items()}


def train(model: nn.Module, data: TensorDataset, val: TensorDataset) -> None:
    """`EPOCHS` epochs of Adam on the binary cross-entropy."""
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for epoch in range(1, EPOCHS + 1):
        model.train()
        for x, y in DataLoader(data, batch_size=32, shuffle=True):
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy(model(x), y).backward()
            optimizer.step()
        if epoch in (ENOUGH, EPOCHS):
            model.eval()
            x, y = val.tensors
            with torch.no_grad():
                loss = nn.functional.binary_cross_entropy(model(x), y)
            print(f"epoch {epoch:2}: validation NLL {loss:.3f}")


def scores_at(temperature: float, z: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """NLL and ECE (15 bins) of σ(z / T)."""
    scores = onnxcal.plots.subject(z, y, temperature, task="binary", bootstrap=0).metrics.after
    return scores.nll, scores.ece


def draw(logits: dict[str, tuple[np.ndarray, np.ndarray]], marks: dict[str, float], path: Path) -> None:
    """Reliability of the test images at some T; NLL and ECE of both sets against T, with what validation chose."""
    figure = plt.figure(figsize=(11, 5.6), layout="constrained")
    axes = figure.subplot_mosaic([["sweep", "nll"], ["sweep", "ece"]])
    best, least_ece = marks["least NLL"], marks["least ECE"]
    seen = onnxcal.plots.subject(*logits["test"], best, task="binary", bootstrap=0)
    onnxcal.plots.reliability_sweep(seen, temperatures=sorted({least_ece, best / 2, 4 * best}), ax=axes["sweep"])
    axes["sweep"].legend(loc="upper left", fontsize="small")
    temperatures = np.geomspace(0.6, max(10, 3 * best), 60)
    for (name, (z, y)), style in zip(logits.items(), ("solid", "dashed"), strict=True):
        curves = np.array([scores_at(t, z, y) for t in temperatures]).T
        for panel, curve in zip(("nll", "ece"), curves, strict=True):
            axes[panel].plot(temperatures, curve, linestyle=style, color="tab:blue", label=f"{NAMES[name]} images")
    for panel, label in (("nll", "NLL (nats)"), ("ece", "ECE (15 bins)")):
        for (name, at), colour, line in zip(marks.items(), ("black", "tab:red"), ("solid", "dotted"), strict=True):
            axes[panel].axvline(at, color=colour, linestyle=line, label=f"{name} on validation: T = {at:.2f}")
        axes[panel].set(xscale="log", ylabel=label, xticks=[1, 2, 5, 10], xticklabels=["1", "2", "5", "10"])
        axes[panel].grid(alpha=0.3)
    axes["ece"].set_xlabel("temperature T (logarithmic)")
    axes["nll"].legend(fontsize="small")
    onnxcal.plots.save(figure, path, force=True)
    plt.close(figure)


def experiment(folder: Path, *, small: bool = False) -> dict[str, float]:
    """Train, calibrate, measure, draw; the figures by name."""
    torch.manual_seed(0)
    sets, model = load(small=small), lenet()
    print("shirts and T-shirts" if FASHION.exists() else "digits 3 and 8", {k: len(v) for k, v in sets.items()})
    train(model, sets["train"], sets["val"])

    file = folder / "lenet.onnx"
    loaders = {name: DataLoader(sets[name], batch_size=500) for name in ("val", "test")}
    result = export_calibrated(
        model, loaders["val"], file, eval_loader=loaders["test"], exporter=QUICK if small else "dynamo", force=True
    )
    best = result.calibration.temperature
    print(f"T = {best:.3f} ± {result.calibration.stderr:.3f}, verified: {result.verification.passed}")

    logits = {}
    for name, loader in loaders.items():
        found = onnxcal.collect_logits(file, loader)
        logits[name] = found.values, found.labels
    grid = np.geomspace(best / 3, best * 3, 200)
    least_ece = float(min(grid, key=lambda t: scores_at(t, *logits["val"])[1]))
    draw(logits, {"least NLL": best, "least ECE": least_ece}, folder / "lenet_binary.svg")

    figures = {"temperature": best, "least_ece": least_ece, "accuracy": result.metrics.before.accuracy}
    print(f"{result.metrics.n_samples} test images, accuracy {figures['accuracy']:.3f}:")
    for name, at in (("as trained", 1.0), ("least NLL on validation", best), ("least ECE on validation", least_ece)):
        nll, ece = scores_at(at, *logits["test"])
        print(f"  {name:24} T = {at:5.3f}   NLL {nll:.3f}   ECE {ece:.4f}")
        figures |= {f"nll {name}": nll, f"ece {name}": ece}
    return figures


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
