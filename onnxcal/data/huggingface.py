"""A Hugging Face `datasets.Dataset`: one that the caller holds, known by its methods, or one that was saved to disk."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxcal.data.arrow import column_array, refuse_missing
from onnxcal.data.batch import AnyArray, Batch, label_array
from onnxcal.data.columns import Columns, choose_columns
from onnxcal.data.images import check_fits
from onnxcal.data.picture import prepared, require_pillow
from onnxcal.data.preprocess import Preprocess
from onnxcal.data.streamed import StreamedSource
from onnxcal.data.wanted import Declared
from onnxcal.errors import DataError, UsageError
from onnxcal.logits import Task, as_array

SAVED = ("state.json", "dataset_info.json", "dataset_dict.json")
"""What `save_to_disk` leaves in a folder."""


def is_dataset(data: Any) -> bool:
    """Whether `data` looks like a `Dataset`, an `IterableDataset`, or a dict of them; the library is not imported."""
    return hasattr(data, "column_names") and (callable(getattr(data, "iter", None)) or isinstance(data, Mapping))


def is_saved_dataset(folder: Path) -> bool:
    """Whether a folder is what `save_to_disk` makes."""
    return any((folder / name).is_file() for name in SAVED)


def load_saved(folder: Path) -> Any:
    """What `save_to_disk` wrote.

    Raises
    ------
    UsageError
        The library `datasets` is not installed.
    DataError
        The folder cannot be read.
    """
    try:
        import datasets
    except ImportError:
        raise UsageError(
            f"'{folder}' is a saved Hugging Face dataset, and the library that reads it is not installed",
            hint="pip install datasets",
        ) from None
    try:
        return datasets.load_from_disk(str(folder))
    except Exception as error:  # a damaged folder fails in json, pyarrow or datasets, each in its own way
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(f"'{folder}' cannot be read as a saved dataset: {reason}", hint="save it again") from None


class DatasetSource(StreamedSource):
    """Rows of a dataset: columns are model inputs, or features of the only one, and the labels.

    A column of images goes through `Preprocess`. Labels are class names where the model names its classes too.
    """

    def __init__(
        self,
        dataset: Any,
        name: str,
        inputs: Collection[str] | Mapping[str, Declared] = (),
        classes: Sequence[str | int] | None = None,
        preprocess: Preprocess | None = None,
        label_column: str | None = None,
    ) -> None:
        """Look at the first row.

        Parameters
        ----------
        dataset : has `column_names`, `features` and `iter(batch_size=…)`.
        name : how messages call it.
        inputs, classes : what the model wants, and calls its classes, where that is known.
        preprocess : for a column of images.
        label_column : name of the column of labels.

        Raises
        ------
        DataError
            It is several splits, is empty, or its columns do not fit the model.
        UsageError
            `preprocess` was passed and there are no images, or the other way round.
        """
        self.name = name
        if isinstance(dataset, Mapping) or isinstance(dataset.column_names, Mapping):
            splits = list(dataset)
            raise DataError(
                f"{name} holds several splits: {', '.join(map(str, splits))}",
                hint=f"pass one of them: data[{splits[-1]!r}], or its folder" if splits else "it is empty",
            )
        self._features = getattr(dataset, "features", None) or {}
        self._how = preprocess
        custom = isinstance(getattr(dataset, "format", None), Mapping) and dataset.format.get("type") == "custom"
        self._raw = dataset if custom else _formatted(dataset, None)
        row = next(iter(self._raw.iter(batch_size=1)), None)
        if row is None:
            raise DataError(f"{name} holds no samples", hint="pass at least one labelled sample")
        images = [column for column, values in row.items() if _is_image(values[0])]
        vectors = [column for column, values in row.items() if np.ndim(values[0]) > 0]
        self._columns = self._choose(list(row), images, inputs, label_column, vectors)
        if not custom:
            if hasattr(dataset, "select_columns"):
                dataset = dataset.select_columns(list(self._columns.names))
            dataset = _formatted(dataset, None if images else "arrow")  # "numpy" makes float32 of float64
        self._dataset = dataset
        self.n_samples = len(dataset) if hasattr(dataset, "__len__") else None
        self._names = _class_names(self._features.get(self._columns.label))
        self._as_names = classes is not None and any(isinstance(one, str) for one in classes) and bool(self._names)
        self.notes = self._columns.notes(
            [column for column, feature in self._features.items() if getattr(feature, "dtype", "") == "float64"]
        )
        first = self._batch(row, 0)
        self.sample_bytes = sum(array.nbytes for array in first.arrays)
        if self._how is not None and isinstance(inputs, Mapping) and len(inputs) == 1:
            ((input_name, wanted),) = inputs.items()
            check_fits(f"{name}: an image", first.arrays[0][0], self._how, input_name, wanted)

    def chunks(self, size: int) -> Iterator[Batch]:
        """`size` rows at a time, at most 1,000.

        Raises
        ------
        DataError
            A value is missing, or none that the model's input can take; or the dataset fails.
        """
        position = 0
        rows = self._dataset.iter(batch_size=min(size, 1000))
        while True:
            try:
                row = next(rows, None)
            except Exception as error:  # of a transform, a decoder, or a stream
                reason = (str(error).splitlines() or [""])[0]
                raise DataError(
                    f"{self.name} raised {type(error).__name__} after {position:,} samples: {reason}",
                    hint="read it through on its own first",
                ) from error
            if row is None:
                return
            batch = self._batch(row, position)
            position += batch.size
            yield batch

    def check_classes(self, output: str, task: Task, num_classes: int) -> None:
        """Raise DataError if the labels' feature names another number of classes."""
        if self._names and not self._as_names and len(self._names) != num_classes:
            raise DataError(
                f"{self.name}: column '{self._columns.label}' has {len(self._names):,} classes, but '{output}' has "
                f"{num_classes:,}",
                hint="pass the dataset that the model was trained for, or map its labels to the model's classes",
            )

    def _choose(
        self,
        names: list[str],
        images: Sequence[str],
        inputs: Collection[str] | Mapping[str, Declared],
        label_column: str | None,
        vectors: Sequence[str],
    ) -> Columns:
        if images and self._how is None:
            raise UsageError(
                f"{self.name}: column '{images[0]}' holds images, and how they become inputs is not said",
                hint="pass --preprocess: a preset such as imagenet, or a .toml or .json file",
            )
        if self._how is None:
            return choose_columns(names, inputs, label_column, self.name, vectors)
        if len(images) != 1:
            raise UsageError(
                f"{self.name} has {len(images) or 'no'} columns of images, and --preprocess is for one",
                hint="leave --preprocess out" if not images else "keep one of them: data.remove_columns(…)",
            )
        require_pillow()
        known = dict(inputs) if isinstance(inputs, Mapping) else dict.fromkeys(inputs)
        label = choose_columns(names, (), label_column, self.name).label
        others = tuple(name for name in names if name not in (images[0], label))
        return Columns(self.name, (images[0],), label, known, False, others)

    def _batch(self, row: Any, position: int) -> Batch:
        """Some rows: a dict of columns, or an Arrow table."""
        columns = self._columns
        arrays: dict[str, AnyArray] = {}
        for name in columns.names:
            what = f"{self.name}: column '{name}'"
            if self._how is not None and name in columns.features:
                arrays[name] = self._images(row[name], position)
            elif name == columns.label and self._as_names:
                arrays[name] = self._named(_array(row[name], what, position), what, position)
            else:
                arrays[name] = _array(row[name], what, position)
        if self._how is not None:
            return Batch((arrays[columns.features[0]],), None if columns.label is None else arrays[columns.label])
        return columns.batch(arrays, position)

    def _images(self, images: Sequence[Any], position: int) -> AnyArray:
        assert self._how is not None
        made = []
        for i, image in enumerate(images):
            name = f"the image of sample {position + i} of {self.name}"
            if not _is_image(image):
                raise DataError(f"{name} is missing", hint="drop that sample")
            made.append(prepared(image, self._how, name))
            if made[-1].shape != made[0].shape or (self.sample_bytes and made[-1].nbytes != self.sample_bytes):
                raise DataError(
                    f"{name} becomes an input of shape {made[-1].shape}, others do not",
                    hint="write resize = [height, width], or resize and crop, in the preprocess file",
                )
        return np.stack(made)

    def _named(self, labels: AnyArray, what: str, position: int) -> AnyArray:
        """The names of classes by number."""
        wrong = ~np.isin(labels, np.arange(len(self._names)))
        if wrong.any():
            first = int(np.argmax(wrong))
            raise DataError(
                f"{what} holds {labels[first]} in sample {position + first}, which is none of its "
                f"{len(self._names):,} classes",
                hint="drop samples without a label",
            )
        return np.asarray(self._names)[labels.astype(np.int64)]


