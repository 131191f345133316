"""Time `onnxcal patch` against a plain copy of the file, and take its peak memory.

What it does: makes a model with inline weights (a chain of Gemm nodes before a Softmax, random float32), then runs in
turns, as whole processes, (A) `cp` of the file and `sync` of the copy, and (B) `onnxcal patch`, which puts its file to
disk too. With `--peers` also (C) `onnx.load`, the same edit, `onnx.save`. What one run wrote is removed and flushed
before the next begins. Every file is removed in the end.

What it prints: median wall times, the ratio to (A), the largest resident memory of any process of the run, and
whether the project's limits are met. It reports and does not judge: the exit code is 0 either way.

It needs the space of three models, a POSIX system, and `sync` from coreutils; no network.

    python tools/bench_patch.py --size 1GB --runs 5
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from benchmarking import Limit, at_most, machine, positive

from onnxcal.graph import wire

WALL_RATIO_LIMIT = 1.5
"""Wall time of a patch, in units of copying the file and bringing the copy to disk."""
PEAK_MB_LIMIT = 100.0
"""Resident memory of a patch, at any size of the model."""

LAYERS = 4
CLASSES = 10
TEMPERATURE = 1.7
_MB = 10**6
_BLOCK_FLOATS = 1 << 18

_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = 7, 5, 9

_LOAD_EDIT_SAVE = """
import os, sys
import onnx

source, target, temperature = sys.argv[1:]
model = onnx.load(source)
graph = model.graph
graph.initializer.append(onnx.helper.make_tensor("temperature", onnx.TensorProto.FLOAT, [1], [float(temperature)]))
graph.node.insert(len(graph.node) - 1, onnx.helper.make_node("Div", ["logits", "temperature"], ["calibrated"]))
graph.node[-1].input[0] = "calibrated"
onnx.save(model, target)
with open(target, "rb") as file:
    os.fsync(file.fileno())
"""


@dataclass(frozen=True)
class Run:
    """One process from its start to its end."""

    seconds: float
    """Wall time."""
    peak_mb: float
    """Largest resident memory of it or a process it waited for, in MB of 10^6 bytes."""


@dataclass(frozen=True)
class Measured:
    """All runs of one command."""

    median_seconds: float
    """Median wall time."""
    ratio: float
    """`median_seconds` in units of that of cp and sync."""
    peak_mb: float
    """Largest `Run.peak_mb`."""
    seconds: tuple[float, ...]
    """Wall time of every run, in order."""


def main(argv: list[str] | None = None) -> int:
    """Make the model, run, and print what came out."""
    options = _parser().parse_args(argv)
    with workplace(options.folder) as folder:
        model = folder / "model.onnx"
        _in_other_process(model, options.size * _MB)
        size = model.stat().st_size
        runs = run_in_turns(commands(model, folder / "out.onnx", peers=options.peers), options.runs, folder)
    measured = {name: summary(done, runs["cp_sync"]) for name, done in runs.items()}
    patch = measured["patch"]
    limits = {
        "wall_ratio": at_most(patch.ratio, WALL_RATIO_LIMIT),
        "peak_mb": at_most(patch.peak_mb, PEAK_MB_LIMIT),
    }
    print_table(size, measured, limits)
    if options.json is not None:
        options.json.write_text(json.dumps(as_json(size, measured, limits), indent=2) + "\n")
    return 0


def megabytes(text: str) -> int:
    """`1GB`, `8MB`, or a number of MB.

    Raises
    ------
    argparse.ArgumentTypeError
        It is none of these, or less than 1 MB.
    """
    match = re.fullmatch(r"([0-9.]+)\s*(MB|GB)?", text.strip(), re.IGNORECASE)
    try:
        number = float(match[1]) if match else 0.0
    except ValueError:
        number = 0.0
    size = round(number * (1000 if match and (match[2] or "").upper() == "GB" else 1))
    if size < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no size of at least 1 MB: pass 1GB, 8MB, or a number of MB")
    return size


@contextmanager
def workplace(parent: Path | None) -> Iterator[Path]:
    """A new folder, removed with what is in it."""
    with tempfile.TemporaryDirectory(prefix="onnxcal-bench-", dir=parent) as folder:
        yield Path(folder).resolve()


def write_model(path: Path, size: int) -> None:
    """Write a classifier of about `size` bytes, never holding more than a block of its weights.

    Protobuf lets a message be written as several in a row: what stands before the weights and what stands after them
    are made by `onnx`, in the order in which `onnx.save` would write them, and the weights go between.
    """
    from onnx import GraphProto, ModelProto, OperatorSetIdProto, TensorProto, helper

    width = max(CLASSES, round((size / (4 * LAYERS)) ** 0.5))
    names = [*(f"hidden{k}" for k in range(LAYERS)), "logits"]
    shapes = {f"{name}.weight": (width, width) for name in names[:-1]} | {"logits.weight": (width, CLASSES)}
    nodes = [
        helper.make_node("Gemm", [source, f"{target}.weight"], [target], name=target)
        for source, target in zip(["x", *names], names, strict=False)
    ]
    nodes.append(helper.make_node("Softmax", ["logits"], ["probs"], name="softmax", axis=1))
    before = GraphProto(node=nodes, name="bench").SerializeToString()
    after = GraphProto(
        input=[helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", width])],
        output=[helper.make_tensor_value_info("probs", TensorProto.FLOAT, ["N", CLASSES])],
    ).SerializeToString()
    openings = []
    for name, shape in shapes.items():
        raw = 4 * shape[0] * shape[1]
        header = TensorProto(dims=shape, data_type=TensorProto.FLOAT, name=name).SerializeToString()
        header += _opening(_TENSOR_RAW_DATA, raw)
        openings.append((_opening(_GRAPH_INITIALIZER, len(header) + raw) + header, raw))
    graph = len(before) + sum(len(opening) + raw for opening, raw in openings) + len(after)

    with open(path, "wb") as file:
        file.write(ModelProto(ir_version=8, producer_name="bench_patch").SerializeToString())
        file.write(_opening(_MODEL_GRAPH, graph) + before)
        for opening, raw in openings:
            file.write(opening)
            _write_weights(file, raw)
        file.write(after)
        file.write(ModelProto(opset_import=[OperatorSetIdProto(domain="", version=17)]).SerializeToString())
        file.flush()
        os.fsync(file.fileno())


def _write_weights(file: BinaryIO, size: int) -> None:
    """Append `size` bytes of float32 weights, the same ones over and over."""
    import numpy as np

    block = np.random.default_rng(0).normal(scale=0.02, size=_BLOCK_FLOATS).astype("<f4").tobytes()
    for left in range(size, 0, -len(block)):
        file.write(block[:left])


def commands(model: Path, out: Path, *, peers: bool) -> dict[str, list[str]]:
    """What is compared, by name; each reads `model` and leaves `out`, on disk."""
    python = sys.executable
    made = {
        "cp_sync": ["sh", "-c", 'cp "$1" "$2" && sync "$2"', "sh", str(model), str(out)],
        "patch": [
            *(python, "-m", "onnxcal", "patch", str(model)),
            *("--temperature", str(TEMPERATURE), "-o", str(out), "--force", "--quiet"),
        ],
    }
    if peers:
        made["onnx_load_save"] = [python, "-c", _LOAD_EDIT_SAVE, str(model), str(out), str(TEMPERATURE)]
    return made


def run_in_turns(compared: dict[str, list[str]], rounds: int, folder: Path) -> dict[str, list[Run]]:
    """A B A B …, so that a slow minute of the machine falls on all alike; one round before them is not counted."""
    runs: dict[str, list[Run]] = {name: [] for name in compared}
    for number in range(rounds + 1):
        for name, command in compared.items():
            (folder / "out.onnx").unlink(missing_ok=True)
            os.sync()
            run = measure(name, command, folder)
            if number > 0:
                runs[name].append(run)
    return runs


def measure(name: str, command: Sequence[str], folder: Path) -> Run:
    """Run a process to its end.

    Python code is compiled in the round that is not counted, as it is when a package is installed; a checkout's code
    may be compiled anew at every start.

    Linux counts into a child's peak what its parent held when it was forked: this process must stay small, and
    imports neither numpy nor onnx.

    Raises
    ------
    SystemExit
        The command failed.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"bench_patch: {name} exited with {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Run(seconds, usage.ru_maxrss * unit / _MB)


