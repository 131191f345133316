"""The benchmark runs, cleans up, and reports what it says it does; no time is asserted."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import bench_patch
import numpy as np
import onnx
import onnxruntime
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "bench_patch.py"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="measures with wait4, cp and sync")


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


def test_reports_times_memory_and_limits(tmp_path: Path) -> None:
    folder, report = tmp_path / "work", tmp_path / "bench.json"
    folder.mkdir()
    done = run("--size", "8MB", "--runs", "1", "--folder", folder, "--json", report, "--peers")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for line in ("cp + sync", "onnxcal patch", "onnx load, edit, save", "wall time at most 1.5x", "under 100 MB"):
        assert line in done.stdout

    read = json.loads(report.read_text())
    assert abs(read["model_bytes"] - 8_000_000) < 100_000
    assert set(read["measured"]) == {"cp_sync", "patch", "onnx_load_save"}
    for measured in read["measured"].values():
        assert len(measured["seconds"]) == read["runs"] == 1
        assert measured["median_seconds"] > 0
        assert measured["peak_mb"] > 0
    patch = read["measured"]["patch"]
    assert read["measured"]["cp_sync"]["ratio"] == 1
    assert read["limits"]["wall_ratio"] == {"value": patch["ratio"], "limit": 1.5, "met": patch["ratio"] <= 1.5}
    assert read["limits"]["peak_mb"] == {"value": patch["peak_mb"], "limit": 100, "met": patch["peak_mb"] < 100}
    assert list(folder.iterdir()) == []


def test_a_failing_command_is_reported_and_leaves_no_files(tmp_path: Path) -> None:
    folder, programs = tmp_path / "work", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    (programs / "sync").write_text("#!/bin/sh\nexit 3\n")
    (programs / "sync").chmod(0o755)
    done = run("--size", "1MB", "--runs", "1", "--folder", folder, PATH=f"{programs}{os.pathsep}{os.environ['PATH']}")
    assert done.returncode == 1
    assert done.stderr == "bench_patch: cp_sync exited with 3\n"
    assert list(folder.iterdir()) == []


def test_the_model_is_a_classifier_that_runs(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    bench_patch.write_model(path, 2_000_000)
    assert abs(path.stat().st_size - 2_000_000) < 50_000
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (x,) = session.get_inputs()
    (p,) = session.run(None, {"x": np.ones((3, x.shape[1]), np.float32)})
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)


def test_the_measuring_process_imports_nothing_large() -> None:
    code = "import bench_patch, sys; print(sorted({'numpy', 'onnx'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPT.parent, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(("text", "size"), [("1GB", 1000), ("8MB", 8), ("1.5gb", 1500), ("64", 64)])
def test_sizes_are_in_megabytes(text: str, size: int) -> None:
    assert bench_patch.megabytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "8KB", "1.2.3", "-4", "."])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no size"):
        bench_patch.megabytes(text)
