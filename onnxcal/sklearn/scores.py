"""What a fitted classifier itself says of samples, in float64: the reference that a file is held against."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.errors import DataError, ModelError
from onnxcal.graph.head import SMALLEST_PROBABILITY
from onnxcal.sklearn.estimators import final_step, name_of

FloatArray = NDArray[np.float64]

AGREEMENT = 1e-6
"""How far σ or softmax of scores may be from `predict_proba` for these to be its logits."""


@dataclass(frozen=True)
class Scores:
    """An estimator's logits."""

    values: FloatArray
    """(N,) of a binary classifier, (N, K) of several classes or labels."""
    multilabel: bool = False
    """Whether columns are independent labels."""

    def probabilities(self, temperature: float) -> FloatArray:
        """σ(z/T) or softmax(z/T): (N, K), and [1 − p, p] of a binary classifier."""
        z = self.values / temperature
        if z.ndim == 1:
            both: FloatArray = np.stack([_sigmoid(-z), _sigmoid(z)], axis=1)
            return both
        return _sigmoid(z) if self.multilabel else _softmax(z)

    @property
    def columns(self) -> FloatArray:
        """(N, K), and the margins [−s, s] of a binary classifier."""
        z = self.values
        return np.stack([-z, z], axis=1) if z.ndim == 1 else z

    @property
    def magnitude(self) -> FloatArray:
        """(N,) the largest |z| of each sample, above its smallest where classes compete."""
        if self.values.ndim == 1 or self.multilabel:
            return np.asarray(np.abs(self.values).reshape(len(self.values), -1).max(axis=1))
        return np.asarray(np.ptp(self.values, axis=1))


@dataclass(frozen=True)
class Predictions:
    """What an estimator says of some samples."""

    raw: Scores | None
    """What its last step computes before its probabilities; None where it does not show it."""
    proba: FloatArray | None
    """`predict_proba` (N, K); None where it has none."""
    log_proba: FloatArray | None
    """`predict_log_proba` (N, K), −inf where it says so; None where it has none, or for independent labels."""
    labels: NDArray[Any]
    """`predict`."""
    multilabel: bool = False
    """Whether it predicts independent labels."""

    @property
    def are_logits(self) -> bool:
        """Whether σ or softmax of the raw scores are the probabilities."""
        if self.raw is None or self.proba is None:
            return self.proba is None
        own = self.raw.probabilities(1.0)
        return own.shape == self.proba.shape and bool(np.allclose(own, self.proba, rtol=0, atol=AGREEMENT))

    @property
    def has_zeros(self) -> bool:
        """Whether a probability is so small that a file counts it as more."""
        return self.proba is not None and bool(self.proba.min() < SMALLEST_PROBABILITY)

    def scores(self, *, floored: bool) -> Scores:
        """The logits of the probabilities: the raw scores where they are that, else the logarithms.

        Parameters
        ----------
        floored : whether a probability counts as 2⁻²³ at least, as in a file whose logits cannot be reached.
        """
        if self.raw is not None and self.are_logits:
            return self.raw
        assert self.proba is not None  # an estimator has one of them
        floor = SMALLEST_PROBABILITY if floored else np.finfo(np.float64).tiny
        logs = np.log(np.maximum(self.proba, floor))
        if self.multilabel:
            return Scores(logs - np.log(np.maximum(1 - self.proba, floor)), multilabel=True)
        if floored or self.log_proba is None:
            return Scores(logs)
        return Scores(np.where(np.isfinite(self.log_proba), self.log_proba, logs))


def predictions_of(estimator: Any, X: Any, *, multilabel: bool = False) -> Predictions:
    """Ask a fitted estimator.

    Parameters
    ----------
    estimator : fitted classifier.
    X : samples.
    multilabel : whether it predicts independent labels.

    Raises
    ------
    ModelError
        It has neither `predict_proba` nor `decision_function`, or several outputs.
    DataError
        It cannot predict these samples.
    """
    try:
        raw, labels = _raw_scores(estimator, X, multilabel=multilabel), np.asarray(estimator.predict(X))
        proba = estimator.predict_proba(X) if hasattr(estimator, "predict_proba") else None
        with np.errstate(divide="ignore"):
            known = proba is not None and hasattr(estimator, "predict_log_proba") and not multilabel
            logs = estimator.predict_log_proba(X) if known else None
    except (ValueError, TypeError, KeyError) as error:
        line = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
        raise DataError(
            f"{name_of(estimator)} cannot predict X: {line}", hint="pass samples like those that it was fitted on"
        ) from error
    if isinstance(proba, list) and multilabel:
        proba = np.stack([np.asarray(one)[:, -1] for one in proba], axis=1)
    if isinstance(proba, list):
        raise ModelError(
            f"{name_of(estimator)} predicts {len(proba)} outputs at once, each with classes of its own",
            hint="export one classifier for each output",
        )
    if proba is None and raw is None:
        raise ModelError(
            f"{name_of(estimator)} has neither predict_proba nor decision_function", hint="pass another classifier"
        )
    return Predictions(raw, _float64(proba), _float64(logs), labels, multilabel)


def _raw_scores(estimator: Any, X: Any, *, multilabel: bool) -> Scores | None:
    last, transformed = final_step(estimator, X)
    library = type(last).__module__.partition(".")[0]
    if library == "lightgbm":
        values = last.predict(transformed, raw_score=True)
    elif library == "xgboost":
        values = last.predict(transformed, output_margin=True)
    elif hasattr(last, "out_activation_") and hasattr(last, "coefs_"):  # an MLPClassifier, its activation left out
        linear = copy.copy(last)
        linear.out_activation_ = "identity"
        values = linear.predict_proba(transformed)
        values = values[:, 1] if last.n_outputs_ == 1 else values
    elif hasattr(last, "decision_function"):
        values = last.decision_function(transformed)
    else:
        return None
    values = np.asarray(values, np.float64)
    return Scores(values.reshape(-1) if values.ndim == 2 and values.shape[1] == 1 else values, multilabel)


def _float64(values: Any) -> FloatArray | None:
    return None if values is None else np.asarray(values, np.float64)


def _sigmoid(z: FloatArray) -> FloatArray:
    tail: FloatArray = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1.0, tail) / (1 + tail))


def _softmax(z: FloatArray) -> FloatArray:
    powers: FloatArray = np.exp(z - z.max(axis=1, keepdims=True))
    rows: FloatArray = powers / powers.sum(axis=1, keepdims=True)
    return rows
