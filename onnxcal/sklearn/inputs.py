"""What a scikit-learn user has as X, as the inputs of an ONNX model: a matrix, texts, or one input a column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxcal.errors import DataError, UsageError

Precision: TypeAlias = Literal["float32", "float64"]
"""Element type of a file's numeric inputs, and so of what it computes."""


@dataclass(frozen=True)
class Inputs:
    """Samples, as the file gets them."""

    arrays: Mapping[str, NDArray[Any]]
    """By input name: float32 or float64 (N, F) of a matrix, (N, 1) of a column; strings are Python objects."""
    seen: Any
    """The same samples for scikit-learn: numbers rounded as the file gets them."""

    @property
    def n_samples(self) -> int:
        """Rows of X."""
        return len(next(iter(self.arrays.values())))


def inputs_of(X: Any, dtype: Precision, *, by_column: bool) -> Inputs:
    """The inputs of a file that is to take samples like X.

    Parameters
    ----------
    X : array of numbers or strings (N, F), pandas DataFrame of N rows, or N strings.
    dtype : of the numbers in the file.
    by_column : whether the estimator picks columns by name, so that a frame becomes one input a column. A frame with
        anything but numbers does in any case; other frames become a matrix `X`.

    Raises
    ------
    DataError
        X is sparse, empty, or has another number of axes.
    UsageError
        The dtype is neither float32 nor float64.
    """
    if dtype not in ("float32", "float64"):
        raise UsageError(f"dtype {dtype!r} is not known", hint="pass dtype='float32' or dtype='float64'")
    if hasattr(X, "tocsr"):
        raise DataError("X is a sparse matrix, and ONNX models take dense ones", hint="pass X.toarray()")
    if hasattr(X, "iloc") and hasattr(X, "columns"):
        inputs = _of_frame(X, np.dtype(dtype), by_column)
    else:
        inputs = _of_array(np.asarray(X), np.dtype(dtype))
    if inputs.n_samples == 0:
        raise DataError("X holds no samples", hint="pass the rows that the file is to be checked on")
    return inputs


def _of_array(X: NDArray[Any], dtype: np.dtype[Any]) -> Inputs:
    if X.dtype.kind in "USO" and X.ndim in (1, 2):
        texts = X.astype(str).astype(object)
        return Inputs({"X": texts.reshape(len(X), -1)}, texts)
    if X.ndim != 2 or X.dtype.kind not in "biuf":
        raise DataError(
            f"X has shape {X.shape} and dtype {X.dtype}, expected numbers (N, F)", hint="pass one row a sample"
        )
    rounded = _rounded(X, dtype)
    return Inputs({"X": rounded}, rounded.astype(np.float64))


def _of_frame(frame: Any, dtype: np.dtype[Any], by_column: bool) -> Inputs:
    if not len(frame.columns):
        raise DataError("X has no columns", hint="pass the columns that the estimator was fitted on")
    kinds = {name: getattr(frame[name].dtype, "kind", "O") for name in frame.columns}
    numeric = [name for name, kind in kinds.items() if kind == "f"]
    if not by_column and set(kinds.values()) <= set("biuf"):
        rounded = _rounded(frame.to_numpy(np.float64), dtype)
        return Inputs({"X": rounded}, type(frame)(rounded.astype(np.float64), frame.index, frame.columns))
    arrays = {str(name): _column(frame[name], kind, dtype) for name, kind in kinds.items()}
    seen = frame.astype(dict.fromkeys(numeric, dtype)).astype(dict.fromkeys(numeric, np.float64))
    return Inputs(arrays, seen)


def _column(series: Any, kind: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    """One column as (N, 1)."""
    if kind == "f":
        return _rounded(series.to_numpy(), dtype)[:, None]
    if kind in "iu":
        return np.asarray(series.to_numpy(), np.int64)[:, None]
    if kind == "b":
        return np.asarray(series.to_numpy(), np.bool_)[:, None]
    values = series.to_numpy(dtype=object)
    if not all(isinstance(value, str) for value in values):
        raise DataError(
            f"column '{series.name}' of X holds neither numbers nor strings alone",
            hint="fill in what is missing, and convert dates and objects to numbers or strings",
        )
    return np.asarray(values, object)[:, None]


def _rounded(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # what is infinite then is refused where the file is fed
        return np.ascontiguousarray(values, dtype)
