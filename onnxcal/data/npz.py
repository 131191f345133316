"""`.npz`: one array a model input, named as the input, and the labels."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from zipfile import is_zipfile

import numpy as np

from onnxcal.data.arrays import ArraySource
from onnxcal.data.batch import AnyArray, Truth, make_batch
from onnxcal.errors import DataError

HEAD_LABELS = "labels_"
LABEL_NAMES = ("labels", "label", "y", "target", "targets")


def open_npz(path: Path, labels: Truth | None, inputs: Collection[str] = ()) -> ArraySource:
    """The inputs and labels of an `.npz`; `labels` replaces its own, and what is named in `inputs` is no label.

    Raises
    ------
    DataError
        The file cannot be read, holds pickled objects, or its arrays have different lengths.
    """
    arrays = read_npz(path)
    own_labels = pop_labels(arrays, inputs)
    return ArraySource(f"'{path}'", make_batch(arrays, own_labels if labels is None else labels, f"'{path}'"))


@dataclass(frozen=True)
class StoredLogits:
    """What a LOGITS.npz holds; all but the two arrays only if `onnxcal logits` wrote it."""

    logits: AnyArray
    """(N, K), (N, K, d1, …), or (N,) for binary."""
    labels: AnyArray
    """One a row, or of the logits' shape."""
    sample_weight: AnyArray | None
    """(N,), how much each sample counts."""
    task: str | None
    """What a row means."""
    output: str | None
    """The model output that the logits belong to."""
    data_sha256: str | None
    """Digest of the inputs and labels."""


def read_logits(path: Path) -> StoredLogits:
    """A LOGITS.npz.

    Raises
    ------
    DataError
        The file cannot be read or lacks one of the two arrays.
    """
    arrays = read_npz(path)
    missing = [name for name in ("logits", "labels") if name not in arrays]
    if missing:
        raise DataError(
            f"'{path}' has no array named {' or '.join(missing)}, only {', '.join(sorted(arrays)) or 'none at all'}",
            hint="write it with onnxcal logits, or with np.savez(path, logits=z, labels=y)",
        )
    texts = {key: str(arrays[key]) if key in arrays else None for key in ("task", "output", "data_sha256")}
    return StoredLogits(arrays["logits"], arrays["labels"], arrays.get("sample_weight"), **texts)


def stored_classes(path: Path) -> tuple[str, ...] | None:
    """The names of the classes in a LOGITS.npz that `read_logits` has read; None if it has none."""
    with np.load(path, allow_pickle=False) as archive:
        names = archive["classes"] if "classes" in archive.files else None
    return None if names is None or names.dtype.kind != "U" else tuple(map(str, names.reshape(-1)))


def read_npz(path: Path) -> dict[str, AnyArray]:
    """All arrays of an `.npz`, by name.

    Raises
    ------
    DataError
        The file cannot be read or holds pickled objects.
    """
    try:
        with open(path, "rb") as file:
            if file.read(4) == b"\x93NUM":
                raise DataError(f"'{path}' is a single array, not an .npz archive", hint="rename it to .npy")
            file.seek(0)
            if not is_zipfile(file):
                raise DataError(
                    f"'{path}' is not a readable NumPy file: no .npz archive, or cut off (pickled data is not read)",
                    hint="write plain arrays again: np.savez(path, input=x, labels=y)",
                )
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
    except DataError:
        raise
    except Exception as error:  # a damaged archive fails in zipfile, zlib, tokenize or numpy, each in its own way
        raise unreadable(path, error) from None


def pop_labels(arrays: dict[str, AnyArray], inputs: Collection[str] = ()) -> Truth | None:
    """Take the labels out of `arrays`, under the first of the names they may have that is not a model input's.

    Arrays named `labels_<output>` are those of one head.
    """
    found = [name for name in LABEL_NAMES if name in arrays and name not in inputs]
    common = arrays.pop(found[0]) if found else None
    named = [name for name in arrays if name.startswith(HEAD_LABELS) and name not in inputs]
    if not named:
        return common
    by_head = {name.removeprefix(HEAD_LABELS): arrays.pop(name) for name in named}
    return by_head if common is None else by_head | {"": common}


def unreadable(path: Path, error: Exception) -> DataError:
    """What to say when numpy cannot load a file."""
    if isinstance(error, OSError) and error.strerror:
        return DataError(f"cannot read '{path}': {error.strerror}", hint="check the path")
    if "pickle" in str(error) or "Python objects" in str(error):
        return DataError(
            f"'{path}' holds pickled Python objects, which are never loaded",
            hint="save plain arrays of numbers: np.savez(path, input=x, labels=y)",
        )
    return DataError(f"'{path}' is not a readable NumPy file: {error}", hint="write it again with np.savez or np.save")
