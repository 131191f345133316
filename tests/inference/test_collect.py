"""Logits streamed out of a model: what is collected, in which order, and what stops it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxcal
from onnxcal import DataError, ModelError, collect_logits
from onnxcal.inference.prefetch import prefetched
from tests import builders

X, Y = builders.labelled_data(150)
SOFTMAX = builders.classifier([builders.softmax()], output="probs")
BATCH_SIZES = [1, 7, 64, 150, 1000]


def run(model: onnx.ModelProto, output: str, **feeds: np.ndarray) -> np.ndarray:
    """The model's own tensor, made an output by onnx itself."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    if output not in {value.name for value in copy.graph.output}:
        copy.graph.output.append(onnx.ValueInfoProto(name=output))
    session = onnxruntime.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run([output], feeds)[0]
    return result


def dense_model(height: int = 5, width: int = 4) -> onnx.ModelProto:
    """1×1 convolution → Softmax over axis 1 of (N, 3, H, W)."""
    w = (4 * np.random.default_rng(0).normal(size=(3, 2, 1, 1))).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["logits"]), builders.softmax(axis=1)],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, height, width])],
        [helper.make_tensor_value_info("probs", TensorProto.FLOAT, ["N", 3, height, width])],
        [numpy_helper.from_array(w, "w")],
    )
    return builders.model(graph)


def dense_data(n: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(n, 2, 5, 4)).astype(np.float32), rng.integers(0, 3, (n, 5, 4))


# What is collected


@pytest.mark.parametrize(
    ("tail", "output"),
    [
        ([], "logits"),
        ([builders.softmax()], "probs"),
        ([helper.make_node("LogSoftmax", ["logits"], ["logp"])], "logp"),
        ([helper.make_node("Sigmoid", ["logits"], ["p"])], "p"),
    ],
)
def test_logits_are_the_tensor_before_the_activation(tail: list[Any], output: str) -> None:
    model = builders.classifier(tail, output=output)
    labels = Y if output != "p" else (np.random.default_rng(0).random((150, 4)) > 0.5).astype(int)
    found = collect_logits(model, (X, labels))
    np.testing.assert_allclose(found.values, run(model, "logits", x=X), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found.labels, labels)
    assert (found.head.output, found.head.logits, found.n_samples) == (output, "logits", 150)


@pytest.mark.parametrize("batch_size", BATCH_SIZES)
def test_the_batch_size_changes_nothing(batch_size: int) -> None:
    whole = collect_logits(SOFTMAX, (X, Y), batch_size=150)
    found = collect_logits(SOFTMAX, (X, Y), batch_size=batch_size)
    np.testing.assert_allclose(found.values, whole.values, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found.labels, whole.labels)
    assert found.data_sha256 == whole.data_sha256


def test_the_digest_tells_data_apart() -> None:
    digests = {
        collect_logits(SOFTMAX, (x, y)).data_sha256
        for x, y in [(X, Y), (X + 1, Y), (X, 3 - Y), (X[::-1], Y), (X[:-1], Y[:-1])]
    }
    assert len(digests) == 5


@pytest.mark.parametrize("batch_size", [1, 7, 40])
def test_the_digest_of_strings_is_that_of_their_characters(batch_size: int) -> None:
    """Not of where Python happens to keep them: the digest goes into OUT, whose bytes must not change."""
    from tests.inference.test_feeds import strings_model

    model, _ = strings_model(TensorProto.STRING, [b"a", b"b", b"c"])  # type: ignore[list-item]
    rng = np.random.default_rng(1)
    s, y = rng.choice(["a", "b", "c", "dd"], size=(40, 3)), rng.integers(0, 4, 40)
    first = collect_logits(model, {"s": s, "labels": y}, batch_size=40).data_sha256
    again = collect_logits(model, {"s": s.copy(), "labels": y}, batch_size=batch_size).data_sha256
    other = collect_logits(model, {"s": s[:, ::-1], "labels": y}, batch_size=40).data_sha256
    assert again == first != other


def test_a_patched_model_gives_the_logits_before_its_calibration() -> None:
    patched = onnxcal.patch(SOFTMAX, temperature=3.0).proto
    assert patched is not None
    np.testing.assert_array_equal(collect_logits(patched, (X, Y)).values, collect_logits(SOFTMAX, (X, Y)).values)


def test_the_model_that_was_passed_is_not_changed() -> None:
    before = SOFTMAX.SerializeToString()
    collect_logits(SOFTMAX, (X, Y))
    assert SOFTMAX.SerializeToString() == before


