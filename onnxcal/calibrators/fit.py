"""`fit`: from arrays of logits and labels to a `Calibration`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from onnxcal.calibrators.calibration import METHODS, Calibration
from onnxcal.calibrators.evidence import Comparison, FittedOn
from onnxcal.calibrators.temperature import fit_temperature
from onnxcal.errors import DataError, UsageError
from onnxcal.logits import Sample, Task, check_task
from onnxcal.metrics import Metrics
from onnxcal.metrics.bootstrap import DEFAULT_RESAMPLES
from onnxcal.rows import labelled

DOUBTFUL = 2.0
"""Half widths of the interval of log T around T = 1 within which the likelihood ratio is worked out at once."""
SIGNIFICANT = 0.05
"""p-value above which T is not distinguished from 1."""


def fit(
    logits: Any,
    labels: Any,
    *,
    method: str = "temperature",
    task: Task | None = None,
    axis: int | None = None,
    ignore_index: int | None = None,
    sample_weight: Any = None,
    exact: bool = False,
    eval_data: tuple[Any, Any] | None = None,
    bootstrap: int = DEFAULT_RESAMPLES,
    seed: int = 0,
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
    sample_weight : array_like (N,), ≥ 0, how much each sample counts.
    exact : find T to 10⁻¹² of itself instead of 10⁻⁷, and `.gradient` with it as a certificate.
    eval_data : logits and labels to measure on; default the ones fitted on.
    bootstrap : resamples for the intervals of the metrics; 0 for none.
    seed : of the resamples.

    Returns
    -------
    Calibration, with `.temperature`, `.stderr`, `.interval`; `.p_value` and `.metrics` before and after are worked out
    when they are first asked for, from the arrays that were passed.

    Raises
    ------
    DataError
        Arrays that do not fit each other.
    FitError
        No positive, finite temperature is best: see `fit_temperature`.
    """
    check_method(method)
    check_task(task)
    check_resamples(bootstrap)
    sample = labelled(logits, labels, task=task, axis=axis, ignore_index=ignore_index, weight=sample_weight)
    calibration = fit_sample(sample, exact=exact)
    if eval_data is None:
        return measured(calibration, sample, split="fit", resamples=bootstrap, seed=seed)
    apart = labelled(*eval_data, task=sample.logits.task, axis=axis, ignore_index=ignore_index)
    if apart.logits.num_classes != sample.logits.num_classes:
        raise DataError(
            f"eval_data has {apart.logits.num_classes} classes, the logits fitted on {sample.logits.num_classes}",
            hint="pass logits of the same model",
        )
    calibration = measured(calibration, apart, split="eval", resamples=bootstrap, seed=seed)
    assert calibration.metrics is not None
    return replace(calibration, warnings=(*calibration.warnings, *got_worse(calibration.metrics)))


def fit_sample(sample: Sample, *, exact: bool = False) -> Calibration:
    """`fit` on arrays that were checked, without scores."""
    found = fit_temperature(sample, exact=exact)
    calibration = Calibration(
        temperature=found.value,
        stderr=found.stderr,
        robust_stderr=found.robust_stderr,
        gradient=found.gradient,
        objective="nll",
        n_samples=sample.logits.n_samples,
        converged=True,
        task=sample.logits.task,
        fitted_on=FittedOn(sample),
    )
    warnings = _noteworthy(calibration)
    return replace(calibration, warnings=warnings) if warnings else calibration


def measured(
    calibration: Calibration,
    sample: Sample,
    *,
    split: str,
    temperature: float | None = None,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> Calibration:
    """The calibration with what it is to be measured on.

    `temperature` is what to measure instead of the calibration's own: the one that was fitted without these samples.
    """
    compared = Comparison(sample, temperature or calibration.temperature, split, resamples, seed)
    return replace(calibration, comparison=compared)


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
            if metrics.intervals is not None and getattr(metrics.intervals.difference, key)[0] <= 0:
                rest += "; the difference is within what other samples would give"
            sentences.append(
                f"calibration made {name} worse on {where[metrics.split]} ({n}): {before:.4g} → {after:.4g}{rest}"
            )
    return tuple(sentences)


def check_method(method: str) -> None:
    """Raise UsageError unless `method` is known."""
    if method not in METHODS:
        raise UsageError(f"method {method!r} is not known", hint=f"use one of {', '.join(METHODS)}")


def check_resamples(resamples: int) -> None:
    """Raise UsageError unless this many resamples can be drawn."""
    if not 0 <= resamples <= 100_000:
        raise UsageError(f"bootstrap {resamples} is not between 0 and 100,000", hint="1000 is usual, 0 is none")


def _noteworthy(calibration: Calibration) -> tuple[str, ...]:
    t, interval = calibration.temperature, calibration.interval
    assert interval is not None
    low, high = interval
    if abs(math.log(t)) > DOUBTFUL * math.log(high / t) or (p := calibration.p_value) is None or p <= SIGNIFICANT:
        return ()
    return (
        f"T = {t:.4g} ± {(high - low) / 2:.2g} (95 %): not distinguishable from 1 (likelihood-ratio test, "
        f"p = {p:.2g}); calibrating changes nothing you can measure",
    )