def summary(runs: Sequence[Run], baseline: Sequence[Run]) -> Measured:
    """All runs of one command, in units of the baseline's."""
    median = statistics.median(run.seconds for run in runs)
    return Measured(
        median_seconds=median,
        ratio=median / statistics.median(run.seconds for run in baseline),
        peak_mb=max(run.peak_mb for run in runs),
        seconds=tuple(run.seconds for run in runs),
    )


def as_json(size: int, measured: dict[str, Measured], limits: dict[str, Limit]) -> dict[str, Any]:
    """Everything measured, and on what."""
    return {
        **machine(),
        "model_bytes": size,
        "runs": len(measured["patch"].seconds),
        "measured": {name: asdict(entry) for name, entry in measured.items()},
        "limits": {name: asdict(entry) for name, entry in limits.items()},
    }


def print_table(size: int, measured: dict[str, Measured], limits: dict[str, Limit]) -> None:
    """One line a command, one line a limit."""
    titles = {"cp_sync": "cp + sync", "patch": "onnxcal patch", "onnx_load_save": "onnx load, edit, save"}
    print(f"model of {size / _MB:,.0f} MB, median of {len(measured['patch'].seconds)}, {os.cpu_count()} CPUs\n")
    print(f"{'':24}{'wall s':>8}{'ratio':>8}{'peak MB':>10}   min to max s")
    for name, entry in measured.items():
        spread = f"{min(entry.seconds):.2f} to {max(entry.seconds):.2f}"
        print(f"{titles[name]:24}{entry.median_seconds:8.2f}{entry.ratio:8.2f}{entry.peak_mb:10.1f}   {spread}")
    print()
    wall, peak = limits["wall_ratio"], limits["peak_mb"]
    print(f"wall time at most {wall.limit:g}x cp + sync: {wall.verdict} ({wall.value:.2f}x)")
    print(f"peak memory under {peak.limit:g} MB: {peak.verdict} ({peak.value:.1f} MB)")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Time `onnxcal patch` against cp + sync, and take its peak memory.")
    parser.add_argument("--size", type=megabytes, default="1GB", metavar="SIZE", help="of the model (default: 1GB)")
    parser.add_argument("--runs", type=positive, default=5, metavar="N", help="of each command (default: 5)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where to work (default: a temporary folder)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    parser.add_argument("--peers", action="store_true", help="also time onnx.load, the same edit, onnx.save")
    return parser


def _in_other_process(path: Path, size: int) -> None:
    """`write_model` elsewhere, so that this process stays small."""
    process = multiprocessing.get_context("spawn").Process(target=write_model, args=(path, size))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise SystemExit("bench_patch: the model could not be made")


def _opening(number: int, length: int) -> bytes:
    """Tag and length of a field whose bytes follow."""
    return wire.tag(number, wire.BYTES) + wire.varint(length)


if __name__ == "__main__":
    sys.exit(main())