# Labels


@pytest.mark.parametrize("batch_size", [1, 64])
def test_ignored_labels_leave_no_rows(batch_size: int) -> None:
    labels = Y.copy()
    labels[::3] = -100
    found = collect_logits(SOFTMAX, (X, labels), ignore_index=-100, batch_size=batch_size)
    keep = labels != -100
    np.testing.assert_allclose(found.values, run(SOFTMAX, "logits", x=X)[keep], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found.labels, Y[keep])


def test_a_whole_batch_may_be_ignored() -> None:
    labels = Y.copy()
    labels[:64] = -1
    assert collect_logits(SOFTMAX, (X, labels), ignore_index=-1, batch_size=64).n_samples == 86


def test_all_labels_ignored_is_an_empty_set() -> None:
    with pytest.raises(DataError, match="no sample whose label is not ignored"):
        collect_logits(SOFTMAX, (X, np.full(150, 255)), ignore_index=255)


def test_one_hot_labels_are_class_indices() -> None:
    found = collect_logits(SOFTMAX, (X, np.eye(4)[Y]), batch_size=7)
    assert found.labels.dtype == np.int64
    np.testing.assert_array_equal(found.labels, Y)


@pytest.mark.parametrize("first_soft", [0, 64, 149])
def test_soft_labels_stay_soft_though_some_batches_are_one_hot(first_soft: int) -> None:
    labels = np.eye(4)[Y]
    labels[first_soft] = [0.1, 0.2, 0.3, 0.4]
    found = collect_logits(SOFTMAX, (X, labels), batch_size=10)
    np.testing.assert_allclose(found.labels, labels, atol=1e-15)


def test_each_position_of_a_dense_head_is_a_row() -> None:
    model, (x, y) = dense_model(), dense_data()
    found = collect_logits(model, (x, y), batch_size=4)
    logits = run(model, "logits", x=x)
    np.testing.assert_allclose(found.values, logits.transpose(0, 2, 3, 1).reshape(-1, 3), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found.labels, y.reshape(-1))
    np.testing.assert_array_equal(found.sample, np.repeat(np.arange(9), 20))


def test_ignored_positions_of_a_dense_head_keep_their_image() -> None:
    model, (x, y) = dense_model(), dense_data()
    y[:, 0, :] = 255
    found = collect_logits(model, (x, y), ignore_index=255, batch_size=2)
    assert found.n_samples == 9 * 16
    np.testing.assert_array_equal(found.sample, np.repeat(np.arange(9), 16))


# Refusals


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (X, "the arrays has no labels"),
        ((X, Y + 1), "label 4 of sample"),
        ((X, Y - 1), "label -1 of sample"),
        ((X, Y + 0.5), "is not a class index"),
        ((X, np.eye(5)[Y]), r"do not fit logits of shape \(64, 4\)"),
        ((X, np.full((150, 4), 0.3)), "soft label of sample 0 sums to 1.2"),
        ((X[:0], Y[:0]), "no samples"),
    ],
)
def test_labels_that_do_not_fit_are_refused(data: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        collect_logits(SOFTMAX, data)


def test_logits_that_are_not_finite_are_refused() -> None:
    node = helper.make_node("Log", ["logits"], ["logs"])
    model = builders.classifier([node, builders.softmax("logs")], output="probs")
    with pytest.raises(DataError, match="nan"):
        collect_logits(model, (X, Y))


def test_a_batch_that_is_not_counted_by_the_first_axis_is_refused() -> None:
    node = helper.make_node("ReduceMean", ["logits"], ["mean"], axes=[0], keepdims=1)
    model = builders.classifier([node, builders.softmax("mean")], output="probs", output_shape=[1, 4])
    with pytest.raises(DataError, match="does not count samples"):
        collect_logits(model, (X, Y))


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": -1}, {"threads": 0}, {"threads": -2}])
def test_numbers_that_the_command_refuses_are_refused_here(options: dict[str, int]) -> None:
    with pytest.raises(onnxcal.UsageError):
        collect_logits(SOFTMAX, (X, Y), **options)  # type: ignore[arg-type]


# The data thread


def test_the_next_item_is_made_while_the_current_one_is_used() -> None:
    asked = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for number in range(3):
            asked[number].set()
            yield number
        asked[3].set()

    used = []
    for number in prefetched(items()):
        assert asked[number + 1].wait(10), "the next item was not asked for while this one was in use"
        used.append(number)
    assert used == [0, 1, 2]


def test_the_next_batch_is_asked_for_while_the_model_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [threading.Event() for _ in range(4)]

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number in range(3):
            asked[number].set()
            yield X[50 * number : 50 * number + 50], Y[50 * number : 50 * number + 50]
        asked[3].set()

    session_type = sys.modules["onnxcal.inference.session"].Session
    plain, runs = session_type.run, []

    def run_when_next_is_asked_for(self: Any, *args: Any) -> Any:
        runs.append(asked[len(runs) + 1].wait(10))
        return plain(self, *args)

    monkeypatch.setattr(session_type, "run", run_when_next_is_asked_for)
    found = collect_logits(SOFTMAX, batches)
    assert runs == [True, True, True]
    np.testing.assert_array_equal(found.labels, Y)


class Broken(Exception):
    pass


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_exception_of_the_users_loader_arrives_with_its_cause(after: int) -> None:
    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for _ in range(after):
            yield X, Y
        raise Broken("the disk is gone")

    with pytest.raises(DataError, match="batches raised Broken: the disk is gone") as caught:
        collect_logits(SOFTMAX, batches)
    assert isinstance(caught.value.__cause__, Broken)


def test_threads_end_when_the_model_fails() -> None:
    def endless() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        while True:
            yield X, Y + 100

    with pytest.raises(DataError, match="is outside"):
        collect_logits(SOFTMAX, endless)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("onnxcal-data")]


