"""scikit-learn's class labels, as the labels that a file is calibrated with."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxcal.errors import DataError
from onnxcal.graph.inspect import inspect
from onnxcal.sklearn.estimators import name_of


def encoded(y: Any, estimator: Any, model: onnx.ModelProto, n_samples: int) -> NDArray[Any]:
    """Labels as class indices (N,), or as the names that the file has for its classes, which cannot be mistaken.

    Parameters
    ----------
    y : (N,) or (N, 1) classes of the estimator; or (N, L) of 0 and 1, which stay as they are.
    estimator : whose `classes_` they are.
    model : the file.
    n_samples : N.

    Raises
    ------
    DataError
        A label is no class, or there is not one for each sample.
    """
    labels = np.asarray(y)
    if len(labels) != n_samples or labels.ndim not in (1, 2):
        raise DataError(
            f"X has {n_samples:,} samples, y has shape {labels.shape}", hint="pass one label (or row of 0/1) a sample"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if is_multilabel(y):
        return labels
    known = {value: index for index, value in enumerate(np.asarray(estimator.classes_).tolist())}
    strangers = [value for value in labels.tolist() if value not in known]
    if strangers:
        raise DataError(
            f"label {strangers[0]!r} is none of the classes of {name_of(estimator)}",
            hint=f"its classes are {', '.join(repr(value) for value in list(known)[:8])}",
        )
    indices = np.array([known[value] for value in labels.tolist()], np.int64)
    named = next((head.classes for head in inspect(model).heads if head.classes is not None), ())
    if len(named) <= 2 or len(named) != len(known):
        return indices
    return np.array([str(name) for name in named])[indices]


def is_multilabel(y: Any) -> bool:
    """Whether labels are rows of 0 and 1."""
    shape = np.shape(y)
    return len(shape) == 2 and shape[1] > 1
