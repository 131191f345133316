"""The benchmark of starting runs and reports what it says it does; no time is asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "bench_start.py"


def test_reports_every_command_and_both_promises(tmp_path: Path) -> None:
    report = tmp_path / "start.json"
    command = [sys.executable, str(SCRIPT), "--runs", "1", "--json", str(report)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    read = json.loads(report.read_text())
    titles = ["pass", "--help", "--version", "import onnx", "cp", "patch"]
    assert list(read["measured"]) == titles
    assert all(title in done.stdout for title in titles)
    measured = {title: read["measured"][title]["cpu_ms"] for title in titles}
    limits = {title: limit["value"] for title, limit in read["limits"].items()}
    assert limits["--help / pass"] == measured["--help"] / measured["pass"]
    assert limits["patch / (import onnx + cp)"] == measured["patch"] / (measured["import onnx"] + measured["cp"])
    assert [limit["limit"] for limit in read["limits"].values()] == [6, 6, 1]
