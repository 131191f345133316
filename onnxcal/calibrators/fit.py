"""`fit`: from arrays of logits and labels to a `Calibration`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from onnxcal.calibrators.calibration import METHODS, Calibration
from onnxcal.calibrators.temperature import Temperature, fit_temperature
from onnxcal.errors import DataError, UsageError
from onnxcal.logits import Labels, Logits, Task, check_task
from onnxcal.metrics import Metrics, score
from onnxcal.rows import labelled


def fit(
    logits: Any,
    labels: Any,
    *,
    method: str = "temperature",
    task: Task | None = None,
    axis: int | None = None,
    ignore_index: int | None = None,
    eval_data: tuple[Any, Any] | None = None,
) -> Calibration:
    """Fit a calibrator on logits and labels by minimising the negative log-likelihood.

    Parameters
    ----------
    logits : array_like (N, K), (N, K, d1, …), or (N,) or (N, 1) for binary; float16, float32 or float64.
    labels : array_like of class indices, one a sample; or one-hot, soft or 0/1 labels of the logits' shape.
    method : `temperature` (Guo et al. 2017, section 4.2).
    task : default binary for (N,) and (N, 1), else multiclass.
    axis : the class axis, default 1.
    ignore_index : samples with this label are dropped.
    eval_data : logits and labels to measure on; default the ones fitted on.

    Returns
    -------
    Calibration, with `.temperature`, `.stderr`, and `.metrics` before and after.

    Raises
    ------
    DataError
        Arrays that do not fit each other.
    FitError
        No positive, finite temperature is best: see `fit_temperature`.
    """
    check_method(method)
    check_task(task)
    fitted_on = labelled(logits, labels, task=task, axis=axis, ignore_index=ignore_index)
    calibration = fit_labelled(*fitted_on)
    if eval_data is None:
        return measured(calibration, *fitted_on, split="fit")
    measured_on = labelled(*eval_data, task=fitted_on[0].task, axis=axis, ignore_index=ignore_index)
    if measured_on[0].num_classes != fitted_on[0].num_classes:
        raise DataError(
            f"eval_data has {measured_on[0].num_classes} classes, the logits fitted on {fitted_on[0].num_classes}",
            hint="pass logits of the same model",
        )
    return measured(calibration, *measured_on, split="eval")


def fit_labelled(logits: Logits, labels: Labels) -> Calibration:
    """`fit` on arrays that were checked, without scores."""
    found = fit_temperature(logits, labels)
    return Calibration(
        temperature=found.value,
        stderr=found.stderr,
        objective="nll",
        n_samples=logits.n_samples,
        converged=True,
        task=logits.task,
        warnings=_noteworthy(found),
    )


def measured(
    calibration: Calibration, logits: Logits, labels: Labels, *, split: str, temperature: float | None = None
) -> Calibration:
    """The calibration with its scores before and after on some samples, and a warning if they got worse.

    `temperature` is what to measure instead of the calibration's own: the one that was fitted without these samples.
    """
    before = score(logits, labels)
    after = score(logits, labels, temperature or calibration.temperature)
    metrics = Metrics(n_samples=logits.n_samples, split=split, before=before, after=after)
    return replace(calibration, metrics=metrics, warnings=(*calibration.warnings, *got_worse(metrics)))


def got_worse(metrics: Metrics) -> tuple[str, ...]:
    """One sentence for each of NLL and ECE that calibration made worse on samples that were not fitted on."""
    where = {"holdout": "the held-out half", "eval": "the evaluation set", "fit": "the samples it was fitted on"}
    n = f"{metrics.n_samples:,} samples"
    sentences = []
    for name, key in (("NLL", "nll"), ("ECE", "ece")):
        before, after = getattr(metrics.before, key), getattr(metrics.after, key)
        if after > before:
            rest = ""
            if key == "ece" and metrics.after.nll < metrics.before.nll:
                rest = "; NLL, which the fit minimises, went down"
            sentences.append(
                f"calibration made {name} worse on {where[metrics.split]} ({n}): {before:.4g} → {after:.4g}{rest}"
            )
    return tuple(sentences)


def check_method(method: str) -> None:
    """Raise UsageError unless `method` is known."""
    if method not in METHODS:
        raise UsageError(f"method {method!r} is not known", hint=f"use one of {', '.join(METHODS)}")


def _noteworthy(found: Temperature) -> tuple[str, ...]:
    if found.stderr is None or abs(found.value - 1) >= 1.96 * found.stderr:
        return ()
    interval = f"T = {found.value:.4g} ± {found.stderr:.2g} (standard error)"
    return (f"{interval} is not distinguishable from 1: calibrating changes nothing you can measure",)
