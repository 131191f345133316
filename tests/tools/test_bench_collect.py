"""The benchmark of collecting runs and reports what it says it does; no time is asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "bench_collect.py"


def test_reports_both_sides_of_every_case(tmp_path: Path) -> None:
    report = tmp_path / "collect.json"
    command = [sys.executable, str(SCRIPT), "--quick", "--threads", "1", "--json", str(report)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    read = json.loads(report.read_text())
    assert {"onnxcal", "onnxruntime", "python", "cpus", "rounds", "threads"} <= read.keys()
    titles = [
        "image network, batch 64", "tiny MLP, batch 1", "tiny MLP, batch 256", "tiny MLP, list of batch 1",
        "tiny MLP, list of batch 256",
    ]  # fmt: skip
    assert list(read["measured"]) == list(read["limits"]) == titles
    for title, measured in read["measured"].items():
        assert title in done.stdout
        assert measured["batches"] >= 2
        assert measured["bare_setup_ms"] > 0
        assert measured["collect_setup_ms"] > 0
        assert read["limits"][title]["limit"] == 1.05
        assert read["limits"][title]["value"] == measured["ratio"]
