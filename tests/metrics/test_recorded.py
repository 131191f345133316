"""Scores as a calibrated file keeps them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

import onnxcal
from onnxcal.metrics.recorded import RecordedMetrics


def measured(bootstrap: int = 50) -> Any:
    rng = np.random.default_rng(0)
    z = 3 * rng.normal(size=(400, 4))
    labels = (z / 3 + rng.gumbel(size=z.shape)).argmax(axis=1)
    metrics = onnxcal.fit(z, labels, bootstrap=bootstrap).metrics
    assert metrics is not None
    return metrics


@pytest.mark.parametrize("bootstrap", [0, 50])
def test_what_is_written_is_read_back_to_six_digits(bootstrap: int) -> None:
    metrics = measured(bootstrap)
    record = RecordedMetrics.of(metrics)
    text = json.dumps(record.as_json(), allow_nan=False)
    assert RecordedMetrics.from_dict(json.loads(text)) == record
    for part in ("before", "after"):
        for name in ("accuracy", "confidence", "nll", "ece", "ece_floor", "brier"):
            exact = getattr(getattr(metrics, part), name)
            assert getattr(getattr(record, part), name) == pytest.approx(exact, rel=5e-6)
    assert (record.n_samples, record.split) == (metrics.n_samples, metrics.split)
    if bootstrap:
        assert record.intervals.difference.nll == pytest.approx(metrics.intervals.difference.nll, rel=5e-6)
    assert len(text) < 1000


def test_an_infinite_score_is_kept() -> None:
    values = RecordedMetrics.of(measured(0)).as_json()
    values["before"]["nll"] = None
    record = RecordedMetrics.from_dict(values)
    assert record.before.nll == math.inf
    assert record.as_json()["before"]["nll"] is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda v: v.pop("split"),
        lambda v: v.update(split="somewhere"),
        lambda v: v.update(n_samples="many"),
        lambda v: v.update(before=3),
        lambda v: v["after"].pop("ece"),
        lambda v: v["after"].update(ece="small"),
        lambda v: v["after"].update(ece=float("nan")),
        lambda v: v["intervals"].update(resamples=None),
        lambda v: v["intervals"]["after"].update(nll=[1.0]),
        lambda v: v["intervals"]["after"].update(nll=7),
    ],
)
def test_what_is_no_such_record_is_refused(damage: Any) -> None:
    values = json.loads(json.dumps(RecordedMetrics.of(measured()).as_json()))
    damage(values)
    with pytest.raises((KeyError, TypeError, ValueError)):
        RecordedMetrics.from_dict(values)
