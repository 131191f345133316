"""`export_calibrated` and `export`: convert, calibrate or patch in memory, check against scikit-learn, write."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import onnx

from onnxcal.atomic import check_writable, write_file
from onnxcal.calibrators.fit import check_regularisation, check_resamples
from onnxcal.errors import ModelError, UsageError
from onnxcal.graph.filerecord import FileRecord, file_digest
from onnxcal.graph.head import SMALLEST_PROBABILITY, Activation, Added, Head
from onnxcal.inference.collect import Progress
from onnxcal.metrics.bootstrap import DEFAULT_RESAMPLES
from onnxcal.patching import patch
from onnxcal.pipeline import calibrate
from onnxcal.results import CalibrateResult, PatchResult
from onnxcal.sklearn.check import (
    TOLERANCE,
    allowed_error,
    check_labels,
    check_probabilities,
    reason_for_failure,
    run,
    with_reason,
)
from onnxcal.sklearn.convert import require_libraries, to_model
from onnxcal.sklearn.estimators import check_fitted, last_step, name_of, picks_columns, unwrapped
from onnxcal.sklearn.fitted import fitted_temperature, is_calibrated, without_offset
from onnxcal.sklearn.inputs import Precision, inputs_of
from onnxcal.sklearn.labels import encoded, is_multilabel
from onnxcal.sklearn.scores import predictions_of
from onnxcal.verification import Check, Verification

_Result = TypeVar("_Result", CalibrateResult, PatchResult)


def export_calibrated(
    estimator: Any,
    X: Any,
    y: Any,
    output: str | os.PathLike[str],
    *,
    dtype: Precision = "float32",
    options: Mapping[str, Any] | None = None,
    target_opset: int | Mapping[str, int] | None = None,
    no_holdout: bool = False,
    exact: bool = False,
    prior: float | None = None,
    smoothing: float | None = None,
    bootstrap: int = DEFAULT_RESAMPLES,
    keep_logits: bool = False,
    force: bool = False,
    max_ece: float | None = None,
    tolerance: float = TOLERANCE,
    threads: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> CalibrateResult:
    """Convert a fitted classifier to ONNX, fit a temperature on the file's own logits, and write what was verified.

    The file's probabilities are held against those that scikit-learn's own scores give in float64, divided by T: σ or
    softmax of `decision_function` where these are `predict_proba`, else of its logarithms.

    Parameters
    ----------
    estimator : fitted classifier, pipeline or search that skl2onnx converts, perhaps in a `FrozenEstimator`; or an
        `LGBMClassifier` or `XGBClassifier`, also at the end of a pipeline.
    X : (N, F) numbers, N texts, or a DataFrame; samples that the estimator was not trained on.
    y : (N,) class labels as in `estimator.classes_`, or (N, L) of 0 and 1 for independent labels.
    output : the file to write.
    dtype : of the file's numeric inputs; `float64` where float32 is too coarse.
    options : of skl2onnx for the classifier, `{"zipmap": True}` for instance.
    target_opset : of skl2onnx.
    no_holdout, exact, prior, smoothing, bootstrap, keep_logits, force, max_ece, threads, seed, progress : as for
        `onnxcal.calibrate`.
    tolerance : largest difference of a probability from scikit-learn's, beside rounding.

    Raises
    ------
    ModelError, DataError, UsageError
        Something that was passed cannot be used, or a library is missing.
    FitError
        No positive, finite temperature is best.
    VerificationError, GateError
        A check said no; nothing was written.
    """
    require_libraries()
    check_resamples(bootstrap)
    check_regularisation(prior, smoothing)
    _check_output(output, force, tolerance)
    estimator = unwrapped(estimator)
    check_fitted(estimator)
    if is_calibrated(estimator) and last_step(estimator).method == "temperature":
        raise UsageError(
            "a CalibratedClassifierCV(method='temperature') is calibrated already",
            hint="onnxcal.sklearn.export(calibrated, X, output) keeps its temperature; or pass its .estimator",
        )
    inputs = inputs_of(X, dtype, by_column=picks_columns(estimator))
    predictions = predictions_of(estimator, inputs.seen, multilabel=is_multilabel(y))
    raw = predictions.proba is None
    model, arrays = to_model(estimator, inputs, raw=raw, options=options, target_opset=target_opset)
    labels = encoded(y, estimator, model, inputs.n_samples)

    def calibrated(activation: Activation | None) -> CalibrateResult:
        return calibrate(
            model, (arrays, labels), activation=activation, no_holdout=no_holdout, exact=exact, prior=prior,
            smoothing=smoothing, bootstrap=bootstrap, keep_logits=keep_logits, max_ece=max_ece, threads=threads,
            seed=seed, progress=progress,
        )  # fmt: skip

    result = _read(calibrated, estimator, raw=raw, multilabel=predictions.multilabel)
    temperature = result.calibration.temperature
    scores = predictions.scores(floored=_floored(result.head))
    allowed = allowed_error(scores, temperature, dtype, tolerance)
    expected = scores.probabilities(temperature)
    answers = run(_patched(result), result.head, arrays, threads)
    checks = [check_probabilities(answers.values, expected, allowed)]
    if not checks[0].passed:
        checks[0] = with_reason(checks[0], reason_for_failure(model, result.head, arrays, scores, estimator))
    if answers.labels is not None and not predictions.multilabel:
        classes = np.asarray(estimator.classes_)
        checks.append(check_labels(answers.labels, predictions.labels, expected, classes, allowed))
    return _written(result, checks, output, force)


def export(
    calibrated: Any,
    X: Any,
    output: str | os.PathLike[str],
    *,
    dtype: Precision = "float32",
    options: Mapping[str, Any] | None = None,
    target_opset: int | Mapping[str, int] | None = None,
    keep_logits: bool = False,
    force: bool = False,
    tolerance: float = TOLERANCE,
    threads: int | None = None,
    progress: Progress | None = None,
) -> PatchResult:
    """Convert a `CalibratedClassifierCV(method="temperature")` to ONNX with the temperature that scikit-learn fitted.

    The file's probabilities are held against its `predict_proba` on X.

    Parameters
    ----------
    calibrated : fitted, of one classifier (a `FrozenEstimator`, or `ensemble=False`), perhaps at the end of a pipeline.
    X : (N, F) numbers, N texts, or a DataFrame: samples to verify the file on.
    output, dtype, options, target_opset, keep_logits, force, tolerance, threads, progress : as for
        `export_calibrated`.

    Raises
    ------
    ModelError, DataError, UsageError
        Something that was passed cannot be used, or a library is missing.
    VerificationError
        A check said no; nothing was written.
    """
    require_libraries()
    _check_output(output, force, tolerance)
    calibrated = unwrapped(calibrated)
    check_fitted(calibrated)
    found = fitted_temperature(calibrated)
    estimator, temperature = found.classifier, found.temperature
    inputs = inputs_of(X, dtype, by_column=picks_columns(estimator))
    predictions = predictions_of(estimator, inputs.seen)
    raw = predictions.proba is None or (found.on_decision and not predictions.are_logits)
    model, arrays = to_model(estimator, inputs, raw=raw, options=options, target_opset=target_opset)

    def patched(activation: Activation | None) -> PatchResult:
        return patch(
            model, temperature=temperature, data=arrays, activation=activation, keep_logits=keep_logits,
            threads=threads, progress=progress,
        )  # fmt: skip

    result = _read(patched, estimator, raw=raw, multilabel=False)
    result = replace(result, warnings=(*result.warnings, *(f"scikit-learn: {note}" for note in found.notes)))
    expected = np.asarray(calibrated.predict_proba(inputs.seen), np.float64)
    floored = _floored(result.head)
    scores = predictions.raw if found.on_decision else predictions.scores(floored=floored)
    assert scores is not None  # of a decision_function
    if not found.on_decision and not floored:
        expected, notes = without_offset(expected, predictions, temperature)
        result = replace(result, warnings=(*result.warnings, *notes))
    allowed = allowed_error(scores, temperature, dtype, tolerance)
    answers = run(_patched(result), result.head, arrays, threads)
    checks = [check_probabilities(answers.values, expected, allowed)]
    if not checks[0].passed:
        reason = reason_for_failure(model, result.head, arrays, scores, estimator)
        if floored and expected.shape == answers.values.shape and predictions.has_zeros:
            reason = (
                f"{name_of(last_step(estimator))} gives probabilities of 0, which scikit-learn counts as 1e-12 and the "
                f"file as {SMALLEST_PROBABILITY:.1e}: onnxcal.sklearn.export_calibrated fits a T for the file"
            )
        checks[0] = with_reason(checks[0], reason)
    if answers.labels is not None:
        classes, labels = np.asarray(calibrated.classes_), np.asarray(calibrated.predict(inputs.seen))
        checks.append(check_labels(answers.labels, labels, expected, classes, allowed))
    return _written(result, checks, output, force)


def _read(step: Callable[[Activation | None], _Result], estimator: Any, *, raw: bool, multilabel: bool) -> _Result:
    """Calibrate or patch a converted model, of which more is known than its structure tells.

    Parameters
    ----------
    step : does it, with an activation to believe in or None.
    estimator : what was converted.
    raw : whether the output holds scores; probabilities otherwise.
    multilabel : whether these are of independent labels.

    Raises
    ------
    ModelError
        It cannot be patched either way.
    """
    several = len(estimator.classes_) > 2
    try:
        result = step("none" if raw and several else None)
        if raw and not several and result.head.task != "binary":
            raise ModelError("its two columns are no margins [-s, s]")
        return result
    except ModelError as error:
        if raw:
            raise ModelError(
                f"{name_of(last_step(estimator))} has no logits that its file shows: {error.message}",
                hint="pass a classifier with predict_proba, such as a CalibratedClassifierCV around it",
            ) from error
        try:
            return step("sigmoid" if multilabel else "softmax")
        except ModelError:
            raise error from None


def _floored(head: Head) -> bool:
    return isinstance(head.site, Added) and head.site.material == "probabilities"


def _check_output(output: str | os.PathLike[str], force: bool, tolerance: float) -> None:
    check_writable(Path(output), force=force)
    if not 0 < tolerance < 1:
        raise UsageError(f"tolerance {tolerance!r} is no tolerance of probabilities", hint="pass 1e-6, for instance")


def _patched(result: CalibrateResult | PatchResult) -> onnx.ModelProto:
    assert result.proto is not None  # no file was asked for yet
    return result.proto


def _verified(result: CalibrateResult | PatchResult) -> Verification:
    assert result.verification is not None  # there were data
    return result.verification


def _written(result: _Result, checks: Sequence[Check], output: str | os.PathLike[str], force: bool) -> _Result:
    """The result with more checks; the file is written if all of them hold."""
    before: Verification = _verified(result)
    passed = before.passed and all(check.passed for check in checks)
    verification = Verification(passed, before.runtimes, (*before.checks, *checks))
    verification.raise_if_failed()
    data = _patched(result).SerializeToString()

    def write(file: BinaryIO) -> None:
        file.write(data)

    write_file(output, write, force=force)
    record = FileRecord(os.fspath(output), lambda: file_digest(output))
    return replace(result, output=record, verification=verification, proto=None)
