"""Small networks on digits, trained for a moment, and loaders of the kinds that people have."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.converters import three_labels

Tail = Callable[[Tensor], Any]


class Network(nn.Module):
    """Everything that behaves otherwise in training, and whatever stands behind the logits."""

    def __init__(self, outputs: int, tail: Tail = lambda z: z) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.dropout = nn.Dropout(0.3)
        self.linear = nn.Linear(216, outputs)
        self.tail = tail

    def logits(self, image: Tensor) -> Tensor:
        features = torch.relu(self.norm(self.convolution(image))).flatten(1)
        return self.linear(self.dropout(features))

    def forward(self, image: Tensor) -> Any:
        return self.tail(self.logits(image))


@cache
def images() -> Tensor:
    return torch.tensor(load_digits().images[:, None] / 16, dtype=torch.float32)


@cache
def targets(kind: str) -> Tensor:
    """Digits, whether they are odd, or three labels."""
    y = load_digits().target
    made = {"digit": lambda: y, "odd": lambda: (y % 2)[:, None], "three labels": lambda: three_labels(y)}[kind]()
    return torch.tensor(made)


@cache
def state(kind: str) -> dict[str, Tensor]:
    """The weights of a network that knows something, sure of itself, from a second of training."""
    torch.manual_seed(0)
    made = Network(targets(kind).reshape(len(images()), -1).shape[1] if kind != "digit" else 10)
    x, y = images()[:200], targets(kind)[:200]
    loss = nn.functional.cross_entropy if kind == "digit" else nn.functional.binary_cross_entropy_with_logits
    optimizer = torch.optim.Adam(made.parameters(), 5e-3)
    for _ in range(120):
        batch = torch.randint(len(x), (64,))
        optimizer.zero_grad()
        loss(made(x[batch]), y[batch] if kind == "digit" else y[batch].float()).backward()
        optimizer.step()
    return made.state_dict()


def network(kind: str = "digit", tail: Tail = lambda z: z) -> Network:
    """A fresh copy, in training mode, as it comes out of a training loop."""
    weights = state(kind)
    made = Network(len(weights["linear.bias"]), tail)
    made.load_state_dict(weights)
    return made


def loader(kind: str = "digit", batch_size: int = 100) -> DataLoader[Any]:
    """What the network was not trained on."""
    return DataLoader(TensorDataset(images()[200:], targets(kind)[200:]), batch_size=batch_size)


def torch_logits(made: Network) -> Tensor:
    """What torch computes for the loader's images."""
    made.eval()
    with torch.no_grad():
        return made.logits(images()[200:])
