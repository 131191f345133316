"""Runs through bound memory: the same numbers as `session.run`, and a way out where they cannot be had."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from onnxcal import DataError, collect_logits
from onnxcal.data import open_source
from onnxcal.graph.modelfile import open_model
from onnxcal.inference import Feeder, Session, open_session
from onnxcal.inference import runs as module
from onnxcal.inference.runs import Runner
from tests import builders

SOFTMAX = builders.classifier([builders.softmax()], output="probs")
X, Y = builders.labelled_data(500)


def runner_of(model: onnx.ModelProto, outputs: list[str]) -> Runner:
    return Runner(open_session(open_model(model), tap=outputs, threads=1), outputs)


@pytest.fixture
def plain_runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all runs that went through `Session.run`."""
    sizes: list[int] = []
    run = Session.run

    def counted(self: Session, feeds: Any, outputs: Any) -> list[Any]:
        sizes.append(len(next(iter(feeds.values()))))
        return run(self, feeds, outputs)

    monkeypatch.setattr(Session, "run", counted)
    return sizes


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("size", [1, 3, 50])
def test_bound_runs_give_what_single_runs_give(
    dtype: str, size: int, plain_runs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SLOT_SECONDS", 60.0)
    monkeypatch.setattr(module, "PORTION_SECONDS", 60.0)
    model = builders.classifier([builders.softmax()], output="probs", dtype=dtype)
    x = X.astype(dtype)
    runner = runner_of(model, ["logits", "probs"])
    reference = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = []
    for feed in Feeder(runner.session.inputs, open_source((x, Y)), size).feeds(1 << 20):
        for portion in runner.portions(feed):
            assert portion.joined is not None
            split = [tensors["probs"] for _, tensors in portion.runs()]
            np.testing.assert_array_equal(np.concatenate(split), portion.joined["probs"])
            assert len(split) == portion.feed.runs
            found += split
    wanted = [reference.run(["probs"], {"x": x[start : start + size]})[0] for start in range(0, 500, size)]
    assert [len(part) for part in found] == [len(part) for part in wanted]
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(wanted), rtol=1e-6, atol=1e-7)
    assert len(plain_runs) == 3 + (500 % size > 0), "all but the first go through bound memory"


def nonzero_model() -> onnx.ModelProto:
    """`rows`: the inputs' rows, those of zeros left out: an output whose length depends on the values."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["x"], ["top"], axes=[1], keepdims=0),
            helper.make_node("Cast", ["top"], ["kept"], to=TensorProto.BOOL),
            helper.make_node("Compress", ["x", "kept"], ["rows"], axis=0),
        ],
        "nonzero",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["M", 6])],
    )
    return builders.model(graph)


def test_an_output_of_another_shape_is_had_from_a_single_run() -> None:
    x = np.ones((400, 6), np.float32)
    x[37] = x[311] = 0
    runner = runner_of(nonzero_model(), ["rows"])
    lengths: list[int] = []
    for feed in Feeder(runner.session.inputs, open_source((x, np.zeros(400, int))), 4).feeds(1 << 20):
        for portion in runner.portions(feed):
            lengths += [len(tensors["rows"]) for _, tensors in portion.runs()]
    assert len(lengths) == 100
    assert [number for number, length in enumerate(lengths) if length != 4] == [9, 77]


def test_a_label_that_is_wrong_is_told_as_in_its_own_run() -> None:
    labels = Y.copy()
    labels[333] = 9
    told = set()
    for data in ((X, labels), [(X[i : i + 10], labels[i : i + 10]) for i in range(0, 500, 10)]):
        with pytest.raises(DataError) as caught:
            collect_logits(SOFTMAX, data, batch_size=10)
        told.add(str(caught.value))
    assert len(told) == 1
    assert "label 9 of sample 3 " in told.pop()


@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_list_of_batches_gives_what_the_whole_arrays_give(size: int) -> None:
    whole = collect_logits(SOFTMAX, (X, Y))
    found = collect_logits(SOFTMAX, [(X[i : i + size], Y[i : i + size]) for i in range(0, 500, size)])
    np.testing.assert_allclose(found.values, whole.values, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found.labels, whole.labels)
    assert found.data_sha256 == whole.data_sha256


def test_a_model_built_for_one_sample_is_run_sample_by_sample() -> None:
    model = builders.classifier([builders.softmax()], output="probs", batch=1)
    found = collect_logits(model, (X, Y))
    np.testing.assert_allclose(found.values, collect_logits(SOFTMAX, (X, Y)).values, rtol=1e-6, atol=1e-6)


def test_memory_grows_by_the_logits_alone() -> None:
    """20,000 batches of one sample: what is kept is the logits, the labels, and nothing for each batch."""
    count = 20_000
    x, y = X[:1], Y[:1]

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for _ in range(count):
            yield x, y

    collect_logits(SOFTMAX, lambda: [(x, y)] * 2000)
    tracemalloc.start()
    try:
        found = collect_logits(SOFTMAX, batches)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    kept = found.values.nbytes + found.labels.nbytes
    assert len(found.labels) == count
    assert kept == count * (4 * 4 + 8)
    assert held < 1.1 * kept + 200_000
    # Twice the logits while pieces are joined; blocks and slots take a few MB at any length.
    assert peak < 2 * kept + 8_000_000
