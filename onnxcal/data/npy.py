"""`.npy`: one input as a memory-mapped array, which may be larger than memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from onnxcal.data.arrays import ArraySource
from onnxcal.data.batch import AnyArray, Truth, make_batch
from onnxcal.data.npz import pop_labels, read_npz, unreadable
from onnxcal.errors import DataError


def open_npy(path: Path, labels: Truth | None) -> ArraySource:
    """The only input of a model, memory-mapped; labels come from elsewhere.

    Raises
    ------
    DataError
        The file cannot be read, or its length is not that of the labels.
    """
    return ArraySource(f"'{path}'", make_batch(read_npy(path), labels, f"'{path}'"))


def read_npy(path: Path) -> AnyArray:
    """A memory-mapped array.

    Raises
    ------
    DataError
        The file cannot be read or holds pickled objects.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(6)
        if head[:4] == b"PK\x03\x04":
            raise DataError(f"'{path}' is an .npz archive, not a single array", hint="rename it to .npz")
        if head != b"\x93NUMPY":
            raise DataError(
                f"'{path}' is not a readable NumPy file: no .npy array, or empty (pickled data is not read)",
                hint="write a plain array again: np.save(path, x)",
            )
        array: AnyArray = np.load(path, mmap_mode="r", allow_pickle=False)
    except DataError:
        raise
    except Exception as error:  # a damaged header fails in tokenize, ast or numpy, each in its own way
        raise unreadable(path, error) from None
    return array


def read_labels(path: Path) -> Truth:
    """Labels from a `.npy`, or from an `.npz` that holds them under one of their names, by head, or alone.

    Raises
    ------
    DataError
        The file cannot be read, or it is not clear which array holds the labels.
    """
    if path.suffix != ".npz":
        return read_npy(path)
    arrays = read_npz(path)
    labels = pop_labels(arrays)
    if labels is not None:
        return labels
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    raise DataError(
        f"'{path}' has no array named labels, only {', '.join(sorted(arrays))}", hint="name the labels 'labels'"
    )
