"""NLL and ECE as functions of the temperature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxcal.metrics.pointwise import Rows
from onnxcal.metrics.scores import score
from onnxcal.metrics.subject import Subject

POINTS, FEW_POINTS = 81, 33
"""Temperatures of a curve; of more logits than `MANY_ELEMENTS`, fewer."""
MANY_ELEMENTS = 1 << 23
MARGIN = 3.0
"""How far the curve goes beyond T = 1 and the subject's T, as a factor."""


@dataclass(frozen=True)
class TemperatureCurve:
    """Scores of softmax(z / T) or σ(z / T) for many T."""

    temperatures: Rows
    """(P,), rising, evenly spaced in log T but for 1 and the subject's T, which are among them."""
    nll: Rows
    """(P,), mean negative log-likelihood, nats; convex in 1/T."""
    ece: Rows
    """(P,), expected calibration error, 15 bins."""
    ece_floor: Rows
    """(P,), the ECE to be expected if the probabilities were perfectly calibrated."""
    temperature: float
    """The subject's T."""
    interval: tuple[float, float] | None
    """Its 95 % interval; None if it was given, not fitted."""


def temperature_curve(subject: Subject) -> TemperatureCurve:
    """The curve over all temperatures between a third of the smallest and three times the largest that matters."""
    marked = (1.0, subject.temperature)
    around = (*marked, *(subject.interval or ()))
    points = FEW_POINTS if subject.sample.logits.values.size > MANY_ELEMENTS else POINTS
    grid = np.geomspace(min(around) / MARGIN, max(around) * MARGIN, points)
    temperatures = np.unique(np.concatenate([grid, marked]))
    scores = [score(subject.sample, float(t)) for t in temperatures]
    return TemperatureCurve(
        temperatures,
        nll=np.array([one.nll for one in scores]),
        ece=np.array([one.ece for one in scores]),
        ece_floor=np.array([one.ece_floor for one in scores]),
        temperature=subject.temperature,
        interval=subject.interval,
    )
