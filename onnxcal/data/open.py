"""`open_source`: from what a user passes as DATA to a `Source`."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxcal.data.arrays import ArraySource
from onnxcal.data.batch import Source, Truth, label_array, make_batch
from onnxcal.data.function import open_function
from onnxcal.data.huggingface import DatasetSource, is_dataset, is_saved_dataset, load_saved
from onnxcal.data.images import ImageFolder
from onnxcal.data.iterables import IterableSource, ReplayedSource
from onnxcal.data.npy import open_npy, read_labels
from onnxcal.data.npz import open_npz, pop_labels
from onnxcal.data.npz_shards import NpzShards
from onnxcal.data.preprocess import Preprocess, open_preprocess
from onnxcal.data.reader import is_reader, open_reader
from onnxcal.data.tables import TableSource, is_table
from onnxcal.data.wanted import Declared
from onnxcal.errors import DataError, UsageError


@dataclass(frozen=True)
class _Reading:
    """How some kinds of data are read, and what is known of the model that they are for."""

    inputs: Collection[str] | Mapping[str, Declared]
    classes: Sequence[str | int] | None
    preprocess: Preprocess | None
    label_column: str | None


def open_source(
    data: Any,
    labels: Any = None,
    *,
    preprocess: Any = None,
    label_column: str | None = None,
    inputs: Collection[str] | Mapping[str, Declared] = (),
    classes: Sequence[str | int] | None = None,
) -> Source:
    """A source of labelled batches.

    Parameters
    ----------
    data : a path to `.npz` or `.npy`, to `.csv` or `.parquet`, of a folder of class folders of images or of a saved
        Hugging Face dataset; a pattern such as `shard-*.npz`, or a list of paths; `module:callable` or
        `file.py:callable`; an array, a pair (inputs, labels) of arrays, a dict of arrays by input name; a Hugging Face
        dataset; a callable that yields batches; a `CalibrationDataReader`; or any iterable of `(inputs, labels)`
        batches.
    labels : a path to `.npy` or `.npz`, or an array; for data that does not bring its own.
    preprocess : how images become inputs, see `onnxcal.data.preprocess.open_preprocess`.
    label_column : the column of labels of a table or dataset; default the first of `labels`, `label`, `y`, `target`,
        `targets` and `class`.
    inputs : names of the model's inputs, where known: an array of such a name is no label, whatever it is called. With
        what the model declares of each, data that are made for it are made to fit.
    classes : what the model calls its classes, in the order of its logits.

    Raises
    ------
    DataError
        The data cannot be read, or its parts do not fit.
    UsageError
        An option was passed that does nothing for such data, or is not understood.
    """
    how = None if preprocess is None else open_preprocess(preprocess)
    reading = _Reading(inputs, classes, how, label_column)
    truth = _open_labels(labels)
    source = _open(data, truth, reading)
    if how is not None and not isinstance(source, (ImageFolder, DatasetSource)):
        raise UsageError(f"--preprocess is for folders of images, and {source.name} is none", hint="leave it out")
    if label_column is not None and not isinstance(source, (TableSource, DatasetSource)):
        raise UsageError(f"--label-column is for tables, and {source.name} is none", hint="leave it out")
    return source


def paths_of(data: Any) -> list[str]:
    """The files and folders that a user's DATA names; none for data in memory."""
    if isinstance(data, (str, os.PathLike)):
        path = os.fspath(data)
        return sorted(glob.glob(path)) if _is_pattern(path) else [path]
    if isinstance(data, (list, tuple)):
        return [os.fspath(path) for path in data if isinstance(path, (str, os.PathLike))]
    return []


def _open(data: Any, truth: Truth | None, reading: _Reading) -> Source:
    inputs = reading.inputs
    if isinstance(data, (str, os.PathLike)):
        return _open_path(os.fspath(data), truth, reading)
    if is_dataset(data):
        _refuse_labels(truth, "a dataset", "name the column of labels with --label-column")
        return _open_dataset(data, "the dataset", reading)
    if isinstance(data, (list, tuple)) and data and all(isinstance(item, (str, os.PathLike)) for item in data):
        return _open_shards([Path(path) for path in data], truth, reading)
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


def _open_path(data: str, labels: Truth | None, reading: _Reading) -> Source:
    if not data:
        raise DataError("the path of the data is empty", hint="pass a file, a folder, or module:callable")
    path = Path(data)
    if _is_pattern(data):
        found = paths_of(data)
        if not found:
            raise DataError(f"no file matches '{data}'", hint="check the pattern, and that it is in quotes")
        return _open_shards([Path(one) for one in found], labels, reading)
    if path.suffix == ".npz":
        return open_npz(path, labels, reading.inputs)
    if path.suffix == ".npy":
        return open_npy(path, labels)
    if path.is_dir():
        return _open_folder(path, labels, reading)
    if is_table(path):
        return _open_shards([path], labels, reading)
    if ":" in data and not path.exists():
        return open_function(data, labels)
    if not path.exists():
        raise DataError(f"cannot read '{data}': no such file", hint="check the path")
    raise DataError(
        f"'{data}' is no kind of data that is known",
        hint="pass an .npz, an .npy with --labels, a .csv or .parquet, a folder of images, or module:callable",
    )


def _open_folder(path: Path, labels: Truth | None, reading: _Reading) -> Source:
    if is_saved_dataset(path):
        _refuse_labels(labels, "a dataset", "name the column of labels with --label-column")
        return _open_dataset(load_saved(path), f"'{path}'", reading)
    _refuse_labels(labels, "a folder of images", "the folders are the labels")
    if reading.preprocess is None:
        raise UsageError(
            f"'{path}' is a folder, and how images in it become inputs is not said",
            hint="pass --preprocess: a preset such as imagenet, or a .toml or .json file; or --data file.py:function",
        )
    return ImageFolder(path, reading.preprocess, reading.inputs, reading.classes)


def _open_dataset(dataset: Any, name: str, reading: _Reading) -> Source:
    return DatasetSource(
        dataset, name, reading.inputs, reading.classes, reading.preprocess, label_column=reading.label_column
    )


def _open_shards(paths: Sequence[Path], labels: Truth | None, reading: _Reading) -> Source:
    if all(map(is_table, paths)):
        _refuse_labels(labels, "a table", "name the column of labels with --label-column")
        return TableSource(paths, reading.inputs, reading.classes, reading.label_column)
    other = next((path for path in paths if path.suffix != ".npz"), None)
    if other is not None:
        raise DataError(
            f"'{other}' cannot be one of several files of data",
            hint="pass several .npz, or several .csv or .parquet, and no other kind among them",
        )
    _refuse_labels(labels, "several files", "put an array named labels into each")
    return NpzShards(paths, reading.inputs)


def _is_pattern(path: str) -> bool:
    return any(mark in path for mark in "*?[") and not os.path.lexists(path)


def _open_iterable(data: Any, labels: Truth | None) -> Source:
    _refuse_labels(labels, "batches", "yield the labels with each batch of inputs")
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


def _refuse_labels(labels: Truth | None, data: str, hint: str) -> None:
    if labels is not None:
        raise UsageError(f"--labels does not go with {data}", hint=hint)
