"""From a `Batch` as it came to what a model is fed: matched by name, cast where that is safe, checked, padded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.data import Batch, Source
from onnxcal.data.batch import Truth
from onnxcal.data.streamed import StreamedSource
from onnxcal.errors import DataError
from onnxcal.inference.blocks import blocks
from onnxcal.inference.session import InputSpec

SINGLE_INPUT_NAMES = ("inputs", "input", "x", "X", "images", "data")
"""What the only input of a model may be called in the data."""


@dataclass(frozen=True)
class Feed:
    """Inputs of one run, or of several equally large ones."""

    arrays: Mapping[str, NDArray[Any]]
    """By input name; `padded_size` samples along axis 0."""
    labels: Truth | None
    """`size` labels, or such by head; None where the data has none."""
    size: int
    """Samples that count; those behind them only fill up a fixed batch."""
    padded_size: int
    """Samples that are fed."""
    run_size: int
    """Samples that are fed at a time; `padded_size` is a multiple."""

    @property
    def runs(self) -> int:
        """How often the model is run."""
        return self.padded_size // self.run_size

    def part(self, start: int, stop: int) -> Feed:
        """Runs `start` to `stop`."""
        if start == 0 and stop == self.runs:
            return self
        cut = slice(start * self.run_size, stop * self.run_size)
        arrays = {name: array[cut] for name, array in self.arrays.items()}
        labels: Truth | None
        if isinstance(self.labels, Mapping):
            labels = {name: array[cut] for name, array in self.labels.items()}
        else:
            labels = None if self.labels is None else self.labels[cut]
        size = (stop - start) * self.run_size  # several runs are never filled up
        return Feed(arrays, labels, size, size, self.run_size)

    def labels_of(self, output: str) -> NDArray[Any] | None:
        """The labels of one head."""
        if isinstance(self.labels, Mapping):
            return self.labels.get(output, self.labels.get(""))
        return self.labels


class Feeder:
    """Makes `Feed`s for one model; `notes` says once what was changed on the way."""

    def __init__(self, inputs: Sequence[InputSpec], source: Source, batch_size: int) -> None:
        self.inputs = inputs
        self.source = source
        self.batch_size = batch_size
        self.fixed_size = _fixed_batch(inputs)
        self.notes: dict[str, None] = dict.fromkeys(source.notes if isinstance(source, StreamedSource) else ())

    def feeds(self, block_bytes: int = 0) -> Iterator[Feed]:
        """All samples of the source, from the beginning; several runs at a time where they fit into `block_bytes`.

        Raises
        ------
        DataError
            Inputs that are missing, too many, of the wrong type or shape, NaN or infinite; or no samples at all.
        """
        position = 0
        size, fixed = self.fixed_size or self.batch_size, self.fixed_size is not None
        for batch, run_size in blocks(self.source, size, block_bytes, fixed=fixed):
            yield self.feed(batch, run_size, position)
            position += batch.size
        if position == 0:
            raise DataError(f"{self.source.name} holds no samples", hint="pass at least one labelled sample")

    def feed(self, batch: Batch, run_size: int, position: int) -> Feed:
        """Some samples, of which the first has the number `position`, as the model wants them; errors as of `feeds`."""
        arrays = {spec.name: self._array(spec, array, run_size, position) for spec, array in self._match(batch)}
        padded = batch.size
        if self.fixed_size is not None and batch.size < self.fixed_size:
            padded = run_size = self.fixed_size
            arrays = {name: _pad(array, padded) for name, array in arrays.items()}
        return Feed(arrays, batch.labels, batch.size, padded, run_size)

    def _match(self, batch: Batch) -> list[tuple[InputSpec, NDArray[Any]]]:
        given = batch.inputs
        names = [spec.name for spec in self.inputs]
        if not isinstance(given, Mapping):
            if len(given) != len(names):
                raise DataError(
                    f"{self.source.name} has {len(given)} inputs, the model has {len(names)}: {_listed(names)}",
                    hint="give one array a model input, in that order or as a dict by name",
                )
            return list(zip(self.inputs, given, strict=True))
        if len(names) == 1 and names[0] not in given:
            return [(self.inputs[0], self._only(given, names[0]))]
        missing = [name for name in names if name not in given]
        if missing:
            raise DataError(
                f"{self.source.name} lacks the model input{'s' if len(missing) > 1 else ''} {_listed(missing)}; "
                f"it has {_listed(list(given))}",
                hint="name each array as the model input it is for (onnxcal inspect lists them)",
            )
        extra = [name for name in given if name not in names]
        if extra:
            raise DataError(
                f"{self.source.name} has arrays that are neither model inputs nor labels: {_listed(extra)}",
                hint=f"leave them out; the model's inputs are {_listed(names)}",
            )
        return [(spec, given[spec.name]) for spec in self.inputs]

    def _only(self, given: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
        """The array for a model with one input that is not named as it."""
        if len(given) == 1:
            return next(iter(given.values()))
        known = [alias for alias in SINGLE_INPUT_NAMES if alias in given]
        if len(known) == 1:
            extra = [other for other in given if other != known[0]]
            raise DataError(
                f"{self.source.name} has arrays that are neither model inputs nor labels: {_listed(extra)}",
                hint=f"leave them out; the model's only input is '{name}'",
            )
        raise DataError(
            f"{self.source.name} has no array for the model input '{name}', only {_listed(list(given))}",
            hint=f"name the inputs '{name}' and the labels 'labels'",
        )

    def _array(self, spec: InputSpec, array: NDArray[Any], run_size: int, position: int) -> NDArray[Any]:
        what = f"{self.source.name}: input '{spec.name}'"
        if spec.shape is not None:
            _check_shape(what, (run_size, *array.shape[1:]), spec.shape, self.fixed_size)
        cast = self._cast(what, spec.dtype, array)
        if cast.dtype.kind == "f" and not np.isfinite(cast).all():
            bad = ~np.isfinite(cast.reshape(len(cast), -1)).all(axis=1)
            first = int(np.argmax(bad))
            before = np.isfinite(np.asarray(array[first], np.float64)).all() if array.dtype.kind in "biuf" else False
            reason = f"does not fit into {spec.dtype}" if before else "is NaN or infinite"
            raise DataError(f"{what} of sample {position + first} {reason}", hint="mend or drop that sample")
        return cast

    def _cast(self, what: str, dtype: str, array: NDArray[Any]) -> NDArray[Any]:
        if dtype == "str" or array.dtype.kind in "USO":
            if dtype == "str" and array.dtype.kind in "USO":
                return array.astype(object)
            raise DataError(f"{what} has dtype {array.dtype}, the model wants {dtype}", hint="convert it yourself")
        wanted = np.dtype(dtype)
        if array.dtype == wanted:
            return np.ascontiguousarray(array)
        if not _is_safe(array, wanted):
            raise DataError(
                f"{what} has dtype {array.dtype}, the model wants {wanted}: the cast would lose values",
                hint=f"convert it yourself, with .astype('{wanted}') if that is meant",
            )
        self.notes.setdefault(f"{what} was cast from {array.dtype} to {wanted}")
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(array.astype(wanted))


def _is_safe(array: NDArray[Any], wanted: np.dtype[Any]) -> bool:
    """Floats to any float; integers where they fit by type or by value; never a float to an integer."""
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        return wanted.kind == "f"
    if wanted.kind == "b":
        return bool(((array == 0) | (array == 1)).all())
    if np.can_cast(array.dtype, wanted):
        return True
    with np.errstate(all="ignore"):
        return array.size > 0 and bool((array.astype(wanted) == array).all())


def _check_shape(what: str, shape: tuple[int, ...], wanted: tuple[int | None, ...], fixed_size: int | None) -> None:
    shown = (
        "(" + ", ".join("N" if i == 0 and fixed_size is not None else str(w or "?") for i, w in enumerate(wanted)) + ")"
    )
    if len(shape) != len(wanted):
        raise DataError(
            f"{what} has shape {shape}, the model wants {len(wanted)} axes: {shown}",
            hint="reshape it; an axis of length 1 is added with x[:, None]",
        )
    off = [i for i, (have, want) in enumerate(zip(shape, wanted, strict=True)) if i > 0 and want not in (None, have)]
    if off:
        swapped = len(shape) == 4 and wanted[1] == shape[3]
        raise DataError(
            f"{what} has shape {shape}, the model wants {shown}",
            hint="move the channels: x.transpose(0, 3, 1, 2)" if swapped else f"axis {off[0]} must be {wanted[off[0]]}",
        )


def _fixed_batch(inputs: Sequence[InputSpec]) -> int | None:
    """The batch size that a model is built for, None if it takes any."""
    sizes = {spec.shape[0] for spec in inputs if spec.shape} - {None}
    return sizes.pop() if len(sizes) == 1 else None


def _pad(array: NDArray[Any], size: int) -> NDArray[Any]:
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
