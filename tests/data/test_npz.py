"""`.npz`: which array is what, and what is refused."""

from __future__ import annotations

import gc
import io
import zipfile

import numpy as np
import pytest

from onnxcal.data import open_source
from onnxcal.data.npz import read_logits, read_npz
from onnxcal.errors import DataError
from tests.reference.refusals import refused

X = np.arange(12, dtype=np.float32).reshape(6, 2)
Y = np.array([0, 1, 0, 1, 1, 0])


@pytest.fixture
def npz(tmp_path):
    """Write arrays to an .npz and give its path."""

    def write(save=np.savez, **arrays):
        path = tmp_path / "data.npz"
        save(path, **arrays)
        return path

    return write


def only_batch(path, labels=None):
    (batch,) = open_source(path, labels).batches(1000)
    return batch


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_inputs_by_name_and_labels(npz, save):
    batch = only_batch(npz(save, left=X, right=X + 1, labels=Y))
    assert sorted(batch.inputs) == ["left", "right"]
    np.testing.assert_array_equal(batch.inputs["right"], X + 1)
    np.testing.assert_array_equal(batch.labels, Y)


@pytest.mark.parametrize("name", ["labels", "label", "y", "target", "targets"])
def test_labels_have_several_names(npz, name):
    batch = only_batch(npz(input=X, **{name: Y}))
    assert list(batch.inputs) == ["input"]
    np.testing.assert_array_equal(batch.labels, Y)


@pytest.mark.parametrize("first", range(4))
def test_the_first_of_the_names_wins_and_the_others_are_inputs(npz, first):
    names = ["labels", "label", "y", "target", "targets"][first:]
    batch = only_batch(npz(**{name: Y + i for i, name in enumerate(reversed(names))}))
    np.testing.assert_array_equal(batch.labels, Y + len(names) - 1)
    assert sorted(batch.inputs) == sorted(names[1:])


@pytest.mark.parametrize("name", ["y", "labels", "target"])
def test_an_array_that_is_a_model_input_is_no_label_whatever_its_name(npz, name):
    (batch,) = open_source(npz(**{name: X, "targets": Y}), inputs=[name]).batches(1000)
    np.testing.assert_array_equal(batch.inputs[name], X)
    np.testing.assert_array_equal(batch.labels, Y)


def test_a_file_without_labels_has_none(npz):
    assert only_batch(npz(x=X)).labels is None


def test_labels_passed_beside_replace_those_in_the_file(npz):
    batch = only_batch(npz(x=X, labels=Y), labels=1 - Y)
    np.testing.assert_array_equal(batch.labels, 1 - Y)
    assert list(batch.inputs) == ["x"]


def test_strings_are_inputs(npz):
    words = np.array(["a", "b", "c", "d", "e", "f"])
    np.testing.assert_array_equal(only_batch(npz(text=words, labels=Y)).inputs["text"], words)


def test_the_number_of_samples_is_known_beforehand(npz):
    path = npz(x=X, labels=Y)
    source = open_source(path)
    assert source.n_samples == 6
    assert str(path) in source.name


@pytest.mark.parametrize("size", [1, 4, 6, 100])
def test_batches_are_cut_to_size(npz, size):
    batches = list(open_source(npz(x=X, labels=Y)).batches(size))
    assert [batch.size for batch in batches] == [min(size, 6 - start) for start in range(0, 6, size)]
    np.testing.assert_array_equal(np.concatenate([batch.inputs["x"] for batch in batches]), X)
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in batches]), Y)


# What is refused


def test_a_file_of_labels_only_is_refused(npz):
    with refused(DataError, "data.npz", "no model inputs"):
        open_source(npz(labels=Y))


def test_a_file_of_nothing_is_refused(npz):
    with refused(DataError, "data.npz", "no model inputs"):
        open_source(npz())


def test_other_counts_of_labels_are_refused(npz):
    with refused(DataError, "data.npz", "6 samples but 5 labels"):
        open_source(npz(x=X, labels=Y[:5]))


def test_a_single_label_is_no_row_of_labels(npz):
    with refused(DataError, "6 samples but 0 labels"):
        open_source(npz(x=X, labels=np.int64(3)))


