"""Time how soon the command line is there: whole processes, in turns.

What it does: makes a model of 10 MB with random weights, then runs, in turns, `python -c pass`, `onnxcal --help`,
`onnxcal --version`, `python -c 'import onnx'`, `cp` of the model, and `onnxcal patch --temperature`, each in a process
of its own with its output in a pipe.

What it prints: median wall and processor times and the ratios that the project promises: `--help` and `--version` in
units of `python -c pass`, and `patch` in units of `import onnx` plus `cp`. It reports and does not judge: the exit code
is 0 either way. Ratios are of processor times, for on a busy machine wall times say little.

    python tools/bench_start.py --runs 15
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarking import Limit, at_most, machine, positive

HELP_LIMIT = 6.0
"""Processor time of `--help` and `--version`, in units of `python -c pass`."""
PATCH_LIMIT = 1.0
"""Processor time of `patch --temperature`, in units of `import onnx` plus `cp`."""
FEATURES = 1580


@dataclass(frozen=True)
class Start:
    """All runs of one command."""

    wall_ms: float
    """Median wall time."""
    cpu_ms: float
    """Median processor time, of the process and its threads."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run, and print what came out."""
    options = _parser().parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="onnxcal-bench-") as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-c", _MAKE_MODEL, str(folder / "m.onnx"), str(FEATURES)], check=True)
        found = run_in_turns(commands(), options.runs, folder)
    limits = limits_of(found)
    for title, start in found.items():
        print(f"{title:<24}{start.wall_ms:9.1f} ms wall {start.cpu_ms:9.1f} ms processor")
    for title, limit in limits.items():
        print(f"{title}: {limit.value:.2f} (limit {limit.limit:g}, {limit.verdict})")
    if options.json is not None:
        document = {
            "machine": machine(),
            "measured": {title: asdict(start) for title, start in found.items()},
            "limits": {title: asdict(limit) for title, limit in limits.items()},
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0


def commands() -> dict[str, list[str]]:
    """What is timed, by title."""
    python, ours = [sys.executable, "-c"], [sys.executable, "-m", "onnxcal"]
    return {
        "pass": [*python, "pass"],
        "--help": [*ours, "--help"],
        "--version": [*ours, "--version"],
        "import onnx": [*python, "import onnx"],
        "cp": ["cp", "m.onnx", "copy.onnx"],
        "patch": [*ours, "patch", "m.onnx", "--temperature", "1.7", "-o", "out.onnx"],
    }


def run_in_turns(compared: dict[str, list[str]], runs: int, folder: Path) -> dict[str, Start]:
    """Every command as often; one round before them, which also fills the caches of bytecode, is not counted."""
    wall: dict[str, list[float]] = {title: [] for title in compared}
    cpu: dict[str, list[float]] = {title: [] for title in compared}
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    for number in range(runs + 1):
        for title, command in compared.items():
            for made in ("copy.onnx", "out.onnx"):
                (folder / made).unlink(missing_ok=True)
            before, start = _processor_seconds(), time.perf_counter()
            subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, check=True)
            seconds = time.perf_counter() - start
            if number > 0:
                wall[title].append(seconds)
                cpu[title].append(_processor_seconds() - before)
    return {t: Start(1000 * statistics.median(wall[t]), 1000 * statistics.median(cpu[t])) for t in compared}


def limits_of(found: dict[str, Start]) -> dict[str, Limit]:
    """The promises."""
    base = found["pass"].cpu_ms
    return {
        "--help / pass": at_most(found["--help"].cpu_ms / base, HELP_LIMIT),
        "--version / pass": at_most(found["--version"].cpu_ms / base, HELP_LIMIT),
        "patch / (import onnx + cp)": at_most(
            found["patch"].cpu_ms / (found["import onnx"].cpu_ms + found["cp"].cpu_ms), PATCH_LIMIT
        ),
    }


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


_MAKE_MODEL = """
import sys
import numpy as np
from onnx import helper, numpy_helper, TensorProto

path, n = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(0)
weights = [numpy_helper.from_array(rng.normal(size=s).astype("float32"), k) for k, s in (("v", (n, n)), ("w", (n, 10)))]
nodes = [
    helper.make_node("MatMul", ["x", "v"], ["h"]),
    helper.make_node("MatMul", ["h", "w"], ["logits"]),
    helper.make_node("Softmax", ["logits"], ["probs"], axis=-1),
]
ends = [[helper.make_tensor_value_info(k, TensorProto.FLOAT, ["N", s])] for k, s in (("x", n), ("probs", 10))]
graph = helper.make_graph(nodes, "linear", *ends, weights)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
open(path, "wb").write(model.SerializeToString())
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--runs", type=positive, default=15, metavar="N", help="rounds that are counted")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured as JSON too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
