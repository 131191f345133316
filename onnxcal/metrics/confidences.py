"""How sure a model is where it is right, and where it is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onnxcal.metrics.per_sample import PerSample
from onnxcal.metrics.pointwise import Rows
from onnxcal.metrics.reliability import bin_edges, bin_of
from onnxcal.metrics.subject import Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray

HISTOGRAM_BINS = 20


@dataclass(frozen=True)
class ConfidenceHistogram:
    """Confidences of right and of wrong predictions; samples count 1 each, also where they are weighted."""

    temperature: float
    """T that the logits were divided by."""
    edges: Rows
    """(M + 1,), from 0 to 1."""
    right: NDArray[np.int64]
    """(M,), right predictions in each bin (lo, hi]."""
    wrong: NDArray[np.int64]
    """(M,), wrong ones."""
    mean_right: float | None
    """Mean confidence of the right ones; None if there are none."""
    mean_wrong: float | None
    """Mean confidence of the wrong ones; None if there are none."""

    @property
    def shares(self) -> tuple[Rows, Rows]:
        """(M,) and (M,): the counts as shares of all right, and of all wrong predictions."""
        return self.right / max(1, int(self.right.sum())), self.wrong / max(1, int(self.wrong.sum()))


@dataclass(frozen=True)
class ConfidenceHistograms:
    """Before and after calibration."""

    before: ConfidenceHistogram
    """At T = 1."""
    after: ConfidenceHistogram
    """At the subject's T."""


def confidence_histograms(subject: Subject) -> ConfidenceHistograms:
    """The histograms at T = 1 and at the subject's T."""
    return ConfidenceHistograms(
        confidence_histogram(subject.before, 1.0), confidence_histogram(subject.after, subject.temperature)
    )


def confidence_histogram(each: PerSample, temperature: float, n_bins: int = HISTOGRAM_BINS) -> ConfidenceHistogram:
    """The histograms of some predictions made at `temperature`."""
    groups = each.confidence[each.correct], each.confidence[~each.correct]
    right, wrong = (np.bincount(bin_of(c, n_bins), minlength=n_bins).astype(np.int64) for c in groups)
    means = (float(c.mean()) if c.size else None for c in groups)
    return ConfidenceHistogram(temperature, bin_edges(n_bins), right, wrong, *means)
