"""ResNet-20 on CIFAR-10 in three steps: measure, calibrate, measure; with torchmetrics as a second opinion.

Usage: python examples/resnet_cifar/resnet_cifar.py [--small] [--output FOLDER] [--data FOLDER]

`--data` (default: the environment variable ONNXCAL_DATA, or ../shared/data of the checkout) may hold published weights,
`akamaster_resnet20.onnx`, and 1,000 test images, `images_cifar10_test1000.npz`. Where it does not, a small network of
the same kind is trained on scikit-learn's digits.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from matplotlib import pyplot as plt
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import onnxcal
from onnxcal.torch import ModelWithTemperature, export_calibrated

DATA = Path(os.environ.get("ONNXCAL_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
QUICK = "torchscript"
"""The exporter of the small setting; the other takes seconds, even of a small network."""
WEIGHTS, IMAGES = "akamaster_resnet20.onnx", "images_cifar10_test1000.npz"


class Block(nn.Module):
    """Two convolutions and a shortcut without weights (He et al. 2016, option A)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.stride, self.padding = out // channels, (out - channels) // 2
        self.conv1 = nn.Conv2d(channels, out, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        z = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        return torch.relu(z + nn.functional.pad(shortcut, (0, 0, 0, 0, self.padding, self.padding)))


class ResNet(nn.Module):
    """ResNet-20 with three blocks a stage, of 16, 32 and 64 channels."""

    def __init__(self, colours: int = 3, blocks: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(colours, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for stage, (channels, out) in enumerate([(16, 16), (16, 32), (32, 64)], start=1):
            first, rest = Block(channels, out), (Block(out, out) for _ in range(blocks - 1))
            self.add_module(f"layer{stage}", nn.Sequential(first, *rest))
        self.linear = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(image)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(dim=(2, 3)))


def published(data: Path) -> tuple[nn.Module, Tensor, Tensor]:
    """The published network, and 1,000 test images as it wants them."""
    stored = onnx.ModelProto.FromString((data / WEIGHTS).read_bytes()).graph.initializer
    weights = {w.name: torch.tensor(onnx.numpy_helper.to_array(w)) for w in stored}
    weights |= {"linear.weight": weights["W"], "linear.bias": weights["B"]}
    model = ResNet()
    counters = {name: value for name, value in model.state_dict().items() if name.endswith("num_batches_tracked")}
    model.load_state_dict(counters | {name: weights[name] for name in model.state_dict() if name not in counters})
    archive = np.load(data / IMAGES)
    x = (archive["x"] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return (
        model,
        torch.tensor(x.transpose(0, 3, 1, 2), dtype=torch.float32),
        torch.tensor(archive["y"].astype(np.int64)),
    )


def trained_on_the_spot() -> tuple[nn.Module, Tensor, Tensor]:
    """A small network that knows 300 digits by heart, and others."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x, y = torch.tensor(data.images[:, None] / 16, dtype=torch.float32), torch.tensor(data.target)
    x = x + 0.3 * torch.randn(x.shape)
    model = ResNet(colours=1, blocks=1)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(15):
        for images, labels in DataLoader(TensorDataset(x[:300], y[:300]), batch_size=50, shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
    return model, x[300:1300], y[300:1300]


def second_opinion(p: np.ndarray, y: np.ndarray) -> float | None:
    """ECE as torchmetrics has it; None where it is not installed."""
    try:
        from torchmetrics.classification import MulticlassCalibrationError
    except ImportError:
        return None
    return float(MulticlassCalibrationError(num_classes=10, n_bins=15, norm="l1")(torch.tensor(p), torch.tensor(y)))


def experiment(folder: Path, *, small: bool = False, data: Path = DATA) -> dict[str, float]:
    """The three steps; the figures by name."""
    torch.manual_seed(0)
    here = (data / WEIGHTS).exists() and (data / IMAGES).exists() and not small
    model, x, y = published(data) if here else trained_on_the_spot()
    print("ResNet-20, published weights, CIFAR-10" if here else "a small ResNet, trained on the spot, digits")
    # T is fitted on every other image, and measured on those between.
    val, test = (DataLoader(TensorDataset(x[first::2], y[first::2]), batch_size=100) for first in (0, 1))
    file = folder / "resnet.onnx"

    # 1 and 3. Measure before and after, on images that the fit does not see. 2. Fit T, patch, verify.
    result = export_calibrated(model, val, file, eval_loader=test, exporter=QUICK if small else "dynamo", force=True)
    before, after, t = result.metrics.before, result.metrics.after, result.calibration
    logits = onnxcal.collect_logits(file, test)
    opinions = [
        second_opinion(onnxcal.Calibration(at).apply(logits.values), logits.labels) for at in (1.0, t.temperature)
    ]
    print(f"T = {t.temperature:.4f} ± {t.stderr:.4f} from {t.n_samples} images", end="; ")
    print(f"measured on {result.metrics.n_samples} others")
    for name, scores, opinion in zip(("before", "after"), (before, after), opinions, strict=True):
        told = "not installed" if opinion is None else f"{opinion:.4f}"
        print(f"  {name:6}  accuracy {scores.accuracy:.3f}   NLL {scores.nll:.3f}", end="   ")
        print(f"ECE {scores.ece:.4f} (torchmetrics: {told})")

    # The class that everyone knows, side by side with the file.
    wrapper = ModelWithTemperature(model).set_temperature(val).eval()
    with torch.no_grad():
        ours = wrapper(x[1::2]).softmax(1).numpy()
    session = onnxruntime.InferenceSession(file)
    theirs = np.concatenate([session.run(None, {"image": images.numpy()})[0] for images, _ in test])
    apart = float(np.abs(ours - theirs).max())
    print(f"ModelWithTemperature: T = {wrapper.temperature.item():.4f}", end="; ")
    print(f"its probabilities and the file's differ by {apart:.1e}")

    figure = onnxcal.plots.figure("reliability", t)
    onnxcal.plots.save(figure, folder / "resnet_cifar.svg", force=True)
    plt.close(figure)
    return {
        "temperature": t.temperature, "nll before": before.nll, "nll after": after.nll, "ece before": before.ece,
        "ece after": after.ece, "second opinion before": opinions[0] or before.ece,
        "second opinion after": opinions[1] or after.ece, "wrapper": wrapper.temperature.item(), "apart": apart,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="the network that is trained on the spot")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent, help="folder for the picture and the model"
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the published weights and images")
    arguments = parser.parse_args()
    experiment(arguments.output, small=arguments.small, data=arguments.data)


if __name__ == "__main__":
    main()
