"""Scores as a calibrated file keeps them: what `Metrics` says in numbers, to six digits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from onnxcal.metrics.bootstrap import Intervals, ScoreIntervals
from onnxcal.metrics.comparison import Metrics
from onnxcal.metrics.scores import Scores

_DIGITS = 6
_SPLITS = ("holdout", "eval", "fit")


@dataclass(frozen=True)
class RecordedScores:
    """One set of scores, without the bins."""

    accuracy: float
    """See `Scores`."""
    confidence: float
    """See `Scores`."""
    nll: float
    """See `Scores`; may be infinite."""
    ece: float
    """See `Scores`."""
    ece_floor: float
    """See `Scores`."""
    brier: float
    """See `Scores`."""


@dataclass(frozen=True)
class RecordedMetrics:
    """Scores before and after a calibration; fields as of `Metrics`."""

    n_samples: int
    """Samples that both were measured on."""
    split: str
    """`holdout`, `eval` or `fit`."""
    before: RecordedScores
    """At T = 1."""
    after: RecordedScores
    """At the fitted temperature."""
    intervals: Intervals | None
    """How sure they are; None if the bootstrap was switched off."""

    @classmethod
    def of(cls, metrics: Metrics | RecordedMetrics) -> RecordedMetrics:
        """The same, to as many digits as are kept."""
        before, after = _rounded_scores(metrics.before), _rounded_scores(metrics.after)
        sure = metrics.intervals
        if sure is not None:
            parts = {part: _rounded_intervals(getattr(sure, part)) for part in ("before", "after", "difference")}
            sure = Intervals(sure.level, sure.resamples, **parts)
        return cls(metrics.n_samples, metrics.split, before, after, sure)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RecordedMetrics:
        """What `as_json` gave.

        Raises
        ------
        KeyError, TypeError, ValueError
            Something is missing, or is of another type.
        """
        if type(values["n_samples"]) is not int or values["split"] not in _SPLITS:
            raise TypeError("a value has another type")
        names = [field.name for field in fields(RecordedScores)]
        before, after = (
            RecordedScores(*(_number(values[part][name]) for name in names)) for part in ("before", "after")
        )
        sure = values["intervals"]
        if sure is not None:
            if type(sure["resamples"]) is not int:
                raise TypeError("a value has another type")
            parts = {part: _score_intervals(sure[part]) for part in ("before", "after", "difference")}
            sure = Intervals(_number(sure["level"]), sure["resamples"], **parts)
        return cls(values["n_samples"], values["split"], before, after, sure)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON data; what is infinite is null."""
        return {key: _plain(value) for key, value in asdict(self).items()}


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _rounded_scores(scores: Scores | RecordedScores) -> RecordedScores:
    return RecordedScores(*(_rounded(getattr(scores, field.name)) for field in fields(RecordedScores)))


def _rounded_intervals(intervals: ScoreIntervals) -> ScoreIntervals:
    ends = ((_rounded(low), _rounded(high)) for low, high in (intervals.nll, intervals.ece, intervals.brier))
    return ScoreIntervals(*ends)


def _score_intervals(values: Mapping[str, Any]) -> ScoreIntervals:
    pairs = []
    for name in ("nll", "ece", "brier"):
        low, high = values[name]
        pairs.append((_number(low), _number(high)))
    return ScoreIntervals(*pairs)


def _number(value: Any) -> float:
    if value is None:
        return math.inf
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError("a value has another type")
    return float(value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
