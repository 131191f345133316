"""What came of a calibration, in one sentence: what a reader takes away who reads nothing else."""

from __future__ import annotations

from typing import Literal, TypeAlias

from onnxcal.calibrators import Calibration
from onnxcal.calibrators.remarks import SIGNIFICANT
from onnxcal.metrics import Metrics
from onnxcal.metrics.recorded import RecordedMetrics

Outcome: TypeAlias = Literal["better", "worse", "undecided", "unneeded"]

_WHERE = {
    "holdout": "the held-out half",
    "eval": "the evaluation set",
    "fit": "the samples that T was fitted on",
}


def outcome(calibration: Calibration, metrics: Metrics | RecordedMetrics) -> Outcome:
    """What calibration did to the NLL, which is the judge: a fit of T lowers it, and no wrong probabilities can.

    `unneeded` if T is not distinguishable from 1, `undecided` if the 95 % interval of the change holds 0; without
    intervals, the sign of the change decides.
    """
    if calibration.p_value is not None and calibration.p_value > SIGNIFICANT:
        return "unneeded"
    if metrics.intervals is None:
        return "better" if metrics.after.nll < metrics.before.nll else "worse"
    low, high = metrics.intervals.difference.nll
    return "better" if high < 0 else "worse" if low > 0 else "undecided"


def sentence(calibration: Calibration, metrics: Metrics | RecordedMetrics) -> str:
    """The outcome in words, with NLL and ECE before and after, and where they were measured."""
    t = f"T = {calibration.temperature:.3g}"
    sure = "" if metrics.intervals is None else "measurably "
    said = {
        "better": f"The probabilities are {sure}better with {t}",
        "worse": f"The probabilities are {sure}worse with {t}",
        "undecided": f"Whether the probabilities are better with {t} cannot be told from so few samples",
        "unneeded": f"Nothing shows that the probabilities need calibrating ({t} is not distinguishable from 1)",
    }[outcome(calibration, metrics)]
    before, after = metrics.before, metrics.after
    figures = f"NLL {before.nll:.3f} → {after.nll:.3f}, ECE {before.ece:.3f} → {after.ece:.3f}"
    samples = f"{metrics.n_samples:,} sample{'s' * (metrics.n_samples != 1)}"
    return f"{said}: {figures} on {_WHERE[metrics.split]} ({samples})."
