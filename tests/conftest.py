"""Fixtures that several rooms use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def published() -> Path:
    """The folder with published networks' logits, images and models; tests that need it are skipped without it."""
    if not (PUBLISHED / "expected.json").exists():
        pytest.skip("the published logits are not here")
    return PUBLISHED


@pytest.fixture(scope="session")
def expected(published: Path) -> dict[str, Any]:
    """Figures for the published logits, computed in float64 by code that is not part of this project."""
    loaded: dict[str, Any] = json.loads((published / "expected.json").read_text())
    return loaded


@pytest.fixture(scope="session")
def cifar_images(published: Path) -> tuple[np.ndarray, np.ndarray]:
    """1,000 CIFAR-10 test images as ResNet-20 wants them, and their labels."""
    data = np.load(published / "images_cifar10_test1000.npz")
    x = (data["x"] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return x.transpose(0, 3, 1, 2).astype(np.float32), data["y"]


@pytest.fixture(scope="session")
def mnist_images(published: Path) -> tuple[np.ndarray, np.ndarray]:
    """10,000 MNIST test images as the LeNet wants them, and their labels."""
    data = np.load(published / "images_mnist_t10k.npz")
    return ((data["x"] / 255 - 0.1307) / 0.3081).astype(np.float32)[:, None], data["y"]


@pytest.fixture(scope="session")
def demo_data() -> Path:
    """The folder with the bundled network and its validation set."""
    return Path(__file__).resolve().parents[1] / "onnxcal" / "demo_data"


class Cli:
    """The command line, in this process: exit code, stdout and stderr as a shell would see them."""

    def __call__(self, *args: object) -> Result:
        from onnxcal.cli import main

        runner = CliRunner()
        with runner.isolation() as (out, err, _):
            import sys

            argv, sys.argv = sys.argv, ["onnxcal", *map(str, args)]
            code = 0
            try:
                main()
            except SystemExit as error:
                code = int(error.code or 0)
            finally:
                sys.argv = argv
            sys.stdout.flush()
            sys.stderr.flush()
            stdout, stderr = out.getvalue(), err.getvalue()
        return Result(runner, stdout, stderr, stdout + stderr, None, code, None)


@pytest.fixture
def cli() -> Cli:
    """Call it with the words of a command line."""
    return Cli()
