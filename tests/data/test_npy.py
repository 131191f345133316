"""`.npy` with labels from elsewhere: memory-mapped, never read whole."""

from __future__ import annotations

import gc
import pickle

import numpy as np
import pytest

from onnxcal.data import open_source
from onnxcal.data.npy import read_labels
from onnxcal.errors import DataError
from tests.reference.refusals import refused

X = np.arange(12, dtype=np.float32).reshape(6, 2)
Y = np.array([0, 1, 0, 1, 1, 0])


@pytest.fixture
def files(tmp_path):
    """An x.npy and a y.npy."""
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    return tmp_path


def test_the_array_is_the_only_input(files):
    source = open_source(files / "x.npy", files / "y.npy")
    (batch,) = source.batches(100)
    (array,) = batch.inputs
    np.testing.assert_array_equal(array, X)
    np.testing.assert_array_equal(batch.labels, Y)
    assert source.n_samples == 6
    assert str(files / "x.npy") in source.name


def test_paths_may_be_strings(files):
    (batch,) = open_source(str(files / "x.npy"), str(files / "y.npy")).batches(100)
    np.testing.assert_array_equal(batch.labels, Y)


def test_inputs_and_labels_are_memory_mapped(files):
    (batch,) = open_source(files / "x.npy", files / "y.npy").batches(100)
    assert isinstance(batch.inputs[0], np.memmap)
    assert isinstance(batch.labels, np.memmap)


def test_the_file_is_opened_for_reading_only(files):
    (batch,) = open_source(files / "x.npy").batches(100)
    assert not batch.inputs[0].flags.writeable


def test_a_file_larger_than_memory_is_read_where_it_is_needed(tmp_path):
    n, features = 1024, 2**27  # a terabyte, of which the disk holds nothing but the header
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (n, features)}
        np.lib.format.write_array_header_1_0(file, header)
        try:
            file.truncate(file.tell() + 8 * n * features)
        except OSError:
            pytest.skip("this file system holds no sparse file of a terabyte")
    source = open_source(path, np.arange(n) % 10)
    assert source.n_samples == n
    *_, last = source.batches(1)
    assert last.inputs[0].shape == (1, features)
    assert last.inputs[0][0, -1] == 0.0
    assert last.labels == [3]


def test_batches_are_cut_to_size(files):
    batches = list(open_source(files / "x.npy", files / "y.npy").batches(4))
    assert [batch.size for batch in batches] == [4, 2]
    np.testing.assert_array_equal(batches[1].inputs[0], X[4:])
    np.testing.assert_array_equal(batches[1].labels, Y[4:])


def test_labels_may_be_an_array(files):
    (batch,) = open_source(files / "x.npy", Y.tolist()).batches(100)
    np.testing.assert_array_equal(batch.labels, Y)


@pytest.mark.parametrize("arrays", [{"labels": Y}, {"y": Y, "x": X}, {"whatever": Y}, {"target": Y, "labels2": X}])
def test_labels_may_be_in_an_npz(files, arrays):
    np.savez(files / "y.npz", **arrays)
    np.testing.assert_array_equal(read_labels(files / "y.npz"), Y)


def test_an_npz_that_does_not_say_which_are_the_labels_is_refused(files):
    np.savez(files / "y.npz", a=Y, b=Y)
    with refused(DataError, "y.npz", "only a, b", hint="'labels'"):
        open_source(files / "x.npy", files / "y.npz")


@pytest.mark.parametrize("n", [5, 7])
def test_other_counts_of_labels_are_refused(files, n):
    with refused(DataError, "x.npy", f"6 samples but {n} labels"):
        open_source(files / "x.npy", np.zeros(n, int))


def test_no_samples_are_refused(files):
    np.save(files / "x.npy", X[:0])
    with refused(DataError, "x.npy", "no samples"):
        open_source(files / "x.npy")


def test_a_single_number_is_refused(files):
    np.save(files / "x.npy", np.float32(1))
    with refused(DataError, "x.npy", "single number"):
        open_source(files / "x.npy")


@pytest.mark.parametrize("name", ["x.npy", "y.npy"])
def test_a_file_that_is_not_there_is_refused(files, name):
    (files / name).unlink()
    with refused(DataError, "cannot read", name, "No such file"):
        open_source(files / "x.npy", files / "y.npy")


@pytest.mark.parametrize("name", ["x.npy", "y.npy"])
def test_pickled_objects_are_refused(files, name):
    np.save(files / name, np.array([{}, []] * 3, object))
    with refused(DataError, name, "Python objects", hint="plain arrays"):
        open_source(files / "x.npy", files / "y.npy")


def test_a_pickle_is_refused_without_being_run(files):
    class Trap:
        def __reduce__(self):
            return (open, (str(files / "sprung"), "w"))

    (files / "x.npy").write_bytes(pickle.dumps(Trap()))
    with refused(DataError, "x.npy", "pickled", hint="plain array"):
        open_source(files / "x.npy")
    assert not (files / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"x,y\n1,2\n", b"\x93NUMPY\x01\x00 not a header", None])
@pytest.mark.parametrize("name", ["x.npy", "y.npy"])
def test_broken_files_are_refused_as_broken(files, name, content):
    path = files / name
    path.write_bytes(path.read_bytes()[:-8] if content is None else content)
    with refused(DataError, f"'{path}'", "is not a readable NumPy file"):
        open_source(files / "x.npy", files / "y.npy")


def test_an_npz_that_is_called_npy_is_refused(files):
    with (files / "x.npy").open("wb") as file:
        np.savez(file, x=X)
    with refused(DataError, "x.npy", ".npz archive", hint=".npz"):
        open_source(files / "x.npy")
    gc.collect()  # a file that is left open is a warning, hence an error
