"""Which source a user's DATA is, and what is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onnxcal.data import open_source, paths_of
from onnxcal.errors import DataError, UsageError
from tests.reference.refusals import refused

X = np.arange(12, dtype=np.float32).reshape(6, 2)
Y = np.array([0, 1, 0, 1, 1, 0])


def only_batch(data, labels=None):
    source = open_source(data, labels)
    assert source.n_samples == 6
    (batch,) = source.batches(1000)
    return batch


# Arrays


PAIRS = {
    "pair of arrays": ((X, Y), None),
    "pair of tensors": ((torch.tensor(X), torch.tensor(Y)), None),
    "array and list": ((X, Y.tolist()), None),
    "inputs and labels apart": (X, Y),
    "tensors apart": (torch.tensor(X), torch.tensor(Y)),
    "labels as a list": (X, Y.tolist()),
    "one-hot labels": ((X, np.eye(2)[Y]), None),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_arrays_are_one_unnamed_input_and_its_labels(kind):
    batch = only_batch(*PAIRS[kind])
    (array,) = batch.inputs
    np.testing.assert_array_equal(array, X)
    np.testing.assert_array_equal(batch.labels, np.eye(2)[Y] if kind == "one-hot labels" else Y)


@pytest.mark.parametrize("inputs", [(X, X + 1), [X, X + 1]])
def test_several_arrays_come_in_order(inputs):
    batch = only_batch((inputs, Y))
    np.testing.assert_array_equal(batch.inputs[1], X + 1)
    np.testing.assert_array_equal(batch.labels, Y)


@pytest.mark.parametrize("data", [{"a": X, "b": X + 1, "labels": Y}, ({"a": X, "b": X + 1}, Y)])
def test_arrays_may_come_by_name(data):
    batch = only_batch(data)
    assert list(batch.inputs) == ["a", "b"]
    np.testing.assert_array_equal(batch.labels, Y)


def test_labels_passed_beside_replace_those_in_the_dict():
    data = {"a": X, "labels": Y}
    np.testing.assert_array_equal(only_batch(data, 1 - Y).labels, 1 - Y)
    assert list(data) == ["a", "labels"]  # and the dict stays the caller's


def test_arrays_without_labels_have_none():
    assert only_batch(X).labels is None
    assert only_batch({"a": X}).labels is None


def test_two_pairs_are_two_batches():
    sizes = [batch.size for batch in open_source(((X, Y), (X[:2], Y[:2]))).batches(1000)]
    assert sizes == [6, 2]


@pytest.mark.parametrize("size", [1, 4, 6])
def test_arrays_are_cut_to_size(size):
    batches = list(open_source((X, Y)).batches(size))
    assert [batch.size for batch in batches] == [min(size, 6 - start) for start in range(0, 6, size)]
    np.testing.assert_array_equal(np.concatenate([batch.inputs[0] for batch in batches]), X)


def test_arrays_can_be_read_again():
    source = open_source((X, Y))
    assert [batch.size for batch in source.batches(4)] == [batch.size for batch in source.batches(4)] == [4, 2]


def test_memory_maps_stay_memory_maps(tmp_path):
    np.save(tmp_path / "x.npy", X)
    batch = only_batch(np.load(tmp_path / "x.npy", mmap_mode="r"), Y)
    assert isinstance(batch.inputs[0], np.memmap)


# What is refused


@pytest.mark.parametrize("data", [(X[:0], Y[:0]), {"a": X[:0], "labels": Y[:0]}])
def test_no_samples_are_refused(data):
    with refused(DataError, "no samples", hint="at least one"):
        open_source(data)


@pytest.mark.parametrize("data", [(X, Y[:5]), {"a": X, "labels": Y[:5]}])
def test_other_counts_of_labels_are_refused(data):
    with refused(DataError, "6 samples but 5 labels"):
        open_source(data)


def test_a_dict_of_labels_only_is_refused():
    with refused(DataError, "no model inputs"):
        open_source({"labels": Y})


def test_labels_that_are_no_numbers_are_refused():
    with refused(DataError, "labels", "expected numbers"):
        open_source(X, [object()] * 6)


def test_labels_beside_a_pair_are_refused():
    with refused(UsageError, "--labels"):
        open_source((X, Y), Y)


@pytest.mark.parametrize("data", [7, 1.5, None])
def test_what_is_no_data_is_refused(data):
    with refused(DataError, type(data).__name__, hint="pass a path, arrays"):
        open_source(data)


def test_a_missing_path_is_refused(tmp_path):
    with refused(DataError, "cannot read", "nope", hint="check the path"):
        open_source(tmp_path / "nope")


@pytest.mark.parametrize("name", ["data.h5", "data", "loader.py"])
def test_a_file_of_another_kind_is_refused(tmp_path, name):
    (tmp_path / name).write_text("1,2,3\n")
    with refused(DataError, name, hint=".npz"):
        open_source(tmp_path / name)


def test_a_folder_of_images_needs_to_be_told_how(tmp_path):
    with refused(UsageError, str(tmp_path), hint="--preprocess"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("option", "value"), [("preprocess", "imagenet"), ("preprocess", {}), ("label_column", "y")], ids=str
)
def test_an_option_that_does_nothing_for_the_data_is_refused(option, value):
    with refused(UsageError, f"--{option.replace('_', '-')}", "the arrays", hint="leave it out"):
        open_source((X, Y), **{option: value})


def test_paths_of_data_are_those_of_files(tmp_path):
    for name in ("b.npz", "a.npz", "c.npy"):
        (tmp_path / name).touch()
    assert paths_of(tmp_path / "*.npz") == [str(tmp_path / "a.npz"), str(tmp_path / "b.npz")]
    assert paths_of([tmp_path / "a.npz", "x.npz"]) == [str(tmp_path / "a.npz"), "x.npz"]
    assert paths_of("x.npz") == ["x.npz"]
    assert paths_of((X, Y)) == paths_of(X) == paths_of(None) == []
