"""Scores before and after a calibration, on the same samples, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxcal.logits import Sample
from onnxcal.metrics.bootstrap import DEFAULT_RESAMPLES, Intervals, bootstrap
from onnxcal.metrics.per_sample import per_sample
from onnxcal.metrics.scores import Scores


@dataclass(frozen=True)
class Metrics:
    """Scores before and after calibration, and on which samples they were measured."""

    n_samples: int
    """Samples that both were measured on."""
    split: str
    """`holdout`: the half not fitted on; `eval`: a separate set; `fit`: the samples that were fitted on."""
    before: Scores
    """At T = 1."""
    after: Scores
    """At the fitted temperature."""
    intervals: Intervals | None
    """How sure they are; None if the bootstrap was switched off."""


def compare(
    sample: Sample, temperature: float, *, split: str, resamples: int = DEFAULT_RESAMPLES, seed: int = 0
) -> Metrics:
    """Scores at T = 1 and at `temperature`.

    Parameters
    ----------
    sample : what they are measured on.
    temperature : T > 0.
    split : what kind of samples these are, see `Metrics`.
    resamples : of the bootstrap; 0 for no intervals.
    seed : of the resamples.
    """
    n = sample.logits.n_samples
    before, after = (per_sample(sample, t) for t in (1.0, temperature))
    intervals = None
    if resamples:
        group = None if before.group is None else np.unique(before.group, return_inverse=True)[1]
        weight = None if sample.weight is None else np.repeat(sample.weight, len(before.nll) // n)
        intervals = bootstrap(before, after, group=group, weight=weight, resamples=resamples, seed=seed)
    return Metrics(
        n_samples=n,
        split=split,
        before=Scores.of(before, n, sample.weight),
        after=Scores.of(after, n, sample.weight),
        intervals=intervals,
    )