def test_inputs_of_different_lengths_are_refused(npz):
    with refused(DataError, "data.npz", "5, 6", hint="first axis"):
        open_source(npz(left=X, right=X[:5], labels=Y))


def test_no_samples_are_refused(npz):
    with refused(DataError, "data.npz", "no samples"):
        open_source(npz(x=X[:0], labels=Y[:0]))


def test_an_input_without_a_sample_axis_is_refused(npz):
    with refused(DataError, "input 'x'", "single number"):
        open_source(npz(x=np.float32(1), labels=Y))


@pytest.mark.parametrize("name", ["x", "labels"])
def test_pickled_arrays_are_refused(npz, name):
    arrays = {"x": X, "labels": Y} | {name: np.array([{}, []] * 3, object)}
    with refused(DataError, "data.npz", "pickled Python objects", hint="plain arrays"):
        open_source(npz(**arrays))


def test_a_pickle_is_refused_without_being_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    np.savez(tmp_path / "data.npz", x=X, labels=np.array([Trap()], object))
    with refused(DataError, "pickled"):
        open_source(tmp_path / "data.npz")
    assert not (tmp_path / "sprung").exists()


def test_complex_numbers_are_refused(npz):
    with refused(DataError, "input 'x'", "complex"):
        open_source(npz(x=X * 1j, labels=Y))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with refused(DataError, "cannot read", "nope.npz", "No such file", hint="check the path"):
        open_source(tmp_path / "nope.npz")


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "data.npz").mkdir()
    with refused(DataError, "cannot read", "data.npz"):
        open_source(tmp_path / "data.npz")


def damaged(npz, how):
    """A broken file, and a word of what may be said of it."""
    path = npz(np.savez_compressed, x=np.random.default_rng(0).normal(size=(500, 20)), labels=np.zeros(500, int))
    content = path.read_bytes()
    if how == "truncated":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = b""
    elif how == "text":
        content = b"x,y\n1,2\n"
    elif how == "flipped bits":
        content = content[:2000] + bytes(64) + content[2064:]
    elif how == "flipped compression":
        start = content.index(b"x.npy") + len(b"x.npy")
        content = content[: start + 24] + b"\xff" * 64 + content[start + 88 :]
    elif how == "no array inside":
        with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
            archive.writestr("x.npy", b"\x93NUMPY\x01\x00 not a header")
        content = buffer.getvalue()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "how", ["truncated", "empty", "text", "flipped bits", "flipped compression", "no array inside"]
)
def test_broken_files_are_refused_as_broken(npz, how):
    path = damaged(npz, how)
    with refused(DataError, f"'{path}'", "is not a readable NumPy file"):
        open_source(path)
    gc.collect()  # a file that is left open is a warning, hence an error


def test_an_npy_that_is_called_npz_is_refused(tmp_path):
    with (tmp_path / "data.npz").open("wb") as file:
        np.save(file, X)
    with refused(DataError, "data.npz", "single array", hint=".npy"):
        open_source(tmp_path / "data.npz")


# LOGITS.npz


def test_stored_logits_are_read(npz):
    stored = read_logits(npz(logits=X, labels=Y))
    np.testing.assert_array_equal(stored.logits, X)
    np.testing.assert_array_equal(stored.labels, Y)
    assert (stored.task, stored.output, stored.data_sha256) == (None, None, None)


def test_stored_logits_may_say_their_task_and_head(npz):
    stored = read_logits(npz(logits=X, labels=Y, task="multilabel", output="probs"))
    assert (stored.task, stored.output) == ("multilabel", "probs")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"logits": X}, "labels, only logits"),
        ({"labels": Y}, "logits, only labels"),
        ({"z": X, "y": Y}, "logits or labels, only y, z"),
        ({}, "only none at all"),
    ],
)
def test_missing_logits_or_labels_are_named(npz, arrays, said):
    with refused(DataError, "data.npz", said, hint="np.savez(path, logits=z, labels=y)"):
        read_logits(npz(**arrays))


def test_every_array_is_read_by_name(npz):
    arrays = read_npz(npz(x=X, labels=Y))
    assert sorted(arrays) == ["labels", "x"]
