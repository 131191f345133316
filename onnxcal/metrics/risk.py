"""Selective prediction: how often the surest predictions are wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxcal.metrics.pointwise import Rows
from onnxcal.metrics.subject import Subject

POINTS = 400
"""Of a curve, at most."""


@dataclass(frozen=True)
class RiskCoverage:
    """Share of errors among the surest predictions, as a function of how many of them are kept."""

    coverage: Rows
    """(P,), share of predictions that are kept, rising to 1."""
    risk: Rows
    """(P,), share of errors among those."""
    aurc: float
    """Area under the curve: the mean risk over all coverages (Geifman, Uziel & El-Yaniv 2019)."""


@dataclass(frozen=True)
class RiskCoverages:
    """The curves before and after calibration.

    Dividing by T leaves the order of the classes of one sample, but with more than two classes not the order of the
    samples by their confidence: the curves differ a little. With one logit they are the same.
    """

    before: RiskCoverage
    """At T = 1."""
    after: RiskCoverage
    """At the subject's T."""
    best: RiskCoverage
    """If every right prediction were surer than every wrong one: what no confidence can beat."""
    temperature: float
    """The subject's T."""


def risk_coverages(subject: Subject) -> RiskCoverages:
    """The curve at T = 1 and at the subject's T."""
    weight = subject.sample.weight
    per = len(subject.before.nll) // subject.sample.logits.n_samples
    w = np.ones(len(subject.before.nll)) if weight is None else np.repeat(weight, per)
    before, after = (risk_coverage(each.confidence, each.correct, w) for each in (subject.before, subject.after))
    correct = np.sort(subject.before.correct)[::-1], w[np.argsort(~subject.before.correct, kind="stable")]
    best = risk_coverage(-np.arange(len(w), dtype=np.float64), *correct)
    return RiskCoverages(before, after, best, subject.temperature)


def risk_coverage(confidence: Rows, correct: NDArray[np.bool_], weight: Rows | None = None) -> RiskCoverage:
    """The curve of some predictions.

    At coverage c the surest predictions with a weight of c in all are kept. Predictions of equal confidence are in no
    order: each stands for the mean of them, which is what an order drawn by lot gives on average.

    Parameters
    ----------
    confidence : (M,), larger is surer.
    correct : (M,) bool.
    weight : (M,), ≥ 0, how much each counts; None if all count 1.
    """
    w = np.ones(len(confidence)) if weight is None else weight
    levels, level = np.unique(-confidence, return_inverse=True)
    kept = np.bincount(level, weights=w, minlength=len(levels))
    wrong = np.bincount(level, weights=w * ~correct, minlength=len(levels))
    rate = wrong / np.where(kept > 0, kept, 1.0)
    order = np.argsort(level, kind="stable")
    order = order[w[order] > 0]
    w = w[order]
    total = np.cumsum(w)
    risk = np.cumsum(w * rate[level[order]]) / total
    shown = np.unique(np.rint(np.linspace(0, len(w) - 1, min(POINTS, len(w)))).astype(np.int64))
    return RiskCoverage(total[shown] / total[-1], risk[shown], float(w @ risk / total[-1]))
