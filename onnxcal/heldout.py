"""The calibration of one head, measured on samples that it was not fitted on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from onnxcal.calibrators import Calibration, fit_sample
from onnxcal.calibrators.fit import measured
from onnxcal.calibrators.holdout import halves
from onnxcal.errors import FitError
from onnxcal.inference.collect import CollectedLogits


def fit_and_measure(
    collected: CollectedLogits,
    evaluation: CollectedLogits | None,
    fitting: dict[str, Any],
    *,
    holdout: bool,
    resamples: int,
    seed: int,
) -> Calibration:
    """The calibration of all samples, measured on the evaluation set, on a held-out half, or on the same samples.

    `fitting` is what `fit_sample` is to be told.

    Raises
    ------
    FitError
        No positive, finite temperature is best for all samples.
    """
    sample = collected.labelled
    final = replace(fit_sample(sample, **fitting), output=collected.head.output, data_sha256=collected.data_sha256)
    how: dict[str, Any] = {"resamples": resamples, "seed": seed}
    if evaluation is not None:
        if evaluation.data_sha256 == collected.data_sha256:
            said = "the evaluation data are the data that T was fitted on: their scores are not held out"
            final = replace(final, warnings=(*final.warnings, said))
        return measured(final, evaluation.labelled, split="eval", **how)
    if not holdout:
        return measured(final, sample, split="fit", **how)
    fitted_on, held_out = halves(sample.labels, sample.logits.task, sample.group, seed)
    try:
        if len(held_out) == 0:
            raise FitError("one sample cannot be halved")
        half = fit_sample(sample.take(fitted_on), **fitting)
    except FitError as error:
        reason = f"measured on the samples it was fitted on, for half of them have no temperature: {error.message}"
        final = measured(final, sample, split="fit", **how)
        return replace(final, warnings=(*final.warnings, reason))
    return measured(final, sample.take(held_out), split="holdout", temperature=half.temperature, **how)
