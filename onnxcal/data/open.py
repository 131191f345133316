"""`open_source`: from what a user passes as DATA to a `Source`."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from onnxcal.data.arrays import ArraySource
from onnxcal.data.batch import Source, Truth, label_array, make_batch
from onnxcal.data.function import open_function
from onnxcal.data.iterables import IterableSource, ReplayedSource
from onnxcal.data.npy import open_npy, read_labels
from onnxcal.data.npz import open_npz, pop_labels
from onnxcal.data.reader import is_reader, open_reader
from onnxcal.errors import DataError, UsageError


def open_source(data: Any, labels: Any = None, *, inputs: Collection[str] = ()) -> Source:
    """A source of labelled batches.

    Parameters
    ----------
    data : a path to `.npz` or `.npy`; `module:callable` or `file.py:callable`; an array, a pair (inputs, labels) of
        arrays, a dict of arrays by input name; a callable that yields batches; a `CalibrationDataReader`; or any
        iterable of `(inputs, labels)` batches.
    labels : a path to `.npy` or `.npz`, or an array; for data that does not bring its own.
    inputs : names of the model's inputs, where known: an array of such a name is no label, whatever it is called.

    Raises
    ------
    DataError
        The data cannot be read, or its parts do not fit.
    UsageError
        Labels were passed for data that brings its own with each batch.
    """
    truth = _open_labels(labels)
    if isinstance(data, (str, os.PathLike)):
        return _open_path(os.fspath(data), truth, inputs)
    if is_reader(data):
        return open_reader(data, truth)
    if isinstance(data, Mapping):
        arrays = dict(data)
        own = pop_labels(arrays, inputs)
        return ArraySource("the arrays", make_batch(arrays, own if truth is None else truth, "the arrays"))
    if isinstance(data, tuple) and len(data) == 2 and truth is None and _is_pair(*data):
        return ArraySource("the arrays", make_batch(*data, "the arrays"))
    if hasattr(data, "shape"):
        return ArraySource("the arrays", make_batch(data, truth, "the arrays"))
    return _open_iterable(data, truth)


def _open_labels(labels: Any) -> Truth | None:
    if labels is None:
        return None
    if isinstance(labels, (str, os.PathLike)):
        return read_labels(Path(labels))
    if isinstance(labels, Mapping):
        return {str(name): label_array(array, f"labels of '{name}'") for name, array in labels.items()}
    return label_array(labels, "labels")


def _open_path(data: str, labels: Truth | None, inputs: Collection[str]) -> Source:
    path = Path(data)
    if path.suffix == ".npz":
        return open_npz(path, labels, inputs)
    if path.suffix == ".npy":
        return open_npy(path, labels)
    if path.is_dir():
        raise DataError(
            f"'{data}' is a folder; folders of images cannot be read yet",
            hint="write a function that yields (inputs, labels) batches and pass --data file.py:function",
        )
    if ":" in data and not path.exists():
        return open_function(data, labels)
    if not path.exists():
        raise DataError(f"cannot read '{data}': no such file", hint="check the path")
    raise DataError(
        f"'{data}' is no kind of data that is known",
        hint="pass an .npz, an .npy with --labels, or module:callable",
    )


def _open_iterable(data: Any, labels: Truth | None) -> Source:
    _refuse_labels(labels, "batches")
    if isinstance(data, Iterator):
        return ReplayedSource("the batches", data)
    if isinstance(data, Iterable):
        return IterableSource("the batches", _again(data))
    if callable(data):
        return IterableSource(getattr(data, "__name__", "the callable"), data)
    raise DataError(
        f"data of type {type(data).__name__} cannot be read",
        hint="pass a path, arrays, or an iterable of (inputs, labels) batches",
    )


def _again(batches: Iterable[Any]) -> Callable[[], Iterable[Any]]:
    return lambda: batches


def _is_pair(inputs: Any, labels: Any) -> bool:
    """Whether two things are (inputs, labels) rather than two batches."""
    if isinstance(inputs, (tuple, list)) and isinstance(labels, (tuple, list)):
        return False
    return hasattr(labels, "shape") or isinstance(labels, (list, tuple, Mapping))


def _refuse_labels(labels: Truth | None, data: str) -> None:
    if labels is not None:
        raise UsageError(f"--labels does not go with {data}", hint="yield the labels with each batch of inputs")
