"""What the user should know of a fit, one sentence each."""

from __future__ import annotations

import math

from onnxcal.calibrators.calibration import Calibration
from onnxcal.logits import Sample
from onnxcal.metrics import Metrics

DOUBTFUL = 2.0
"""Half widths of the interval of log T around T = 1 within which the likelihood ratio is worked out at once."""
SIGNIFICANT = 0.05
"""p-value above which T is not distinguished from 1."""


def about_temperature(calibration: Calibration, sample: Sample | None = None) -> tuple[str, ...]:
    """Labels that are all one class; a temperature that is not distinguishable from ∞, or from 1."""
    said = []
    if sample is not None and sample.labels.are_indices and sample.logits.n_samples > 1:
        first = int(sample.labels.values[0])
        if sample.labels.values[-1] == first and (sample.labels.values == first).all():
            said.append(f"all {sample.logits.n_samples:,} labels are class {first}: T fits that class only")
    if calibration.prior is not None:
        said.append(
            f"T is the most probable one under a prior of log T with standard deviation {calibration.prior:g} around 0"
        )
    if calibration.smoothing is not None:
        said.append(f"labels were smoothed: {calibration.smoothing:.3g} of each is spread over all classes")
    return (*said, *_next_to_useless(calibration), *_near_one(calibration))


def _next_to_useless(calibration: Calibration) -> tuple[str, ...]:
    """β = 1/T is not distinguishable from 0, where the logits would say nothing (Wald test at 5 %)."""
    assert calibration.interval is not None
    low, high = calibration.interval
    if low > 0 and math.log(high) - math.log(low) < 2:
        return ()
    return (
        f"T = {calibration.temperature:.4g} (95 % interval {low:.3g} to {high:.3g}): by these samples the labels may "
        "have nothing to do with the logits; pass more, and check that labels and inputs are in the same order",
    )


def _near_one(calibration: Calibration) -> tuple[str, ...]:
    t, interval = calibration.temperature, calibration.interval
    assert interval is not None
    low, high = interval
    if (
        abs(math.log(t)) > DOUBTFUL * (math.log(high) - math.log(t))
        or (p := calibration.p_value) is None
        or p <= SIGNIFICANT
    ):
        return ()
    return (
        f"T = {t:.4g} ± {(high - low) / 2:.2g} (95 %): not distinguishable from 1 (likelihood-ratio test, "
        f"p = {p:.2g}); calibrating changes nothing you can measure",
    )


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
