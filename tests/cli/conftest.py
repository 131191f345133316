"""A folder with a model, its data, and the files that the commands make of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxcal
from tests import builders

X, Y = builders.labelled_data(200)
MODEL = builders.classifier([builders.softmax()], output="probs")

Shell = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: m.onnx, d.npz (x, labels), x.npy, y.npy, z.npz (logits, labels) and the patched p.onnx."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    builders.save(MODEL, folder / "m.onnx")
    np.savez(folder / "d.npz", x=X, labels=Y)
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", Y)
    found = onnxcal.collect_logits(MODEL, (X, Y))
    np.savez(folder / "z.npz", logits=found.values, labels=found.labels)
    onnxcal.patch(folder / "m.onnx", temperature=2.0, output=folder / "p.onnx")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def shell(work: Path) -> Shell:
    """A process of its own in that folder."""

    def run(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **options.pop("env", {})}
        return subprocess.run(
            [sys.executable, "-m", "onnxcal", *map(str, words)],
            cwd=work, env=env, text=True, timeout=60, check=False,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )  # fmt: skip

    return run
