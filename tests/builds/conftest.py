"""A project: a folder with an onnxcal.toml, a model and its data, whose names have blanks and letters beyond ASCII."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import builders

TOML = """
[defaults]
data = "val data.npz"
bootstrap = 0

[targets."ü"]
model = "größe 1.onnx"
output = "out put/ü.onnx"
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of this test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    folder = tmp_path / "ein Ordner ö"
    (folder / "out put").mkdir(parents=True)
    monkeypatch.chdir(folder)
    builders.save(builders.classifier([builders.softmax()], output="probs"), folder / "größe 1.onnx")
    write_data(folder / "val data.npz")
    write_toml(TOML)
    return folder


def write_toml(text: str) -> None:
    Path("onnxcal.toml").write_text(text, encoding="utf-8")


def write_data(path: Path, n: int = 200, seed: int = 1) -> None:
    x, y = builders.labelled_data(n, seed=seed)
    np.savez(path, x=x, labels=y)


def contents(folder: Path) -> dict[str, Any]:
    """Every file below a folder, hidden ones too, with its time of writing."""
    found = [Path(place) / name for place, _, names in os.walk(folder) for name in names]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}
