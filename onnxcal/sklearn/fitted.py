"""The temperature that scikit-learn fitted: read out of a `CalibratedClassifierCV(method="temperature")`."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.errors import ModelError
from onnxcal.sklearn.estimators import last_step, name_of, unwrapped, with_last_step
from onnxcal.sklearn.scores import FloatArray, Predictions

_SEARCHED = 10.0
"""scikit-learn looks for log β between −10 and 10."""


@dataclass(frozen=True)
class FittedTemperature:
    """A classifier, and the T that scikit-learn divides its logits by."""

    classifier: Any
    """What was calibrated, with the steps before it."""
    temperature: float
    """T of softmax(z/T), and of σ(s/T) for a binary classifier's score s."""
    on_decision: bool
    """Whether scikit-learn divides the `decision_function`, rather than the logarithms of `predict_proba`."""
    notes: tuple[str, ...] = ()
    """Why T may be another than the best."""


def is_calibrated(estimator: Any) -> bool:
    """Whether an unwrapped estimator ends in a `CalibratedClassifierCV`, whatever its method."""
    return name_of(last_step(estimator)) == "CalibratedClassifierCV"


def fitted_temperature(estimator: Any) -> FittedTemperature:
    """Take a fitted `CalibratedClassifierCV(method="temperature")` apart.

    scikit-learn fits β in softmax(β z). The 1-D score s of a binary classifier becomes z = (−s, s), so that the
    probability is σ(2βs) and T = 1/(2β); of all else T = 1/β (sklearn.calibration, `_convert_to_logits`).

    Raises
    ------
    ModelError
        It is none, another method was used, it averages several classifiers, or the search for β ended at its end.
    """
    if not is_calibrated(estimator):
        raise ModelError(
            f"{name_of(last_step(estimator))} has no temperature",
            hint="pass a CalibratedClassifierCV(method='temperature'); "
            "onnxcal.sklearn.export_calibrated(estimator, X, y, output) fits T itself",
        )
    outer = last_step(estimator)
    if outer.method != "temperature":
        raise ModelError(
            f"CalibratedClassifierCV(method={outer.method!r}) has no temperature",
            hint="fit it with method='temperature', or let skl2onnx convert it as it is",
        )
    if len(outer.calibrated_classifiers_) > 1:
        raise ModelError(
            f"CalibratedClassifierCV averages {len(outer.calibrated_classifiers_)} classifiers, each with a "
            "temperature of its own, and no single T gives that average",
            hint="fit it with ensemble=False, or with a FrozenEstimator",
        )
    inner = outer.calibrated_classifiers_[0]
    base = _with_classes(unwrapped(inner.estimator), outer.classes_)
    on_decision = hasattr(inner.estimator, "decision_function")
    beta = float(inner.calibrators[0].beta_)
    notes = _about_classes(outer.classes_)
    if abs(math.log(beta)) > _SEARCHED - 0.01:
        raise ModelError(
            f"scikit-learn found no best temperature: its search ended where it must, at 1/β = {1 / beta:.3g}"
            + "".join(f"; {note}" for note in notes),
            hint="onnxcal.sklearn.export_calibrated(estimator, X, y, output) fits T itself",
        )
    doubled = on_decision and len(outer.classes_) == 2
    return FittedTemperature(
        with_last_step(estimator, base), 1 / (2 * beta) if doubled else 1 / beta, on_decision=on_decision, notes=notes
    )


def without_offset(
    expected: FloatArray, predictions: Predictions, temperature: float
) -> tuple[FloatArray, tuple[str, ...]]:
    """What scikit-learn would say without the 1e-12 that it adds to probabilities before their logarithm, and a note.

    Only samples with a probability below a million times that are concerned; all others stay what scikit-learn says.

    Parameters
    ----------
    expected : (N, K) calibrated `predict_proba`.
    predictions : of what was calibrated.
    temperature : T.
    """
    proba = predictions.proba
    assert proba is not None  # it is what scikit-learn took the logarithm of
    concerned = proba.min(axis=1) < 1e-6
    own = np.where(concerned[:, None], predictions.scores(floored=False).probabilities(temperature), expected)
    moved = float(np.abs(own - expected).max())
    if moved <= 1e-6:
        return expected, ()
    return own, (
        f"scikit-learn adds 1e-12 to probabilities before their logarithm, which moves its own by up to {moved:.1g} "
        f"in {int(concerned.sum()):,} samples with a probability below 1e-6; the file adds nothing",
    )


def _about_classes(classes: NDArray[Any]) -> tuple[str, ...]:
    """scikit-learn (1.9) hands labels to the loss as column numbers, unless they are strings."""
    if classes.dtype.kind not in "iuf" or np.array_equal(classes, np.arange(len(classes))):
        return ()
    shown = ", ".join(str(label) for label in classes[:4].tolist()) + (", …" if len(classes) > 4 else "")
    return (
        f"its classes are {shown}, and it takes numbers for columns, counted from 0, when it fits a temperature: "
        "fit it on 0, 1, … or on strings",
    )


def _with_classes(base: Any, classes: NDArray[Any]) -> Any:
    """What was calibrated, with the outer classes: scikit-learn numbers strings before it fits."""
    if np.array_equal(base.classes_, classes):
        return base
    last = copy.copy(last_step(base))
    try:
        if not np.array_equal(base.classes_, np.arange(len(classes))):
            raise AttributeError("other classes")
        last.classes_ = classes
    except AttributeError:
        raise ModelError(
            f"CalibratedClassifierCV has {len(classes)} classes, its {name_of(last)} {len(base.classes_)} others",
            hint="calibrate on labels 0, 1, …, or a FrozenEstimator on data in which every class occurs",
        ) from None
    return with_last_step(base, last)
