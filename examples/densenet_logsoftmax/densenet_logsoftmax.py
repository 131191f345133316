"""A small DenseNet with frozen features and a head that ends in LogSoftmax: when T comes out below 1.

Usage: python examples/densenet_logsoftmax/densenet_logsoftmax.py [--small] [--output FOLDER]

The features are trained to tell 0 to 4 apart and then frozen; three heads learn all ten of scikit-learn's digits on top
of them: one for long, one stopped early, one with smoothed labels. Only the first is too sure of itself.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import onnxcal
from onnxcal.torch import export_calibrated

QUICK = "torchscript"
"""The exporter of the small setting; the other takes seconds, even of a small network."""


class DenseBlock(nn.Module):
    """Each layer sees the features of all before it (Huang et al. 2017)."""

    def __init__(self, channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(channels + i * growth), nn.ReLU(),
                nn.Conv2d(channels + i * growth, growth, 3, padding=1, bias=False),
            )
            for i in range(layers)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return x


def densenet() -> nn.Sequential:
    """Two dense blocks with a transition; 28 features."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), DenseBlock(8, 8, 3),
        nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 12, 1, bias=False), nn.AvgPool2d(2),
        DenseBlock(12, 8, 2), nn.BatchNorm2d(28), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
    )  # fmt: skip


def head() -> nn.Sequential:
    """An MLP that ends in log-probabilities."""
    return nn.Sequential(nn.Linear(112, 64), nn.ReLU(), nn.Linear(64, 10), nn.LogSoftmax(dim=1))


@dataclass(frozen=True)
class Recipe:
    """How a head is trained."""

    epochs: int
    """Passes over the training images."""
    smoothing: float = 0.0
    """Share of each label that is spread over all classes."""


RECIPES = {"trained for long": Recipe(100), "stopped early": Recipe(4), "labels smoothed": Recipe(60, 0.3)}


def train(model: nn.Module, data: TensorDataset, recipe: Recipe) -> None:
    """Adam on the NLL of the log-probabilities."""
    loss_of = nn.NLLLoss()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    model.train()
    for _ in range(recipe.epochs):
        for x, y in DataLoader(data, batch_size=50, shuffle=True):
            log_p = model(x)
            loss = (1 - recipe.smoothing) * loss_of(log_p, y) - recipe.smoothing * log_p.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def load(*, small: bool) -> dict[str, TensorDataset]:
    """Training, validation and test images."""
    data = load_digits()
    x, y = torch.tensor(data.images[:, None] / 16, dtype=torch.float32), torch.tensor(data.target)
    x = x + 0.25 * torch.randn(x.shape)  # clean digits are too easy to be unsure of
    ends = (200, 700, 1200) if small else (400, 1100, 1797)
    cuts = {"train": slice(ends[0]), "val": slice(*ends[:2]), "test": slice(*ends[1:])}
    return {name: TensorDataset(x[cut], y[cut]) for name, cut in cuts.items()}


def experiment(folder: Path, *, small: bool = False) -> dict[str, dict[str, float]]:
    """Train the features once and each head, calibrate, draw; the figures of each head."""
    torch.manual_seed(0)
    sets = load(small=small)
    val, test = (DataLoader(sets[name], batch_size=500) for name in ("val", "test"))

    features = densenet()
    x, y = sets["train"].tensors
    few = nn.Sequential(features, nn.Linear(112, 5), nn.LogSoftmax(dim=1))
    train(few, TensorDataset(x[y < 5], y[y < 5]), Recipe(15))
    features.requires_grad_(False).eval()
    seen = TensorDataset(features(x), y)  # frozen features are the same each time

    figure, axes = plt.subplots(1, 3, figsize=(13, 5.6), layout="constrained")
    found = {}
    for (name, recipe), ax in zip(RECIPES.items(), axes, strict=True):
        model = nn.Sequential(features, head())
        train(model[1], seen, recipe)
        result = export_calibrated(
            model, val, folder / "densenet.onnx", eval_loader=test, exporter=QUICK if small else "dynamo", force=True
        )
        before, after, t = result.metrics.before, result.metrics.after, result.calibration
        print(f"{name:16} T = {t.temperature:.3f} [{t.interval[0]:.3f}, {t.interval[1]:.3f}]", end="   ")
        print(f"accuracy {before.accuracy:.3f}", end="   ")
        print(f"mean confidence {before.confidence:.3f} -> {after.confidence:.3f}", end="   ")
        print(f"NLL {before.nll:.3f} -> {after.nll:.3f}   ECE {before.ece:.3f} -> {after.ece:.3f}")
        found[name] = {"temperature": t.temperature, "nll before": before.nll, "nll after": after.nll}
        onnxcal.plots.reliability_diagram(t, at="before", ax=ax, legend=False)
        verdict = "too sure" if t.temperature > 1 else "not sure enough"
        ax.text(
            0.5, 1.2, f"{name}: {verdict}, T = {t.temperature:.2f}", transform=ax.transAxes, ha="center", fontsize=12
        )
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    onnxcal.plots.save(figure, folder / "densenet_logsoftmax.svg", force=True)
    plt.close(figure)
    return found


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
