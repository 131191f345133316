"""The calibration of one head, measured on samples that it was not fitted on."""

from __future__ import annotations

from dataclasses import replace

from onnxcal.calibrators import Calibration, fit_labelled
from onnxcal.calibrators.fit import measured
from onnxcal.calibrators.holdout import halves
from onnxcal.errors import FitError
from onnxcal.inference.collect import CollectedLogits


def fit_and_measure(
    collected: CollectedLogits, evaluation: CollectedLogits | None, *, holdout: bool, seed: int
) -> Calibration:
    """The calibration of all samples, measured on the evaluation set, on a held-out half, or on the same samples.

    Raises
    ------
    FitError
        No positive, finite temperature is best for all samples.
    """
    logits, labels = collected.labelled
    final = fit_labelled(logits, labels)
    final = replace(final, output=collected.head.output, data_sha256=collected.data_sha256)
    if evaluation is not None:
        return measured(final, *evaluation.labelled, split="eval")
    if not holdout:
        return measured(final, logits, labels, split="fit")
    fitted_on, held_out = halves(labels, logits.task, collected.sample, seed)
    try:
        if len(held_out) == 0:
            raise FitError("one sample cannot be halved")
        half = fit_labelled(logits.take(fitted_on), labels.take(fitted_on))
    except FitError as error:
        reason = f"measured on the samples it was fitted on, for half of them have no temperature: {error.message}"
        final = measured(final, logits, labels, split="fit")
        return replace(final, warnings=(*final.warnings, reason))
    return measured(final, logits.take(held_out), labels.take(held_out), split="holdout", temperature=half.temperature)
