"""`Batch` and `Source`: what every kind of data looks like from the inside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxcal.errors import DataError
from onnxcal.logits import as_array

AnyArray: TypeAlias = NDArray[Any]
Inputs: TypeAlias = Mapping[str, AnyArray] | tuple[AnyArray, ...]
"""Arrays by input name, or in input order; samples along axis 0."""
Truth: TypeAlias = AnyArray | Mapping[str, AnyArray]
"""Labels; for several heads by the name of the output, where the empty name stands for all others."""


@dataclass(frozen=True)
class Batch:
    """Some samples, as they came: nothing has been matched to a model yet."""

    inputs: Inputs
    """One array a model input; the first axis counts samples."""
    labels: Truth | None
    """One label (or row of labels) a sample, or such by head; None where the data has none."""

    @property
    def arrays(self) -> tuple[AnyArray, ...]:
        """The input arrays without their names."""
        return self.inputs if isinstance(self.inputs, tuple) else tuple(self.inputs.values())

    @property
    def size(self) -> int:
        """Samples in this batch."""
        return len(self.arrays[0])

    def slice(self, start: int, stop: int) -> Batch:
        """Samples `start` to `stop`."""
        inputs: Inputs
        if isinstance(self.inputs, Mapping):
            inputs = {name: array[start:stop] for name, array in self.inputs.items()}
        else:
            inputs = tuple(array[start:stop] for array in self.inputs)
        if isinstance(self.labels, Mapping):
            return Batch(inputs, {name: array[start:stop] for name, array in self.labels.items()})
        return Batch(inputs, None if self.labels is None else self.labels[start:stop])


class Source(Protocol):
    """Labelled data that can be read more than once."""

    @property
    def name(self) -> str:
        """How messages call it: a path, `module:callable`, or `the arrays`."""

    @property
    def n_samples(self) -> int | None:
        """How many samples there are, where that is known before reading them."""

    def batches(self, size: int) -> Iterator[Batch]:
        """All samples from the beginning, `size` at a time or in the batches that the source itself makes."""


def make_batch(inputs: Any, labels: Any, where: str) -> Batch:
    """A checked `Batch` of what a user passed.

    Raises
    ------
    DataError
        No inputs, arrays without a sample axis, or arrays of different lengths. Messages begin with `where`.
    """
    arrays: Inputs
    if _is_checked(inputs) and _is_checked(labels) and len(inputs) == len(labels):
        return Batch((inputs,), labels)  # the usual pair, at the cost of a tiny model's run
    if isinstance(inputs, Mapping):
        arrays = {str(name): _input_array(value, f"{where}: input '{name}'") for name, value in inputs.items()}
    elif isinstance(inputs, (tuple, list)) and all(_is_array(value) for value in inputs):
        arrays = tuple(_input_array(value, f"{where}: input {i}") for i, value in enumerate(inputs))
    else:
        arrays = (_input_array(inputs, f"{where}: the input"),)
    truth: Truth | None = None
    if isinstance(labels, Mapping):
        truth = {str(name): label_array(value, f"{where}: labels of '{name}'") for name, value in labels.items()}
    elif labels is not None:
        truth = label_array(labels, f"{where}: labels")
    batch = Batch(arrays, truth)
    if not batch.arrays:
        raise DataError(f"{where} holds no model inputs", hint="pass one array a model input")
    lengths = {len(array) for array in batch.arrays}
    if len(lengths) > 1:
        raise DataError(
            f"{where}: inputs have different numbers of samples: {', '.join(f'{n:,}' for n in sorted(lengths))}",
            hint="the first axis of every input counts samples",
        )
    for array in truth.values() if isinstance(truth, Mapping) else () if truth is None else (truth,):
        if array.ndim == 0 or len(array) != batch.size:
            n_labels = 0 if array.ndim == 0 else len(array)
            raise DataError(
                f"{where}: {batch.size:,} samples but {n_labels:,} labels", hint="there must be one label a sample"
            )
    return batch


def label_array(values: Any, what: str) -> AnyArray:
    """Labels as an array of numbers, or of strings that are class names.

    Raises
    ------
    DataError
        They are neither.
    """
    if isinstance(values, (list, tuple, np.ndarray)):
        texts = np.asarray(values) if not isinstance(values, np.ndarray) else values
        if texts.dtype.kind in "US" or (texts.dtype.kind == "O" and all(isinstance(t, str) for t in texts.reshape(-1))):
            return texts
    return as_array(values, what)


def _is_checked(value: Any) -> bool:
    """Whether there is nothing to convert and nothing to find fault with."""
    return type(value) is np.ndarray and value.dtype.kind in "biuf" and value.ndim > 0


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and getattr(value, "shape", ()) != ()


def _input_array(values: Any, what: str) -> AnyArray:
    array = values if isinstance(values, np.ndarray) and values.dtype.kind in "USO" else as_array(values, what)
    if array.dtype.kind == "O" and not all(isinstance(item, str) for item in array.reshape(-1)):
        raise DataError(f"{what} holds Python objects", hint="pass numbers, or strings for a string input")
    if array.ndim == 0:
        raise DataError(f"{what} is a single number, expected samples along the first axis", hint="add a batch axis")
    return array