def _formatted(dataset: Any, kind: str | None) -> Any:
    return dataset.with_format(kind) if hasattr(dataset, "with_format") else dataset


def _is_image(value: Any) -> bool:
    return hasattr(value, "convert") and hasattr(value, "getexif")


def _class_names(feature: Any) -> tuple[str, ...]:
    names = getattr(feature, "names", None)
    return tuple(map(str, names)) if isinstance(names, (list, tuple)) else ()


def _array(values: Any, what: str, position: int) -> AnyArray:
    """A column as the dataset gives it."""
    if hasattr(values, "combine_chunks"):
        return column_array(values.combine_chunks(), what, position)
    if isinstance(values, (list, tuple)):
        missing = np.array([value is None for value in values])
        refuse_missing(missing, what, position)
        shapes = {np.shape(value) for value in values if not isinstance(value, str)}
        if len(shapes) > 1:
            raise DataError(f"{what} holds lists of different lengths", hint="pad or cut them to one length")
    array = np.asarray(values)
    if array.dtype == object:
        refuse_missing(np.array([value is None for value in array.reshape(-1)]).reshape(array.shape), what, position)
        if not all(isinstance(value, str) for value in array.reshape(-1)):
            raise DataError(f"{what} holds neither equally long lists of numbers nor text", hint="pad or cut them")
    if array.dtype.kind in "USO":
        return np.asarray(label_array(array, what), object)
    array = as_array(array, what)
    if array.dtype.kind == "f":
        refuse_missing(np.isnan(array), what, position)
    return array
