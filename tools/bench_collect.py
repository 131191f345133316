"""Time `onnxcal.collect_logits` against a bare loop of onnxruntime's `session.run` on the same batches.

What it does: makes a ResNet-20 for 32×32 images and a tiny MLP, both with a Softmax at the end and random weights
(time does not depend on them), then runs in turns, in one process, (A) a loop of `session.run(None, feed)` over feeds
that are made before, results dropped, and (B) `collect_logits`, which slices, checks, hashes, runs, checks what comes
out, and keeps it. Arrays in memory are passed whole, and also as a list of `(inputs, labels)` batches of one sample.

Set-up is on both sides and is taken apart: (A) makes a session, (B) reads the model, finds its head and makes a
session. The time of the streaming is that of all batches less that of the first batch alone, on either side, each with
its own set-up.

What it prints: the median microseconds a batch of (A) and (B), the ratio, and what set-up costs. It reports and does
not judge: the exit code is 0 either way. No network.

    python tools/bench_collect.py --rounds 9
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from benchmarking import at_most, machine, positive
from medians import in_turns, median_ratio
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import onnxcal
from onnxcal.graph.inspect import input_names
from onnxcal.graph.modelfile import ModelLike, open_model

RATIO_LIMIT = 1.05
"""Streaming, in units of a bare loop of `session.run`."""
CLASSES = 10
FEATURES, HIDDEN = 32, 64
RESNET_BLOCKS, RESNET_WIDTHS = 3, (16, 32, 64)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """A model, and how it is fed."""

    title: str
    """What it is called in the table."""
    model: ModelLike
    """The model."""
    shape: tuple[int, ...]
    """Of one sample."""
    batch: int
    """Samples a run."""
    batches: int
    """Runs."""
    as_list: bool = False
    """Pass a list of batches instead of whole arrays."""


@dataclass(frozen=True)
class Measured:
    """One case."""

    batch: int
    """Samples a run."""
    batches: int
    """Runs."""
    bare_us: float
    """Median microseconds a batch of the bare loop."""
    collect_us: float
    """Median microseconds a batch of `collect_logits`."""
    ratio: float
    """Median of the rounds' ratios."""
    bare_setup_ms: float
    """Median milliseconds to make a session and run the first batch."""
    collect_setup_ms: float
    """Median milliseconds of `collect_logits` with the first batch alone."""


