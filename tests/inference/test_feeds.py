"""What a model is fed: arrays matched to its inputs, cast where that is safe, checked, padded."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcal import DataError, collect_logits
from onnxcal.data import open_source
from onnxcal.inference import Feeder, InputSpec
from tests import builders

X, Y = builders.labelled_data(23)
TWO = (InputSpec("a", "float32", (None, 6)), InputSpec("b", "int64", (None,)))


def feeds(inputs: tuple[InputSpec, ...], data: Any, batch_size: int = 10) -> tuple[list[Any], list[str]]:
    feeder = Feeder(inputs, open_source(data), batch_size)
    return list(feeder.feeds()), list(feeder.notes)


def one(dtype: str = "float32", shape: tuple[int | None, ...] | None = (None, 6)) -> tuple[InputSpec, ...]:
    return (InputSpec("x", dtype, shape),)


def refused(inputs: tuple[InputSpec, ...], data: Any) -> str:
    with pytest.raises(DataError) as caught:
        feeds(inputs, data)
    assert caught.value.hint, "an error says what to do"
    return str(caught.value)


# Matching


@pytest.mark.parametrize("name", ["x", "inputs", "input", "X", "images", "data", "anything"])
def test_the_only_array_goes_to_the_only_input(name: str) -> None:
    found, notes = feeds(one(), {name: X, "labels": Y})
    np.testing.assert_array_equal(np.concatenate([feed.arrays["x"] for feed in found]), X)
    np.testing.assert_array_equal(np.concatenate([feed.labels for feed in found]), Y)
    assert [feed.size for feed in found] == [10, 10, 3]
    assert notes == []


def test_inputs_are_matched_by_name_whatever_their_order() -> None:
    b = np.arange(23)
    for data in ({"b": b, "a": X, "labels": Y}, {"a": X, "labels": Y, "b": b}):
        found, _ = feeds(TWO, data)
        np.testing.assert_array_equal(found[1].arrays["a"], X[10:20])
        np.testing.assert_array_equal(found[1].arrays["b"], b[10:20])


def test_a_tuple_is_matched_in_input_order() -> None:
    found, _ = feeds(TWO, [((X, np.arange(23)), Y)], 30)
    np.testing.assert_array_equal(found[0].arrays["b"], np.arange(23))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"a": X, "labels": Y}, ["lacks the model input 'b'", "it has 'a'"]),
        ({"foo": X, "labels": Y}, ["lacks the model inputs 'a', 'b'", "it has 'foo'"]),
        ({"a": X, "b": Y, "c": Y, "labels": Y}, ["neither model inputs nor labels: 'c'"]),
        ([((X,), Y)], ["has 1 inputs, the model has 2: 'a', 'b'"]),
        ([((X, Y, Y), Y)], ["has 3 inputs, the model has 2: 'a', 'b'"]),
    ],
)
def test_missing_and_extra_inputs_are_named(data: Any, words: list[str]) -> None:
    message = refused(TWO, data)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"foo": X, "bar": X, "labels": Y}, "no array for the model input 'x', only 'foo', 'bar'"),
        ({"input": X, "images": X, "labels": Y}, "no array for the model input 'x', only 'input', 'images'"),
        ({"input": X, "weights": Y, "labels": Y}, "neither model inputs nor labels: 'weights'"),
    ],
)
def test_an_array_too_many_for_one_input_is_refused(data: Any, words: str) -> None:
    assert words in refused(one(), data)


# Casts


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (X.astype(np.float64), "float32"),
        (X.astype(np.float32), "float64"),
        (X.astype(np.float32), "float16"),
        (np.arange(138).reshape(23, 6), "float32"),
        (np.arange(138, dtype=np.uint8).reshape(23, 6), "int64"),
        (np.arange(138, dtype=np.int64).reshape(23, 6), "uint8"),
        (X > 0, "float32"),
        ((X > 0).astype(np.int64), "bool"),
    ],
)
def test_a_safe_cast_is_made_and_said_once(given: np.ndarray, wanted: str) -> None:
    found, notes = feeds(one(wanted), {"x": given, "labels": Y}, 5)
    fed = np.concatenate([feed.arrays["x"] for feed in found])
    assert fed.dtype == np.dtype(wanted)
    np.testing.assert_array_equal(fed, given.astype(wanted))
    assert notes == [f"the arrays: input 'x' was cast from {given.dtype} to {wanted}"]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (X, "int64"),
        (np.round(X), "int64"),
        (np.full((23, 6), 300), "uint8"),
        (np.full((23, 6), -1), "uint64"),
        (np.full((23, 6), 2**24 + 1), "float32"),
        (np.full((23, 6), 70000), "float16"),
        (np.full((23, 6), 2), "bool"),
        (np.full((23, 6), "1.5"), "float32"),
        (X, "str"),
    ],
)
def test_a_cast_that_loses_values_is_refused(given: np.ndarray, wanted: str) -> None:
    message = refused(one(wanted), {"x": given, "labels": Y})
    assert f"has dtype {given.dtype}, the model wants" in message or "does not fit into" in message


def test_a_float_too_large_for_half_precision_is_named_by_its_sample() -> None:
    x = X.copy()
    x[13, 2] = 1e6
    assert "of sample 13 does not fit into float16" in refused(one("float16"), {"x": x, "labels": Y})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sample", [0, 9, 10, 22])
def test_the_first_sample_that_is_not_finite_is_named(bad: float, sample: int) -> None:
    x = X.copy()
    x[sample:, 3] = bad
    assert f"of sample {sample} is NaN or infinite" in refused(one(), {"x": x, "labels": Y})


# Shapes


@pytest.mark.parametrize(
    ("shape", "wanted", "words"),
    [
        ((23,), (None, 6), "the model wants 2 axes: (?, 6)"),
        ((23, 1, 6), (None, 6), "the model wants 2 axes: (?, 6)"),
        ((23, 5), (None, 6), "axis 1 must be 6"),
        ((23, 8, 8, 3), (None, 3, 8, 8), "x.transpose(0, 3, 1, 2)"),
        ((23, 3, 8, 9), (None, 3, 8, 8), "axis 3 must be 8"),
        ((23, 5), (10, 6), "the model wants (N, 6)"),
    ],
)
def test_a_wrong_shape_is_shown_with_the_wanted_one(
    shape: tuple[int, ...], wanted: tuple[int | None, ...], words: str
) -> None:
    message = refused(one(shape=wanted), {"x": np.zeros(shape, np.float32), "labels": Y})
    assert words in message
    assert str((10, *shape[1:])) in message or str(shape) in message


@pytest.mark.parametrize("shape", [None, (None, None), (None, 6)])
def test_a_shape_that_the_model_leaves_open_is_taken(shape: tuple[int | None, ...] | None) -> None:
    assert len(feeds(one(shape=shape), {"x": X, "labels": Y})[0]) == 3


# Fixed batches


@pytest.mark.parametrize("batch", [1, 4, 23, 50])
def test_a_fixed_batch_is_fed_in_its_size_and_filled_up(batch: int) -> None:
    found, _ = feeds(one(shape=(batch, 6)), {"x": X, "labels": Y}, 7)
    assert {feed.arrays["x"].shape for feed in found} == {(batch, 6)}
    assert {feed.padded_size for feed in found} == {batch}
    assert sum(feed.size for feed in found) == 23
    np.testing.assert_array_equal(np.concatenate([f.arrays["x"][: f.size] for f in found]), X)


def test_a_loaders_short_batch_is_filled_up_too() -> None:
    batches = [(X[:3], Y[:3]), (X[3:20], Y[3:20]), (X[20:], Y[20:])]
    found, _ = feeds(one(shape=(8, 6)), batches)
    assert [feed.size for feed in found] == [3, 8, 8, 1, 3]
    np.testing.assert_array_equal(np.concatenate([f.labels for f in found]), Y)


@pytest.mark.parametrize("batch", [1, 4, 10, 64])
def test_padding_does_not_change_results(batch: int) -> None:
    free = collect_logits(builders.classifier([builders.softmax()], output="probs"), (X, Y))
    fixed = collect_logits(builders.classifier([builders.softmax()], output="probs", batch=batch), (X, Y))
    np.testing.assert_allclose(fixed.values, free.values, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(fixed.labels, Y)
    assert fixed.n_samples == 23


# Inputs that are no floats


def strings_model(elem_type: int, against: np.ndarray | list[bytes]) -> tuple[onnx.ModelProto, np.ndarray]:
    """Equal to a constant, row by row → MatMul → Softmax; and the weights."""
    w = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    constant = helper.make_tensor("wanted", elem_type, [3], against)
    nodes = [
        helper.make_node("Equal", ["s", "wanted"], ["same"]),
        helper.make_node("Cast", ["same"], ["same_float"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["same_float", "w"], ["logits"]),
        builders.softmax(),
    ]
    graph = helper.make_graph(
        nodes,
        "strings",
        [helper.make_tensor_value_info("s", elem_type, ["N", 3])],
        [helper.make_tensor_value_info("probs", TensorProto.FLOAT, ["N", 4])],
        [constant, numpy_helper.from_array(w, "w")],
    )
    return builders.model(graph, opset=19), w


@pytest.mark.parametrize(
    ("elem_type", "wanted", "choices"),
    [
        (TensorProto.STRING, ["red", "green", "blue"], np.array(["red", "green", "blue", "grey"])),
        (TensorProto.BOOL, [True, False, True], np.array([True, False])),
        (TensorProto.INT64, [1, 2, 3], np.array([1, 2, 3, 4])),
        (TensorProto.INT32, [1, 2, 3], np.array([1, 2, 3, 4])),
    ],
)
def test_strings_booleans_and_integers_are_fed(elem_type: int, wanted: list[Any], choices: np.ndarray) -> None:
    model, w = strings_model(elem_type, [v.encode() if isinstance(v, str) else v for v in wanted])
    rng = np.random.default_rng(1)
    s, y = rng.choice(choices, size=(40, 3)), rng.integers(0, 4, 40)
    found = collect_logits(model, {"s": s, "labels": y}, batch_size=7)
    np.testing.assert_allclose(found.values, (s == np.array(wanted)).astype(np.float64) @ w, atol=1e-6)


def test_python_objects_are_no_input() -> None:
    with pytest.raises(DataError, match="Python objects"):
        open_source({"s": np.array([object(), object()]), "labels": [0, 1]})
