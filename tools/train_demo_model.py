"""Train the network behind `onnxcal demo` and write it down with its validation set.

What it makes: `digits.onnx`, a small convolutional network that reads 8x8 handwritten digits and returns raw
logits, and `digits.npz`, every digit the network was not trained on, with its label. The digits are the 1,797
real ones that come with scikit-learn.

Why it is overconfident: 200 training images, 300 epochs of plain cross-entropy, no regularisation, no early
stopping. Every training image is right after 20 epochs; the loss falls on, because the logits still grow.
Labels and logits are left as they are, and other seeds give much the same picture.

It takes about 15 seconds on one CPU core and needs torch, scikit-learn, onnx and onnxruntime. On one machine,
the same versions give the same bytes again.

    python tools/train_demo_model.py [--output DIR]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

SEED = 0
TRAINING_IMAGES = 200
EPOCHS = 300
BATCH_SIZE = 32
LEARNING_RATE = 0.03
MOMENTUM = 0.9

OPSET = 17
EXPORT_TOLERANCE = 1e-5
"""Largest difference allowed between torch's logits and onnxruntime's, in units of max(1, |logit|)."""
DEMO_DATA = Path(__file__).resolve().parent.parent / "onnxcal" / "demo_data"


@dataclass(frozen=True)
class Digits:
    """Labelled images, ready to feed."""

    image: npt.NDArray[np.float32]
    """Shape (N, 1, 8, 8), in [0, 1]."""
    labels: npt.NDArray[np.int64]
    """Shape (N,), in [0, 10)."""


def main(argv: list[str] | None = None) -> int:
    """Train, export, check, write, and print what came out."""
    parser = argparse.ArgumentParser(description="Train the demo model and write digits.onnx and digits.npz.")
    parser.add_argument(
        "--output",
        type=Path,
        default=DEMO_DATA,
        metavar="DIR",
        help="where to write (default: the package's demo_data)",
    )
    output: Path = parser.parse_args(argv).output
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"cannot write to --output {output}: {error.strerror}")

    training, validation = split_digits(SEED)
    network = train(training, SEED)
    model = export(network)
    logits = run_onnx(model, validation.image)
    difference = export_difference(network, logits, validation.image)
    if difference > EXPORT_TOLERANCE:
        print(
            f"error: onnxruntime's logits are {difference:.1e} off torch's; the limit is {EXPORT_TOLERANCE}",
            file=sys.stderr,
        )
        return 1

    try:
        (output / "digits.onnx").write_bytes(model)
        np.savez_compressed(output / "digits.npz", image=validation.image, labels=validation.labels)
    except OSError as error:
        parser.error(f"cannot write to --output {output}: {error.strerror}")

    probabilities = softmax(logits)
    print(f"trained on       {len(training.labels):,} images")
    print(f"validation set   {len(validation.labels):,} images")
    print(f"accuracy         {np.mean(logits.argmax(axis=1) == validation.labels):.4f}")
    print(f"mean confidence  {np.mean(probabilities.max(axis=1)):.4f}")
    print(f"onnx vs torch    {difference:.1e}")
    for name in ("digits.onnx", "digits.npz"):
        print(f"wrote            {output / name} ({(output / name).stat().st_size:,} bytes)")
    return 0


def split_digits(seed: int) -> tuple[Digits, Digits]:
    """Draw the training images, stratified by class; all the others are the validation set."""
    digits = load_digits()
    image = (digits.images[:, np.newaxis] / 16).astype(np.float32)
    labels = digits.target.astype(np.int64)
    training, validation = train_test_split(
        np.arange(len(labels)), train_size=TRAINING_IMAGES, stratify=labels, random_state=seed
    )
    return Digits(image[training], labels[training]), Digits(image[validation], labels[validation])


def build_network() -> nn.Sequential:
    """Three convolutions and two linear layers, 21,898 parameters; the last layer returns logits."""
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, kernel_size=3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def train(data: Digits, seed: int) -> nn.Sequential:
    """Minimise the cross-entropy with SGD and momentum, and nothing else."""
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # the order of the sums, and so the weights, depends on the number of threads
    torch.manual_seed(seed)
    network = build_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    cross_entropy = nn.CrossEntropyLoss()
    image, labels = torch.from_numpy(data.image), torch.from_numpy(data.labels)
    for _ in range(EPOCHS):
        order = torch.randperm(len(labels))
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            optimizer.zero_grad()
            cross_entropy(network(image[batch]), labels[batch]).backward()
            optimizer.step()
    return network.eval()


def export(network: nn.Sequential) -> bytes:
    """Export to ONNX: input `image`, output `logits`, any batch size.

    This is the TorchScript exporter: the newer one writes stack traces, with the paths of the machine, into
    every node.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        file = Path(folder) / "digits.onnx"
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network,
            (torch.zeros(1, 1, 8, 8),),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )
        return file.read_bytes()


def run_onnx(model: bytes, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the logits, shape (N, 10), that onnxruntime computes."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"image": image})[0], dtype=np.float32)


def export_difference(network: nn.Sequential, logits: npt.NDArray[np.float32], image: npt.NDArray[np.float32]) -> float:
    """Return max |logits - torch's| / max(1, |torch's|)."""
    with torch.no_grad():
        expected = network(torch.from_numpy(image)).numpy()
    return float(np.max(np.abs(logits - expected) / np.maximum(1, np.abs(expected))))


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the class probabilities, in float64; shape (N, K) in and out."""
    z = logits.astype(np.float64)
    exponentials = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


if __name__ == "__main__":
    sys.exit(main())
