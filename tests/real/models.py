"""Where the files are that `tools/fetch_models.py` fetched. Nothing is fetched here."""

from __future__ import annotations

import os
from pathlib import Path

import onnxruntime
import pytest

FOLDER = Path(os.environ.get("ONNXCAL_MODELS") or Path(__file__).resolve().parents[2] / ".models")

IRIS = "onnxruntime/logreg_iris.onnx"
"""The one that onnxruntime itself brings."""


def fetched(name: str) -> Path:
    """The file of a package, by `package/file`; the test is skipped where it is not there."""
    path = FOLDER / name
    if name == IRIS:
        path = Path(onnxruntime.__file__).parent / "datasets" / "logreg_iris.onnx"
    if not path.is_file() and not FOLDER.is_dir():
        pytest.skip(
            f"there is no {FOLDER}: python tools/fetch_models.py makes it"
        )  # one reason, one line of the report
    if not path.is_file():
        pytest.skip(f"{name} is not in {FOLDER}: python tools/fetch_models.py fetches it")
    return path
