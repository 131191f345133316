"""Which column of a table is which: one a model input, or all of them features of the only one; and the labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from onnxcal.data.batch import AnyArray, Batch, Inputs
from onnxcal.data.npz import LABEL_NAMES
from onnxcal.data.wanted import Declared
from onnxcal.errors import DataError, UsageError

LABEL_COLUMNS = (*LABEL_NAMES, "class")
"""What the column of labels may be called, first come first served."""
INDEX_COLUMNS = ("", "Unnamed: 0", "__index_level_0__")
"""What pandas makes of an index that is written too."""
_WITHOUT_INDEX = "write it with index=False"


@dataclass(frozen=True)
class Columns:
    """The columns that are read, and how they become a batch."""

    where: str
    """How messages call the data."""
    features: tuple[str, ...]
    """Columns that make the inputs, in the order of the data."""
    label: str | None
    """The column of labels, None where there is none."""
    inputs: Mapping[str, Declared | None]
    """What the model wants, by name; empty where that is not known."""
    by_name: bool
    """Whether each column is the input of its name."""
    left_out: tuple[str, ...] = ()
    """Columns that are neither."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every column to read."""
        return self.features if self.label is None else (*self.features, self.label)

    def notes(self, doubles: Collection[str] = ()) -> tuple[str, ...]:
        """Which columns were left out, and to what type those are cast that the data say are float64."""
        notes = []
        if self.left_out:
            notes.append(f"{self.where}: columns that are no model inputs were left out: {_listed(self.left_out)}")
        for dtype in ("float32", "float16"):
            cast = [
                name for name in self.features if name in doubles and getattr(self.wanted(name), "dtype", "") == dtype
            ]
            if cast:
                notes.append(f"{self.where}: columns of float64 were cast to {dtype}: {_listed(cast)}")
        return tuple(notes)

    def wanted(self, column: str) -> Declared | None:
        """What the model says of the input that a feature column goes into."""
        if self.by_name:
            return self.inputs[column]
        return next(iter(self.inputs.values()), None)

    def batch(self, arrays: Mapping[str, AnyArray], position: int) -> Batch:
        """The columns of some rows, of which the first has the number `position`.

        Raises
        ------
        DataError
            Values that the model's input cannot take.
        """
        labels = None if self.label is None else arrays[self.label]
        shown = {name: _fitting(arrays[name], self.wanted(name), self._what(name), position) for name in self.features}
        inputs: Inputs
        if self.by_name:
            inputs = {name: _with_rank(array, self.inputs[name]) for name, array in shown.items()}
        elif len(shown) == 1 and next(iter(shown.values())).ndim > 1:
            inputs = (next(iter(shown.values())),)
        else:
            inputs = (self._stacked(shown),)
        return Batch(inputs, labels)

    def _stacked(self, arrays: Mapping[str, AnyArray]) -> AnyArray:
        """(N, F)."""
        kinds = {name: "text" if array.dtype.kind in "USO" else "numbers" for name, array in arrays.items()}
        if len(set(kinds.values())) > 1:
            text = next(name for name, kind in kinds.items() if kind == "text")
            raise DataError(
                f"{self._what(text)} holds text, others hold numbers, and all go into one input",
                hint="leave it out, or encode it as was done for training",
            )
        nested = next((name for name, array in arrays.items() if array.ndim > 1), None)
        if nested is not None:
            raise DataError(
                f"{self._what(nested)} holds lists, and there are {len(arrays)} feature columns for one input",
                hint="leave the other columns out, or name the columns as the model's inputs",
            )
        return np.stack(list(arrays.values()), axis=1)

    def _what(self, column: str) -> str:
        return f"{self.where}: column '{column}'"


