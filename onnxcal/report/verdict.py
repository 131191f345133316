"""What came of a calibration, in one sentence: what a reader takes away who reads nothing else."""

from __future__ import annotations

from onnxcal.calibrators import Calibration
from onnxcal.calibrators.remarks import SIGNIFICANT
from onnxcal.metrics import Metrics
from onnxcal.metrics.recorded import RecordedMetrics

_WHERE = {
    "holdout": "the half that T was not fitted on",
    "eval": "the evaluation set",
    "fit": "the samples that T was fitted on",
}


def sentence(calibration: Calibration, metrics: Metrics | RecordedMetrics) -> str:
    """Whether the probabilities are better now, and how sure that is.

    NLL is the judge: a fit of T lowers it, and no wrong probabilities can. ECE is reported beside it.
    """
    before, after = metrics.before, metrics.after
    figures = f"NLL {before.nll:.3f} → {after.nll:.3f}, ECE {before.ece:.3f} → {after.ece:.3f}"
    where = f"on {_WHERE[metrics.split]} ({metrics.n_samples:,} samples)"
    t = f"T = {calibration.temperature:.3g}"
    if calibration.p_value is not None and calibration.p_value > SIGNIFICANT:
        return f"The probabilities were honest before: {t} is not distinguishable from 1; {figures} {where}."
    if metrics.intervals is None:
        better = "better" if after.nll < before.nll else "worse"
        return f"The probabilities are {better} with {t}: {figures} {where}."
    low, high = metrics.intervals.difference.nll
    if high < 0:
        return f"The probabilities are better beyond doubt with {t}: {figures} {where}."
    if low > 0:
        return f"The probabilities are worse with {t}, and that is no accident: {figures} {where}."
    return f"Whether the probabilities are better with {t} cannot be told from so few samples: {figures} {where}."
