"""`fit`: from arrays of logits and labels to a `Calibration`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from onnxcal.calibrators.batches import added, kept
from onnxcal.calibrators.calibration import METHODS, Calibration
from onnxcal.calibrators.evidence import Comparison, FittedOn, p_value
from onnxcal.calibrators.grid import NLLGrid
from onnxcal.calibrators.remarks import about_temperature, got_worse
from onnxcal.calibrators.temperature import fit_temperature
from onnxcal.errors import DataError, UsageError
from onnxcal.logits import Sample, Task, check_task
from onnxcal.metrics.bootstrap import DEFAULT_RESAMPLES
from onnxcal.rows import labelled


def fit(
    logits: Any,
    labels: Any = None,
    *,
    method: str = "temperature",
    task: Task | None = None,
    axis: int | None = None,
    ignore_index: int | None = None,
    sample_weight: Any = None,
    exact: bool = False,
    prior: float | None = None,
    smoothing: float | None = None,
    no_spool: bool = False,
    eval_data: tuple[Any, ...] | None = None,
    bootstrap: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> Calibration:
    """Fit a calibrator on logits and labels by minimising the negative log-likelihood.

    Parameters
    ----------
    logits : array_like (N, K), (N, K, d1, …), or (N,) or (N, 1) for binary; float16, float32 or float64; memory-mapped
        arrays may be larger than memory. Or, without `labels`, an iterable of (logits, labels) batches, or of (logits,
        labels, sample_weight), which are kept in a temporary file where they are many.
    labels : array_like of class indices, one a sample; or one-hot, soft or 0/1 labels of the logits' shape.
    method : `temperature` (Guo et al. 2017, section 4.2).
    task : default binary for (N,) and (N, 1), else multiclass.
    axis : the class axis, default 1.
    ignore_index : samples with this label are dropped.
    sample_weight : array_like (N,), ≥ 0, how much each sample counts.
    exact : find T to 10⁻¹² of itself instead of 10⁻⁷, and `.gradient` with it as a certificate.
    prior : σ of a log-normal prior on T with median 1: log T ~ N(0, σ²). With σ = 1, as weak as to say that T is within
        a factor of 7 (95 %), separable and useless logits have a temperature too. None for maximum likelihood.
    smoothing : ε, share of each label that is spread over all classes, which does the same for separable logits; the
        Laplace rule is 1 / (N + 1). None for the labels as they are.
    no_spool : with batches: keep none of them, and fit in a single pass on a grid of temperatures (`NLLGrid`).
    eval_data : logits and labels (and sample weights) to measure on; default the ones fitted on.
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
    check_regularisation(prior, smoothing)
    if labels is None and sample_weight is not None:
        raise UsageError(
            "sample_weight is for arrays, but batches were passed", hint="yield (logits, labels, sample_weight)"
        )
    _check_single_pass(no_spool, prior, smoothing, exact=exact, batches=labels is None)
    reading: dict[str, Any] = {"task": task, "axis": axis, "ignore_index": ignore_index}
    if no_spool:
        calibration, sample = fit_grid(added(logits, **reading)), None
    else:
        batches = labels is None
        sample = kept(logits, **reading) if batches else labelled(logits, labels, weight=sample_weight, **reading)
        calibration = fit_sample(sample, exact=exact, prior=prior, smoothing=smoothing or 0.0)
    how: dict[str, Any] = {"resamples": bootstrap, "seed": seed}
    if eval_data is None:
        return calibration if sample is None else measured(calibration, sample, split="fit", **how)
    values, truth, *weight = eval_data
    reading["task"] = calibration.task
    apart = labelled(values, truth, weight=weight[0] if weight else None, **reading)
    if sample is not None and apart.logits.num_classes != sample.logits.num_classes:
        raise DataError(
            f"eval_data has {apart.logits.num_classes} classes, the logits fitted on {sample.logits.num_classes}",
            hint="pass logits of the same model",
        )
    calibration = measured(calibration, apart, split="eval", **how)
    assert calibration.metrics is not None
    return replace(calibration, warnings=(*calibration.warnings, *got_worse(calibration.metrics)))


def fit_sample(
    sample: Sample, *, exact: bool = False, prior: float | None = None, smoothing: float = 0.0
) -> Calibration:
    """`fit` on arrays that were checked, without scores."""
    found = fit_temperature(sample, exact=exact, prior=prior, smoothing=smoothing)
    calibration = Calibration(
        temperature=found.value,
        stderr=found.stderr,
        robust_stderr=found.robust_stderr,
        gradient=found.gradient,
        objective="nll" if prior is None else "nll+prior",
        prior=prior,
        smoothing=smoothing or None,
        n_samples=sample.logits.n_samples,
        converged=True,
        task=sample.logits.task,
        fitted_on=FittedOn(sample),
    )
    warnings = about_temperature(calibration, sample)
    return replace(calibration, warnings=warnings) if warnings else calibration


def fit_grid(state: NLLGrid) -> Calibration:
    """`fit` from the state of a single pass; there is nothing to measure it on."""
    found, precision = state.temperature()
    assert found.stderr is not None
    calibration = Calibration(
        temperature=found.value,
        stderr=found.stderr,
        robust_stderr=found.robust_stderr,
        precision=precision,
        objective="nll",
        n_samples=state.n_samples,
        converged=True,
        task=state.task,
        tested=p_value(state.likelihood_ratio(found.value), found.stderr, found.robust_stderr),
    )
    return replace(calibration, warnings=about_temperature(calibration))


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


def check_method(method: str) -> None:
    """Raise UsageError unless `method` is known."""
    if method not in METHODS:
        raise UsageError(f"method {method!r} is not known", hint=f"use one of {', '.join(METHODS)}")


def check_resamples(resamples: int) -> None:
    """Raise UsageError unless this many resamples can be drawn."""
    if not 0 <= resamples <= 100_000:
        raise UsageError(f"bootstrap {resamples} is not between 0 and 100,000", hint="1000 is usual, 0 is none")


def check_regularisation(prior: float | None, smoothing: float | None) -> None:
    """Raise UsageError unless both are in their range."""
    if prior is not None and not 0.01 <= prior <= 100:
        raise UsageError(
            f"prior {prior} is not between 0.01 and 100", hint="it is the standard deviation of log T; 1 is weak"
        )
    if smoothing is not None and not 0 <= smoothing < 1:
        raise UsageError(f"smoothing {smoothing} is not at least 0 and below 1", hint="the Laplace rule is 1 / (N + 1)")


def _check_single_pass(
    no_spool: bool, prior: float | None, smoothing: float | None, *, exact: bool, batches: bool
) -> None:
    if no_spool and not batches:
        raise UsageError("no_spool is for batches, but arrays were passed", hint="leave it out: arrays are not copied")
    if no_spool and (exact or prior is not None or smoothing):
        raise UsageError(
            "a single pass (no_spool) cannot be exact, and knows no prior and no smoothing",
            hint="let the logits be kept: leave no_spool out",
        )
