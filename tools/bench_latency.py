"""What the patch costs at run time: one model as logits, with Softmax, and calibrated, timed in turns in one process.

    python tools/bench_latency.py [MODEL.onnx] [--batch 1] [--rounds 400] [--json FILE]

MODEL has one float32 input and logits as its output; without one, a small network is made. All are run by onnxruntime
on one thread. Medians, and an interval of each difference to "Softmax" by the sign test: the order statistics between
which the median of the paired differences lies with 95 % probability.
"""

from __future__ import annotations

import argparse
import inspect
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from benchmarking import machine, positive
from medians import in_turns
from onnx import TensorProto, helper, numpy_helper

import onnxcal

T = 1.7
BASELINE = "Softmax"


@dataclass(frozen=True)
class Latency:
    """One form of the model."""

    name: str
    """Which."""
    median: float
    """Seconds a run."""
    low: float
    """Of the median difference to the baseline, seconds: the lower end of its interval."""
    difference: float
    """That median."""
    high: float
    """The upper end."""


def network(features: int = 256, hidden: int = 512, classes: int = 100) -> onnx.ModelProto:
    """Three layers with random weights, logits out."""
    rng = np.random.default_rng(0)
    sizes = [features, hidden, hidden, classes]
    nodes, weights = [], []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        w = (rng.normal(size=(fan_in, fan_out)) / np.sqrt(fan_in)).astype(np.float32)
        weights += [
            numpy_helper.from_array(w, f"w{i}"),
            numpy_helper.from_array(np.zeros(fan_out, np.float32), f"b{i}"),
        ]
        last = i == len(sizes) - 2
        result = "logits" if last else f"h{i}"
        nodes.append(helper.make_node("Gemm", [f"x{i}" if i else "x", f"w{i}", f"b{i}"], [result], name=f"fc{i}"))
        if not last:
            nodes.append(helper.make_node("Relu", [result], [f"x{i + 1}"], name=f"relu{i}"))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", features])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    return made


def with_softmax(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a Softmax at its end and no temperature."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    name = made.graph.output[0].name
    made.graph.node.append(helper.make_node("Softmax", [name], ["probabilities"], axis=1, name="softmax"))
    made.graph.output[0].name = "probabilities"
    return made


def forms(model: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    """The model in every form that is compared."""
    calibrated = onnxcal.patch(model, temperature=T).proto
    assert calibrated is not None
    compared = {"logits": model, BASELINE: with_softmax(model), "calibrated": calibrated}
    if "fold" in inspect.signature(onnxcal.patch).parameters:
        folded = onnxcal.patch(model, temperature=T, **{"fold": True}).proto
        assert folded is not None
        compared["calibrated, folded"] = folded
    return compared


def runner(model: onnx.ModelProto, batch: int) -> Callable[[], object]:
    """A run of the model on random inputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    feeds = {}
    for value in session.get_inputs():
        shape = [batch if i == 0 else int(size) for i, size in enumerate(value.shape)]
        feeds[value.name] = rng.normal(size=shape).astype(np.float32)
    return lambda: session.run(None, feeds)


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the median, whatever the distribution: order statistics by the normal form of the sign test."""
    ordered, n = sorted(differences), len(differences)
    half = 0.98 * np.sqrt(n)  # 1.96 standard deviations of a binomial with p = 1/2
    return ordered[max(0, int(np.floor(n / 2 - half)))], ordered[min(n - 1, int(np.ceil(n / 2 + half)))]


def measure(model: onnx.ModelProto, batch: int, rounds: int) -> list[Latency]:
    """Every form, in turns."""
    seconds = in_turns({name: runner(form, batch) for name, form in forms(model).items()}, rounds)
    found = []
    for name, times in seconds.items():
        differences = [one - other for one, other in zip(times, seconds[BASELINE], strict=True)]
        low, high = interval(differences)
        found.append(Latency(name, statistics.median(times), low, statistics.median(differences), high))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path, help="a model with logits as its output; default: one made here")
    parser.add_argument("--batch", type=positive, default=1, help="samples a run")
    parser.add_argument("--rounds", type=positive, default=400, help="runs of each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    chosen = parser.parse_args()
    model = network() if chosen.model is None else onnx.ModelProto.FromString(chosen.model.read_bytes())
    found = measure(model, chosen.batch, chosen.rounds)
    if chosen.json is not None:
        figures = {"machine": machine(), "batch": chosen.batch, "latency": [asdict(one) for one in found]}
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"{'':<20} {'median':>10}   more than {BASELINE} alone, 95 % interval")
    for one in found:
        print(
            f"{one.name:<20} {1e6 * one.median:>7.1f} µs   {1e6 * one.difference:+.2f} µs "
            f"[{1e6 * one.low:+.2f}, {1e6 * one.high:+.2f}]"
        )


if __name__ == "__main__":
    main()
