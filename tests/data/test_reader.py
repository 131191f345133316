"""onnxruntime's `CalibrationDataReader`, with the labels counted off in its order."""

from __future__ import annotations

import numpy as np
import pytest
from onnxruntime.quantization import CalibrationDataReader

from onnxcal.data import open_source
from onnxcal.errors import DataError
from tests.reference.refusals import refused

X = np.arange(14, dtype=np.float32).reshape(7, 2)
Y = np.array([0, 1, 0, 1, 1, 0, 1])


class OneShot(CalibrationDataReader):
    """As in onnxruntime's own examples: an iterator over dicts, used up once read."""

    def __init__(self, sizes=(3, 1, 3)) -> None:
        self.stops = np.cumsum(sizes)
        self.start()

    def start(self) -> None:
        starts = np.concatenate([[0], self.stops[:-1]])
        self.items = iter([{"x": X[a:b]} for a, b in zip(starts, self.stops, strict=True)])

    def get_next(self):
        return next(self.items, None)


class Rewinding(OneShot):
    def rewind(self) -> None:
        self.start()


class RewindWithoutBody(OneShot):
    def rewind(self) -> None:
        raise NotImplementedError


class Duck:
    """Not derived from onnxruntime's class."""

    def __init__(self) -> None:
        self.inner = OneShot()

    def get_next(self):
        return self.inner.get_next()


def assert_all(source) -> None:
    batches = list(source.batches(1000))
    np.testing.assert_array_equal(np.concatenate([batch.inputs["x"] for batch in batches]), X)
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in batches]), Y)


@pytest.mark.parametrize("reader", [OneShot, Rewinding, RewindWithoutBody, Duck])
def test_labels_are_counted_off_in_order(reader):
    source = open_source(reader(), Y)
    assert source.n_samples == 7
    batches = list(source.batches(1000))
    assert [batch.size for batch in batches] == [3, 1, 3]
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in batches]), Y)
    np.testing.assert_array_equal(np.concatenate([batch.inputs["x"] for batch in batches]), X)


def test_a_reader_that_rewinds_is_read_again_and_again():
    source = open_source(Rewinding(), Y)
    for _ in range(3):
        assert_all(source)


def test_a_reader_that_quantised_a_model_before_is_rewound():
    reader = Rewinding()
    while reader.get_next() is not None:
        pass
    assert_all(open_source(reader, Y))


@pytest.mark.parametrize("reader", [OneShot, RewindWithoutBody, Duck])
def test_a_reader_that_cannot_rewind_is_read_again_like_any_generator(reader):
    source = open_source(reader(), Y)
    for _ in range(2):
        assert_all(source)


def test_batches_are_cut_to_size():
    assert [batch.size for batch in open_source(Rewinding(), Y).batches(2)] == [2, 1, 1, 2, 1]


def test_labels_may_be_rows():
    w = np.eye(2)[Y]
    batches = list(open_source(Rewinding(), w).batches(1000))
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in batches]), w)


def test_a_reader_without_labels_has_none():
    source = open_source(Rewinding())
    assert source.n_samples is None
    assert all(batch.labels is None for batch in source.batches(1000))


@pytest.mark.parametrize("n", [2, 6])
def test_too_few_labels_are_refused(n):
    with refused(DataError, "more samples than there are labels", str(n)):
        list(open_source(Rewinding(), Y[:n]).batches(1000))


def test_too_many_labels_are_refused():
    with refused(DataError, "7 samples", "8 labels"):
        list(open_source(Rewinding(), np.append(Y, 0)).batches(1000))


def test_what_goes_wrong_in_the_reader_is_named():
    class Failing(Rewinding):
        def get_next(self):
            raise OSError("disk gone")

    with refused(DataError, "the data reader raised OSError: disk gone"):
        list(open_source(Failing(), Y).batches(1000))
