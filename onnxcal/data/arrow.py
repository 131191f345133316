"""From a column of an Arrow table to an array; a missing value is an error that says where it is."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxcal.data.batch import AnyArray
from onnxcal.errors import DataError, UsageError


def require_pyarrow() -> None:
    """Raise UsageError if pyarrow is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise UsageError(
            "CSV and Parquet need pyarrow, which is not installed", hint="pip install 'onnxcal[tables]'"
        ) from None


def column_array(column: Any, what: str, position: int) -> AnyArray:
    """(N,) numbers, booleans or texts; (N, n, …) of lists that are equally long.

    Parameters
    ----------
    column : a `pyarrow.Array`.
    what : how messages call it.
    position : number of its first row.

    Raises
    ------
    DataError
        A value is missing or NaN, lists differ in length, or it holds neither numbers nor text.
    """
    import pyarrow
    from pyarrow import types

    if column.null_count:
        refuse_missing(np.asarray(column.is_null()), what, position)
    kind = column.type
    if isinstance(column, pyarrow.ExtensionArray):
        return column_array(column.storage, what, position)
    if types.is_dictionary(kind):
        return column_array(column.dictionary_decode(), what, position)
    if types.is_decimal(kind):
        return column_array(column.cast(pyarrow.float64()), what, position)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        flat = column_array(column.flatten(), what, position)
        if len(column) and len(flat) % len(column) == 0:
            lengths = np.asarray(column.value_lengths())
            if (lengths == lengths[0]).all():
                return flat.reshape(len(column), int(lengths[0]), *flat.shape[1:])
        raise DataError(f"{what} holds lists of different lengths", hint="pad or cut them to one length")
    is_text = types.is_string(kind) or types.is_large_string(kind)
    if not (is_text or types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        raise DataError(
            f"{what} holds {kind}, which is neither numbers nor text", hint="leave it out, or encode it as numbers"
        )
    array: AnyArray = column.to_numpy(zero_copy_only=False)
    if array.dtype.kind == "f":
        refuse_missing(np.isnan(array), what, position)
    return array


def refuse_missing(missing: AnyArray, what: str, position: int) -> None:
    """Raise DataError if any value is missing, and say which is the first."""
    if missing.any():
        first = int(np.argmax(missing.reshape(len(missing), -1).any(axis=1)))
        raise DataError(
            f"{what} has no value in sample {position + first}", hint="fill it in as was done for training, or drop it"
        )
