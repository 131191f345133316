"""Batches that the user's own Python makes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from onnxcal.data import open_source
from onnxcal.errors import DataError, ModelError, UsageError
from tests.reference.refusals import refused

X = np.arange(14, dtype=np.float32).reshape(7, 2)
Y = np.array([0, 1, 0, 1, 1, 0, 1])
PIECES = [(X[:3], Y[:3]), (X[3:4], Y[3:4]), (X[4:], Y[4:])]


def generator():
    yield from PIECES


def read(source, size=1000):
    """All inputs and labels of a source with one unnamed input."""
    batches = list(source.batches(size))
    return np.concatenate([batch.inputs[0] for batch in batches]), np.concatenate([batch.labels for batch in batches])


def assert_all(source, size=1000) -> None:
    x, y = read(source, size)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)


class Reiterable:
    def __iter__(self):
        return generator()


KINDS = {
    "list": lambda: PIECES,
    "tuple": lambda: tuple(PIECES),
    "one-shot generator": generator,
    "one-shot iterator": lambda: iter(PIECES),
    "map": lambda: map(tuple, PIECES),
    "object with __iter__": Reiterable,
    "callable": lambda: generator,
    "callable that returns a list": lambda: lambda: PIECES,
}


@pytest.mark.parametrize("kind", KINDS)
def test_batches_can_be_read_again_and_again(kind):
    source = open_source(KINDS[kind]())
    for size in (1000, 2, 1000):
        assert_all(source, size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_long_batches_are_cut_to_size(kind, size):
    sizes = [batch.size for batch in open_source(KINDS[kind]()).batches(size)]
    assert sizes == [min(size, n - start) for n in (3, 1, 3) for start in range(0, n, size)]


@pytest.mark.parametrize("kind", KINDS)
def test_short_batches_come_as_they_are(kind):
    assert [batch.size for batch in open_source(KINDS[kind]()).batches(1000)] == [3, 1, 3]


def test_a_reading_that_was_given_up_does_not_hide_samples():
    source = open_source(generator())
    first = source.batches(1000)
    next(first)
    first.close()
    assert_all(source)


def test_a_reading_that_failed_does_not_hide_samples():
    def failing():
        yield PIECES[0]
        raise ValueError("no disk")

    source = open_source(failing())
    for _ in range(2):
        with pytest.raises(DataError):
            list(source.batches(1000))


def test_a_generator_is_read_no_further_than_needed():
    reached = []

    def counting():
        for number, piece in enumerate(PIECES):
            reached.append(number)
            yield piece

    batches = open_source(counting()).batches(1000)
    assert reached == []
    next(batches)
    assert reached == [0]


def test_batches_that_are_changed_after_they_were_yielded_are_kept_as_they_were():
    def reusing():
        buffer = np.empty((3, 2), np.float32)
        for x, y in PIECES:
            buffer[: len(x)] = x
            yield buffer[: len(x)], y

    source = open_source(reusing())
    list(source.batches(2))
    assert_all(source)


@pytest.mark.parametrize("pair", [tuple, list])
def test_a_batch_is_a_pair(pair):
    assert_all(open_source([pair(piece) for piece in PIECES]))


@pytest.mark.parametrize("inputs", [lambda x: (x, x + 1), lambda x: [x, x + 1]])
def test_several_inputs_come_in_order(inputs):
    (batch,) = open_source([(inputs(X), Y)]).batches(1000)
    assert isinstance(batch.inputs, tuple)
    np.testing.assert_array_equal(batch.inputs[0], X)
    np.testing.assert_array_equal(batch.inputs[1], X + 1)


def test_several_inputs_come_by_name():
    (batch,) = open_source([({"left": X, "right": X + 1}, Y)]).batches(1000)
    np.testing.assert_array_equal(batch.inputs["left"], X)
    np.testing.assert_array_equal(batch.inputs["right"], X + 1)


def test_batches_without_labels_have_none():
    (batch,) = open_source([{"x": X}]).batches(1000)
    assert batch.labels is None


def test_nested_lists_are_arrays():
    assert_all(open_source([(X.tolist(), Y.tolist())]))


# torch


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_data_loader_is_read_as_it_is(shuffle):
    data = TensorDataset(torch.tensor(X), torch.tensor(Y))
    loader = DataLoader(data, batch_size=3, shuffle=shuffle, generator=torch.Generator().manual_seed(0))
    source = open_source(loader)
    for _ in range(2):
        batches = list(source.batches(1000))
        assert [batch.size for batch in batches] == [3, 3, 1]
        x, y = read(source)
        order = np.argsort(x[:, 0])
        np.testing.assert_array_equal(x[order], X)
        np.testing.assert_array_equal(y[order], Y)


def test_a_data_loader_of_dicts_is_read():
    class Named(torch.utils.data.Dataset):
        def __len__(self):
            return 7

        def __getitem__(self, i):
            return {"left": torch.tensor(X[i]), "right": torch.tensor(X[i] + 1)}, int(Y[i])

    batches = list(open_source(DataLoader(Named(), batch_size=4)).batches(1000))
    assert [sorted(batch.inputs) for batch in batches] == [["left", "right"]] * 2
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in batches]), Y)


def test_tensors_that_need_a_gradient_are_arrays():
    (batch,) = open_source([(torch.tensor(X, requires_grad=True), torch.tensor(Y))]).batches(1000)
    assert type(batch.inputs[0]) is np.ndarray
    np.testing.assert_array_equal(batch.inputs[0], X)


# What is refused


def test_labels_beside_batches_are_refused():
    with refused(UsageError, "--labels", hint="with each batch"):
        open_source(PIECES, Y)


@pytest.mark.parametrize("parts", [1, 3])
def test_a_batch_of_another_number_of_parts_is_refused(parts):
    with refused(DataError, "batch 1", f"{parts} parts", hint="one tuple or dict"):
        list(open_source([PIECES[0], (X,) * parts]).batches(1000))


def test_other_counts_of_labels_are_refused():
    with refused(DataError, "batch 1 of the batches", "3 samples but 2 labels"):
        list(open_source([PIECES[0], (X[:3], Y[:2])]).batches(1000))


@pytest.mark.parametrize("inputs", [(X, X[:3]), {"left": X, "right": X[:3]}])
def test_inputs_of_different_lengths_are_refused(inputs):
    with refused(DataError, "batch 0 of the batches", "3, 7"):
        list(open_source([(inputs, Y)]).batches(1000))


@pytest.mark.parametrize("inputs", [(), [], {}])
def test_a_batch_without_inputs_is_refused(inputs):
    with refused(DataError, "batch 0 of the batches"):
        list(open_source([(inputs, Y)]).batches(1000))


@pytest.mark.parametrize(
    ("inputs", "said"),
    [(np.float32(1), "single number"), (np.array([{}] * 7, object), "Python objects"), ({"x": None}, "'x'")],
)
def test_inputs_that_are_no_arrays_are_refused(inputs, said):
    with refused(DataError, "batch 0 of the batches", said):
        list(open_source([(inputs, Y)]).batches(1000))


def test_labels_that_are_no_numbers_are_refused():
    with refused(DataError, "batch 0 of the batches", "labels"):
        list(open_source([(X, [object()] * 7)]).batches(1000))


@pytest.mark.parametrize(
    "error", [ValueError("no disk"), RuntimeError("no disk"), KeyError("no disk"), StopAsyncIteration()]
)
@pytest.mark.parametrize("after", [0, 2])
def test_what_goes_wrong_inside_is_named_with_its_cause(error, after):
    def failing():
        yield from PIECES[:after]
        raise error

    with pytest.raises(DataError) as caught:
        list(open_source(failing).batches(1000))
    assert f"failing raised {type(error).__name__}" in caught.value.message
    assert caught.value.__cause__ is error


def test_errors_of_onnxcal_itself_pass_through():
    def failing():
        yield PIECES[0]
        raise ModelError("no such model")

    with pytest.raises(ModelError, match="no such model"):
        list(open_source(failing).batches(1000))


def test_an_interrupt_passes_through():
    def interrupted():
        yield PIECES[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(open_source(interrupted).batches(1000))


@pytest.mark.parametrize("returned", [None, 7])
def test_a_callable_that_returns_no_batches_is_refused(returned):
    with refused(DataError, "raised TypeError", hint="must yield (inputs, labels) batches"):
        list(open_source(lambda: returned).batches(1000))
