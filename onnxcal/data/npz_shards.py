"""Several `.npz` that are shards of one set: one at a time in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from zipfile import ZipFile

import numpy as np

from onnxcal.data.batch import AnyArray, Batch, make_batch
from onnxcal.data.npz import pop_labels, read_npz
from onnxcal.data.streamed import StreamedSource
from onnxcal.errors import DataError

_ArrayHead: TypeAlias = tuple[tuple[int, ...], np.dtype[Any]]
_KINDS = {"u": "i", "S": "U"}
"""Kinds of dtypes that mean the same as another."""


class NpzShards(StreamedSource):
    """The samples of one `.npz` after the other."""

    def __init__(self, paths: Sequence[Path], inputs: Collection[str] = ()) -> None:
        """Read the heads of all arrays.

        Parameters
        ----------
        paths : the shards, in the order of their samples.
        inputs : names of model inputs: an array of such a name is no label.

        Raises
        ------
        DataError
            A file cannot be read, or its arrays are not called and shaped as those of the first.
        """
        self.name = f"'{paths[0]}' and {len(paths) - 1:,} more" if len(paths) > 1 else f"'{paths[0]}'"
        self._paths, self._inputs = paths, inputs
        first = _heads(paths[0])
        typed: dict[str, tuple[Path, np.dtype[Any]]] = {}
        self.n_samples = 0
        for path in paths:
            heads = first if path == paths[0] else _heads(path)
            if set(heads) != set(first):
                raise DataError(
                    f"'{path}' holds the arrays {_listed(heads)}, but '{paths[0]}' holds {_listed(first)}",
                    hint="shards of one set hold arrays of the same names: leave out files that are none",
                )
            for name, (shape, dtype) in heads.items():
                if shape[1:] != first[name][0][1:]:
                    raise DataError(
                        f"array '{name}' of '{path}' has shape {shape}, that of '{paths[0]}' {first[name][0]}",
                        hint="shards may differ in their first axis only",
                    )
                if 0 in shape:  # NumPy makes float64 of an empty list, whatever it is to hold
                    continue
                other, known = typed.setdefault(name, (path, dtype))
                if _KINDS.get(dtype.kind, dtype.kind) != _KINDS.get(known.kind, known.kind):
                    raise DataError(
                        f"array '{name}' of '{path}' holds {dtype}, that of '{other}' {known}",
                        hint="shards of one set hold the same kind of values: were some of them scaled, or encoded?",
                    )
            self.n_samples += next((shape[0] for shape, _ in heads.values() if shape), 0)

    def chunks(self, size: int) -> Iterator[Batch]:
        """Shard by shard.

        Raises
        ------
        DataError
            A shard cannot be read, or its arrays have different lengths.
        """
        for path in self._paths:
            arrays = read_npz(path)
            labels = pop_labels(arrays, self._inputs)
            batch = make_batch(arrays, labels, f"'{path}'")
            if batch.size:
                yield batch


def _heads(path: Path) -> dict[str, _ArrayHead]:
    """Shape and dtype of every array, from its head."""
    if not path.is_file():
        raise DataError(f"cannot read '{path}': no such file", hint="check the path")
    heads = {}
    try:
        with ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as file:
                    old = np.lib.format.read_magic(file) == (1, 0)
                    read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
                    shape, _, dtype = read(file)
                    heads[name.removesuffix(".npy")] = (shape, dtype)
    except Exception:  # each broken file fails in its own way; a whole reading knows best what to say
        arrays: dict[str, AnyArray] = read_npz(path)
        return {name: (array.shape, array.dtype) for name, array in arrays.items()}
    return heads


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))
