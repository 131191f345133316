"""Patched models run in an onnxruntime of years ago, in an environment of its own that `.ci/run` makes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxcal
from tests import builders
from tests.inference.runtimes.test_graphs import GRAPHS, T, logits_of

PYTHON = Path(os.environ.get("ONNXCAL_OLD_PYTHON") or Path(__file__).resolve().parents[3] / ".venv-old/bin/python")
PROGRAM = """
import sys, numpy, onnxruntime
for name in sys.argv[1:]:
    session = onnxruntime.InferenceSession(name + ".onnx", providers=["CPUExecutionProvider"])
    numpy.save(name + ".y.npy", session.run(None, {"x": numpy.load(name + ".x.npy")})[0])
print(onnxruntime.__version__)
"""


def test_patched_models_are_right_in_an_old_onnxruntime(tmp_path: Path) -> None:
    if not PYTHON.exists():
        pytest.skip(f"there is no {PYTHON}: a virtual environment with an old onnxruntime (.ci/run makes one)")
    expected = {}
    for number, (name, graph) in enumerate(GRAPHS.items()):
        model: onnx.ModelProto = graph.model()
        stem = str(number)
        builders.save(model, tmp_path / "original.onnx")
        onnxcal.patch(tmp_path / "original.onnx", temperature=T, output=tmp_path / f"{stem}.onnx", force=True)
        np.save(tmp_path / f"{stem}.x.npy", graph.x)
        expected[stem] = (name, graph.expected(logits_of(model, graph.x)), graph.tolerance)
    done = subprocess.run([PYTHON, "-c", PROGRAM, *expected], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert tuple(map(int, done.stdout.strip().split(".")[:2])) < (1, 20)
    for stem, (name, values, tolerance) in expected.items():
        found = np.load(tmp_path / f"{stem}.y.npy")
        np.testing.assert_allclose(found, values, rtol=0, atol=tolerance, err_msg=name)
