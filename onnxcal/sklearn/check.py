"""The check that a calibrated file says what scikit-learn says: it is run, and held against float64 probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from onnxcal.errors import DataError
from onnxcal.graph.head import Head
from onnxcal.graph.modelfile import open_model
from onnxcal.inference.session import open_session
from onnxcal.sklearn.estimators import last_step, name_of
from onnxcal.sklearn.inputs import Precision
from onnxcal.sklearn.scores import FloatArray, Scores
from onnxcal.verification import Check

TOLERANCE = 1e-6
"""Largest error of a probability, beside what `ROUNDING` explains."""
ROUNDING = {"float32": 2.0**-22, "float64": 2.0**-51}
"""Relative error to expect of logits: half a unit in the last place of each of inputs, weights, sum and quotient."""
COARSEST = 1e-5
"""Largest error that rounding excuses: logits of which float32 keeps less need float64, or a tolerance."""
_ROWS = 4096


@dataclass(frozen=True)
class Answers:
    """What a file says of samples."""

    values: FloatArray
    """(N, K) the head's output."""
    labels: NDArray[Any] | None
    """(N,) its predicted labels; None where it shows none."""


def run(model: onnx.ModelProto, head: Head, arrays: Mapping[str, NDArray[Any]], threads: int | None = None) -> Answers:
    """A head's output and the labels beside it, for all samples.

    Raises
    ------
    ModelError
        onnxruntime cannot run it.
    """
    session = open_session(open_model(model), threads=threads)
    first = model.graph.output[0]
    labelled = first.type.tensor_type.elem_type in (TensorProto.INT64, TensorProto.STRING)
    names = [head.output, first.name] if labelled else [head.output]
    values, labels = list[FloatArray](), list[NDArray[Any]]()
    for start in range(0, len(next(iter(arrays.values()))), _ROWS):
        output, *rest = session.run({name: a[start : start + _ROWS] for name, a in arrays.items()}, names)
        if isinstance(output, list):  # maps from label to probability
            output = [list(row.values()) for row in output]
        values.append(np.asarray(output, np.float64))
        labels += [label.reshape(-1) for label in rest]  # (1, N) of quadratic discriminants
    return Answers(np.concatenate(values), np.concatenate(labels) if labels else None)


def check_probabilities(got: FloatArray, expected: FloatArray, allowed: FloatArray) -> Check:
    """Whether a file's probabilities are scikit-learn's.

    Parameters
    ----------
    got, expected : (N, K); a file may show only the last column of two.
    allowed : (N,) largest error of each sample.

    Raises
    ------
    DataError
        The shapes are too different to compare.
    """
    if got.shape == (len(expected), 1) and expected.shape[1] == 2:
        expected = expected[:, 1:]
    if got.shape != expected.shape:
        raise DataError(
            f"the file gives probabilities of shape {got.shape}, scikit-learn of shape {expected.shape}",
            hint="convert the estimator otherwise, then onnxcal calibrate MODEL",
        )
    error = np.abs(got - expected)
    error = np.where(np.isnan(error), np.inf, error)
    worst = np.unravel_index(int((error - allowed[:, None]).argmax()), error.shape)
    limit = float(allowed[worst[0]])
    detail = f"largest error {error[worst]:.2g} (limit {limit:.2g}) of sample {int(worst[0])}"
    passed = bool(error[worst] <= limit)
    if not passed:
        detail += f": {got[worst]:.9g}, not {expected[worst]:.9g}"
    return Check("probabilities of scikit-learn", passed, float(error[worst]), limit, detail)


def check_labels(
    got: NDArray[Any], predicted: NDArray[Any], probabilities: FloatArray, classes: NDArray[Any], allowed: FloatArray
) -> Check:
    """Whether a file predicts what scikit-learn predicts, or the class of the largest probability.

    Parameters
    ----------
    got, predicted : (N,) labels of the file and of `predict`.
    probabilities : (N, K) of scikit-learn.
    classes : (K,) names of the columns.
    allowed : (N,) errors of the probabilities; where the best two are as close as that, either class will do.
    """
    ranked = np.sort(probabilities, axis=1)
    close = ranked[:, -1] - ranked[:, -2] <= 2 * allowed
    wrong = ~close
    for expected in (predicted, classes[probabilities.argmax(axis=1)]):
        wrong &= np.array([str(a) != str(b) for a, b in zip(got.tolist(), _plain(expected, got), strict=True)])
    first = int(wrong.argmax())
    detail = f"{int(wrong.sum()):,} of {len(got):,} differ"
    if wrong.any():
        detail += f", first sample {first}: {got.tolist()[first]!r}, not {predicted.tolist()[first]!r}"
    return Check("labels of scikit-learn", not wrong.any(), float(wrong.sum()), 0.0, detail)


def allowed_error(scores: Scores, temperature: float, dtype: Precision, tolerance: float) -> FloatArray:
    """(N,) errors to allow: the tolerance, and what rounding the logits explains up to `COARSEST`."""
    rounding = scores.magnitude * (ROUNDING[dtype] / temperature)
    return np.minimum(tolerance + rounding, max(tolerance, COARSEST))


def with_reason(check: Check, reason: str) -> Check:
    """A check with more to say."""
    return replace(check, detail=f"{check.detail}; {reason}")


def reason_for_failure(
    model: onnx.ModelProto, head: Head, arrays: Mapping[str, NDArray[Any]], scores: Scores, estimator: Any
) -> str:
    """Why a check may have failed: the converted file was off before it was calibrated, or float32 is too coarse."""
    before = run(model, head, arrays).values
    expected = scores.columns if head.activation == "none" else scores.probabilities(1.0)
    off = np.abs(before - expected).max() if before.shape == expected.shape else np.inf
    if off > 1e-3 * max(1.0, float(np.abs(expected).max())):
        name = name_of(last_step(estimator))
        return f"before calibration skl2onnx's file is off by {off:.2g} already: it is not this {name}"
    return "try dtype='float64', or allow it with tolerance="


def _plain(labels: NDArray[Any], like: NDArray[Any]) -> list[Any]:
    """Labels as a file can show them: numbers and truth values as integers."""
    values: list[Any] = (
        labels.astype(np.int64) if like.dtype.kind == "i" and labels.dtype.kind in "bf" else labels
    ).tolist()
    return values