# Spooling


@pytest.mark.parametrize("spool_bytes", [0, 600, 1100])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_spooling_to_disk_gives_the_same_logits_and_temperature(
    spool_bytes: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = builders.classifier([builders.softmax()], output="probs", dtype=dtype)
    x = X.astype(dtype)
    held = onnxcal.calibrate(model, (x, Y))
    rows = collect_logits(model, (x, Y))
    monkeypatch.setattr(sys.modules["onnxcal.spool"], "SPOOL_BYTES", spool_bytes)
    spooled = collect_logits(model, (x, Y))
    assert isinstance(spooled.values, np.memmap)
    np.testing.assert_array_equal(spooled.values, rows.values)
    result = onnxcal.calibrate(model, (x, Y))
    assert result.calibration.temperature == held.calibration.temperature
    assert result.metrics == held.metrics


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_spooling_keeps_the_shape_of_sigmoid_rows(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = 1 if task == "binary" else 3
    model = builders.classifier(
        [helper.make_node("Sigmoid", ["logits"], ["p"])], output="p", output_shape=["N", classes], classes=classes
    )
    y = np.random.default_rng(0).integers(0, 2, (150, classes))
    rows = collect_logits(model, (X, y))
    monkeypatch.setattr(sys.modules["onnxcal.spool"], "SPOOL_BYTES", 300)
    spooled = collect_logits(model, (X, y))
    assert isinstance(spooled.values, np.memmap)
    assert spooled.values.shape == ((150,) if task == "binary" else (150, 3))
    np.testing.assert_array_equal(spooled.values, rows.values)


# Progress


@pytest.mark.parametrize(("data", "total"), [((X, Y), 150), (lambda: [(X[:100], Y[:100]), (X[100:], Y[100:])], None)])
def test_progress_counts_samples(data: Any, total: int | None) -> None:
    calls: list[tuple[str, int, int | None]] = []
    collect_logits(SOFTMAX, data, batch_size=64, progress=lambda *call: calls.append(call))
    assert {stage for stage, _, _ in calls} == {"collecting logits"}
    done = [count for _, count, _ in calls]
    assert done == sorted(set(done))
    assert done[-1] == 150
    assert {t for _, _, t in calls} == {total}


def test_calibrate_tells_both_stages_of_its_progress() -> None:
    calls: list[tuple[str, int, int | None]] = []
    onnxcal.calibrate(SOFTMAX, (X, Y), progress=lambda *call: calls.append(call))
    assert list(dict.fromkeys(stage for stage, _, _ in calls)) == ["collecting logits", "verifying"]


def test_a_model_that_fails_at_run_time_says_so_in_one_line() -> None:
    node = helper.make_node("Reshape", ["logits", "shape"], ["reshaped"])
    shape = numpy_helper.from_array(np.array([7, 4]), "shape")
    model = builders.classifier([node, builders.softmax("reshaped")], output="probs", initializers=[shape])
    with pytest.raises(ModelError, match="onnxruntime failed to run the model") as caught:
        collect_logits(model, (X, Y))
    assert "\n" not in caught.value.message
