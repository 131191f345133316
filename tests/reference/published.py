"""The published logit sets, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SETS = (
    "densenet40_cifar10",
    "densenet_bc100_cifar100",
    "cleanlab_imdb_k2",
    "cleanlab_imdb_sigmoid",
    "verified_vgg16_cifar10",
    "akamaster_resnet20_png1000",
    "mnist_ccoltong_lenet_norm",
)


def load(folder: Path, name: str, split: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Logits and labels of the `val` or `test` split."""
    with np.load(folder / f"{name}.npz") as arrays:
        return arrays[f"{split}_logits"], arrays[f"{split}_labels"]