def choose_columns(
    names: Sequence[str],
    inputs: Collection[str] | Mapping[str, Declared],
    label_column: str | None,
    where: str,
    vectors: Collection[str] = (),
) -> Columns:
    """Which columns are inputs and which one the labels.

    Parameters
    ----------
    names : of all columns, in order.
    inputs : what the model wants, by name, where that is known.
    label_column : the name of the column of labels, None for one of `LABEL_COLUMNS` that is no input.
    where : how messages call the data.
    vectors : columns that hold lists, as far as the data say so: one of them can be all of an only input.

    Raises
    ------
    DataError
        Columns are missing, there are too many or too few, or two have the same name.
    UsageError
        There is no column `label_column`.
    """
    known = dict(inputs) if isinstance(inputs, Mapping) else dict.fromkeys(inputs)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{where} has two columns '{twice}'", hint="give every column a name of its own")
    label = _label(names, known, label_column, where)
    features = tuple(name for name in names if name != label)
    if not features:
        raise DataError(f"{where} holds no model inputs, only {_listed(names)}", hint="add columns of features")
    if (
        known
        and set(known) <= set(features)
        and (len(known) > 1 or len(features) == 1 or _is_single(known) or set(known) <= set(vectors))
    ):
        chosen = tuple(name for name in features if name in known)
        others = tuple(name for name in features if name not in known)
        return Columns(where, chosen, label, known, True, others)
    if len(known) > 1:
        missing = [name for name in known if name not in features]
        near = get_close_matches(missing[0], features, 1, cutoff=0.6)
        raise DataError(
            f"{where} lacks the model input{'s' if len(missing) > 1 else ''} {_listed(missing)}; its columns are "
            f"{_listed(names)}",
            hint=f"is '{near[0]}' it? Columns have the names of the inputs" if near else "name one column an input",
        )
    _check_count(features, known, label, where)
    index = next((name for name in features if name in INDEX_COLUMNS), None)
    if index is not None:  # a missing feature beside it, and the count is right
        raise DataError(
            f"{where}: column '{index}' looks like the index of a data frame, and would be a feature",
            hint=_WITHOUT_INDEX,
        )
    return Columns(where, features, label, known, False)


def _label(names: Sequence[str], known: Collection[str], label_column: str | None, where: str) -> str | None:
    if label_column is None:
        return next((name for name in LABEL_COLUMNS if name in names and name not in known), None)
    if label_column not in names:
        near = get_close_matches(label_column, names, 1, cutoff=0.5)
        listed = f"its columns are {_listed(names)}"
        raise UsageError(
            f"{where} has no column '{label_column}' for --label-column",
            hint=f"did you mean '{near[0]}'? {listed[0].upper()}{listed[1:]}" if near else listed,
        )
    return label_column


def _is_single(known: Mapping[str, Declared | None]) -> bool:
    """Whether the only input takes one number a sample."""
    wanted = next(iter(known.values()))
    return wanted is not None and wanted.shape is not None and wanted.shape[1:] in ((), (1,))


def _check_count(features: Sequence[str], known: Mapping[str, Declared | None], label: str | None, where: str) -> None:
    wanted = next(iter(known.values()), None)
    shape = None if wanted is None else wanted.shape
    if shape is None or len(features) == 1 or (len(shape) == 2 and shape[1] in (len(features), None)):
        return
    name = next(iter(known))
    if len(shape) == 2 and isinstance(shape[1], str):
        return
    shown = f"({', '.join('?' if w is None else str(w) for w in shape)})"
    found = f"beside the labels in '{label}'" if label else "and no column of labels"
    hint = "leave out columns that are no features, such as ids"
    if label is None:
        hint = f"name the column of labels with --label-column, or call it {', '.join(LABEL_COLUMNS)}"
    elif features[0] in INDEX_COLUMNS:
        hint = f"'{features[0]}' looks like the index of a data frame: {_WITHOUT_INDEX}"
    raise DataError(
        f"{where} has {len(features)} feature columns ({_listed(features)}), {found}; input '{name}' wants {shown}",
        hint=hint,
    )


def _fitting(array: AnyArray, wanted: Declared | None, what: str, position: int) -> AnyArray:
    """A column for a model's input, in its type; whole numbers that this would alter are refused."""
    if wanted is None or wanted.dtype == "unknown":
        return array
    is_text = array.dtype.kind in "USO"
    if (wanted.dtype == "string") != is_text:
        raise DataError(
            f"{what} holds {'text' if is_text else array.dtype.name}, the model wants "
            f"{wanted.dtype if is_text else 'text'}",
            hint="encode it as was done for training, or leave it out if it is no feature",
        )
    if array.dtype.kind not in "iuf" or not wanted.dtype.startswith("float"):
        return array
    with np.errstate(all="ignore"):
        cast: AnyArray = array.astype(wanted.dtype)
        altered = cast.astype(array.dtype) != array
    if array.dtype.kind == "f":
        return cast if np.isfinite(cast).all() else array  # what does not fit is refused where inputs are checked
    if altered.any():
        row = int(np.argmax(altered.reshape(len(array), -1).any(axis=1)))
        raise DataError(
            f"{what} holds whole numbers that {wanted.dtype} cannot hold: {array[row]} in sample {position + row}",
            hint="leave it out if it is an id, else scale it as was done for training",
        )
    return cast


def _with_rank(array: AnyArray, wanted: Declared | None) -> AnyArray:
    """(N, 1) for an input of two axes, as converters of data frames declare them."""
    rank = 2 if wanted is None or wanted.shape is None else len(wanted.shape)
    return array[:, None] if array.ndim == 1 and rank == 2 else array


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:8]) + (f" and {len(names) - 8:,} more" if len(names) > 8 else "")