def main(argv: list[str] | None = None) -> int:
    """Make the models, run, and print what came out."""
    options = _parser().parse_args(argv)
    share = 50 if options.quick else 1
    rounds = 1 if options.quick else options.rounds
    print(f"median of {rounds}, threads {options.threads or 'default'}, onnxruntime {onnxruntime.__version__}\n")
    print(f"{'':28}{'bare us':>10}{'collect us':>12}{'ratio':>8}{'set-up ms: bare':>18}{'collect':>9}")
    measured = {}
    for case in cases(options.model, share):
        done = measured[case.title] = measure(case, rounds, options.threads)
        print(
            f"{case.title:28}{done.bare_us:10.1f}{done.collect_us:12.1f}{done.ratio:8.3f}"
            f"{done.bare_setup_ms:18.1f}{done.collect_setup_ms:9.1f}",
            flush=True,
        )
    limits = {title: at_most(done.ratio, RATIO_LIMIT) for title, done in measured.items()}
    print()
    for title, limit in limits.items():
        print(f"{title}: at most {limit.limit:g}x a bare loop: {limit.verdict} ({limit.value:.3f}x)")
    if options.json is not None:
        report = {
            **machine(),
            "onnxruntime": onnxruntime.__version__,
            "rounds": rounds,
            "threads": options.threads,
            "measured": {title: asdict(entry) for title, entry in measured.items()},
            "limits": {title: asdict(entry) for title, entry in limits.items()},
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def cases(image_model: Path | None, share: int) -> list[Case]:
    """What is timed; 1/`share` of the batches."""
    images = resnet() if image_model is None else image_model
    tiny = mlp()
    return [
        Case("image network, batch 64", images, (3, 32, 32), 64, max(2, 12 // share)),
        Case("tiny MLP, batch 1", tiny, (FEATURES,), 1, 20_000 // share),
        Case("tiny MLP, batch 256", tiny, (FEATURES,), 256, 2_000 // share),
        Case("tiny MLP, list of batch 1", tiny, (FEATURES,), 1, 20_000 // share, as_list=True),
        Case("tiny MLP, list of batch 256", tiny, (FEATURES,), 256, 2_000 // share, as_list=True),
    ]


def measure(case: Case, rounds: int, threads: int | None) -> Measured:
    """Both sides in turns, over all batches and over the first alone."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(case.batch * case.batches, *case.shape)).astype(np.float32)
    y = rng.integers(0, CLASSES, len(x))
    (name,) = input_names(open_model(case.model))
    starts = range(0, len(x), case.batch)
    feeds = [{name: x[start : start + case.batch]} for start in starts]
    pairs = [(x[start : start + case.batch], y[start : start + case.batch]) for start in starts]
    collect = partial(onnxcal.collect_logits, case.model, batch_size=case.batch, threads=threads)
    first, everything = (pairs[:1], pairs) if case.as_list else (pairs[0], (x, y))
    compared: dict[str, Callable[[], object]] = {
        "bare": partial(bare, case.model, feeds, threads),
        "collect": partial(collect, everything),
        "bare_setup": partial(bare, case.model, feeds[:1], threads),
        "collect_setup": partial(collect, first),
    }
    seconds = in_turns(compared, rounds)
    # The set-up's median, not that of the same round: its noise is not to be counted twice.
    setup = {side: statistics.median(seconds[f"{side}_setup"]) for side in ("bare", "collect")}
    streaming = {side: [one - setup[side] for one in seconds[side]] for side in ("bare", "collect")}
    per_batch = {side: 1e6 * statistics.median(runs) / (case.batches - 1) for side, runs in streaming.items()}
    return Measured(
        batch=case.batch,
        batches=case.batches,
        bare_us=per_batch["bare"],
        collect_us=per_batch["collect"],
        ratio=median_ratio(streaming["collect"], streaming["bare"]),
        bare_setup_ms=1e3 * setup["bare"],
        collect_setup_ms=1e3 * setup["collect"],
    )


def bare(model: ModelLike, feeds: Sequence[dict[str, Floats]], threads: int | None) -> None:
    """The limit: a session, and nothing but its runs."""
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(open_model(model).to_bytes(), options, providers=["CPUExecutionProvider"])
    for feed in feeds:
        session.run(None, feed)


class _Weights:
    """Random weights of a model that is being made."""

    def __init__(self) -> None:
        self.tensors: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(0)

    def new(self, *shape: int) -> str:
        """The name of a new one, scaled so that activations stay about as large as they are."""
        name = f"w{len(self.tensors)}"
        fan_in = int(np.prod(shape[1:])) if len(shape) == 4 else shape[0]
        values = (self._rng.normal(size=shape) * (2 / fan_in) ** 0.5).astype(np.float32)
        self.tensors.append(numpy_helper.from_array(values, name))
        return name


def mlp() -> onnx.ModelProto:
    """Two layers and a Softmax, with a free batch axis."""
    weights = _Weights()
    nodes = [
        helper.make_node("Gemm", ["x", weights.new(FEATURES, HIDDEN)], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", weights.new(HIDDEN, CLASSES)], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probs"], axis=1),
    ]
    return _model(nodes, weights, (FEATURES,))


def resnet() -> onnx.ModelProto:
    """ResNet-20 for CIFAR-10 (He et al. 2016, section 4.2), batch norms folded, shortcuts by a 1×1 convolution."""
    weights = _Weights()
    nodes: list[onnx.NodeProto] = []

    def node(kind: str, inputs: list[str], **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [f"t{len(nodes)}"], **attributes))
        return str(nodes[-1].output[0])

    def conv(source: str, channels: tuple[int, int], kernel: int, stride: int) -> str:
        weight = weights.new(channels[1], channels[0], kernel, kernel)
        return node("Conv", [source, weight], strides=[stride] * 2, pads=[kernel // 2] * 4)

    current, width = node("Relu", [conv("x", (3, RESNET_WIDTHS[0]), 3, 1)]), RESNET_WIDTHS[0]
    for new_width in RESNET_WIDTHS:
        for _ in range(RESNET_BLOCKS):
            stride = 1 if new_width == width else 2
            inner = node("Relu", [conv(current, (width, new_width), 3, stride)])
            outer = conv(inner, (new_width, new_width), 3, 1)
            shortcut = current if new_width == width else conv(current, (width, new_width), 1, stride)
            current, width = node("Relu", [node("Add", [outer, shortcut])]), new_width
    pooled = node("Flatten", [node("GlobalAveragePool", [current])])
    nodes.append(helper.make_node("Gemm", [pooled, weights.new(width, CLASSES)], ["logits"]))
    nodes.append(helper.make_node("Softmax", ["logits"], ["probs"], axis=1))
    return _model(nodes, weights, (3, 32, 32))


def _model(nodes: list[onnx.NodeProto], weights: _Weights, shape: tuple[int, ...]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "bench",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("probs", TensorProto.FLOAT, ["N", CLASSES])],
        weights.tensors,
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Time `collect_logits` against a bare loop of `session.run`.")
    parser.add_argument("--rounds", type=positive, default=9, metavar="N", help="of each side (default: 9)")
    parser.add_argument("--threads", type=positive, metavar="N", help="of onnxruntime (default: its own)")
    parser.add_argument("--model", type=Path, metavar="FILE", help="an image network of 3×32×32 pixels to take instead")
    parser.add_argument("--quick", action="store_true", help="one round of few batches, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
