"""Several `.npz` of one set."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcal.data import npz_shards, open_source
from onnxcal.errors import DataError, UsageError
from tests.reference.refusals import refused

X = np.arange(24, dtype=np.float32).reshape(12, 2)
Y = np.arange(12) % 3


@pytest.fixture
def shards(tmp_path):
    """Four files with 5, 0, 1 and 6 samples, and the pattern that they match."""
    for number, part in enumerate(np.split(np.arange(12), [5, 5, 6])):
        save = np.savez if number % 2 else np.savez_compressed
        save(tmp_path / f"shard-{number}.npz", x=X[part], labels=Y[part])
    return tmp_path / "shard-*.npz"


def everything(source, size):
    batches = list(source.batches(size))
    arrays = [batch.inputs["x"] for batch in batches], [batch.labels for batch in batches]
    return [np.concatenate(parts) for parts in arrays]


@pytest.mark.parametrize("size", [1, 4, 5, 100])
def test_shards_are_one_set_in_the_order_of_their_names(shards, size):
    source = open_source(shards)
    assert source.n_samples == 12
    assert [b.size for b in source.batches(size)] == [min(size, 12 - start) for start in range(0, 12, size)]
    x, y = everything(source, size)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)


def test_a_list_of_paths_is_read_in_its_order(shards):
    paths = [shards.parent / "shard-3.npz", str(shards.parent / "shard-0.npz")]
    x, _ = everything(open_source(paths), 4)
    np.testing.assert_array_equal(x, np.concatenate([X[6:], X[:5]]))


def test_one_shard_at_a_time_is_in_memory(shards, monkeypatch):
    read = []
    monkeypatch.setattr(npz_shards, "read_npz", lambda path: read.append(path.name) or dict(np.load(path)))
    batches = open_source(shards).batches(3)
    assert read == []
    next(batches)
    assert read == ["shard-0.npz"]
    list(batches)
    assert read == [f"shard-{i}.npz" for i in range(4)]


def test_labels_by_head_and_arrays_that_are_inputs_are_known_as_in_one_file(tmp_path):
    for number in range(2):
        np.savez(tmp_path / f"{number}.npz", y=X, labels_a=Y, labels_b=-Y)
    (batch, _) = open_source(str(tmp_path / "*.npz"), inputs=["y"]).batches(12)
    np.testing.assert_array_equal(batch.inputs["y"], X)
    np.testing.assert_array_equal(batch.labels["b"], -Y)


def test_a_file_with_a_pattern_in_its_name_is_a_file(tmp_path):
    np.savez(tmp_path / "set[1].npz", x=X, labels=Y)
    assert open_source(tmp_path / "set[1].npz").n_samples == 12


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": X, "y": Y}, "holds the arrays 'x', 'y'"),
        ({"x": X}, "holds the arrays 'x'"),
        ({"x": X[:, :1], "labels": Y}, "array 'x' of"),
        ({"x": X, "labels": np.eye(3)[Y]}, "array 'labels' of"),
        ({"x": X.astype(np.uint8), "labels": Y}, "array 'x' of"),
        ({"x": X, "labels": Y.astype(str)}, "array 'labels' of"),
    ],
)
def test_shards_that_differ_are_refused(shards, arrays, said):
    np.savez(shards.parent / "shard-9.npz", **arrays)
    with refused(DataError, "shard-9.npz", said, hint="shards"):
        open_source(shards)


def test_shards_may_have_other_sizes_of_a_type_and_an_empty_one_any_type(shards):
    np.savez(shards.parent / "shard-0.npz", x=np.zeros((0, 2), np.uint8), labels=np.array([]))
    np.savez(shards.parent / "shard-9.npz", x=X.astype(np.float16), labels=Y.astype(np.uint8))
    x, y = everything(open_source(shards), 4)
    np.testing.assert_array_equal(x, np.concatenate([X[5:], X]))
    np.testing.assert_array_equal(y, np.concatenate([Y[5:], Y]))


def test_a_shard_whose_arrays_differ_in_length_is_refused(shards):
    np.savez(shards.parent / "shard-9.npz", x=X, labels=Y[:3])
    with refused(DataError, "shard-9.npz", "12 samples but 3 labels"):
        everything(open_source(shards), 4)


def test_a_broken_shard_is_refused(shards):
    (shards.parent / "shard-9.npz").write_bytes(b"PK\x03\x04 cut off")
    with refused(DataError, "shard-9.npz", "not a readable NumPy file"):
        open_source(shards)


def test_what_is_no_shard_is_refused(shards, tmp_path):
    with refused(DataError, "no file matches", hint="quotes"):
        open_source(str(tmp_path / "part-*.npz"))
    with refused(DataError, "nope.npz", hint="check the path"):
        open_source([shards.parent / "shard-0.npz", "nope.npz"])
    np.save(tmp_path / "shard-x.npy", X)
    with refused(DataError, "shard-x.npy", hint="several .npz"):
        open_source(str(tmp_path / "shard-*"))
    with refused(UsageError, "--labels"):
        open_source(shards, Y)
