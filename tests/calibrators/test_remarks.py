"""The sentences that go with a fit."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from onnxcal.calibrators import fit
from onnxcal.errors import FitError
from tests.reference.problems import multiclass


def near_one(calibration):
    return [said for said in calibration.warnings if "not distinguishable from 1" in said]


def test_a_temperature_that_may_be_one_is_said_to_be_with_its_interval():
    found = fit(*multiclass(400, scale=1.0))
    (said,) = near_one(found)
    t, half, p = (float(v) for v in re.match(r"T = (\S+) ± (\S+) \(95 %\).* p = (\S+)\)", said).groups())
    low, high = found.interval
    assert t == pytest.approx(found.temperature, rel=1e-3)
    assert half == pytest.approx((high - low) / 2, rel=0.06)
    assert p == pytest.approx(found.p_value, rel=0.06)
    assert low < 1 < high


@pytest.mark.parametrize("seed", range(30))
def test_it_is_said_exactly_where_the_test_does_not_reject(seed):
    found = fit(*multiclass(400, scale=float(np.exp(np.random.default_rng(seed).normal() * 0.12)), seed=seed))
    assert bool(near_one(found)) == (found.p_value > 0.05)


def test_nothing_is_said_of_a_temperature_that_is_sure():
    assert fit(*multiclass(2000)).warnings == ()
    assert fit(*multiclass(2000, scale=0.3)).warnings == ()


def test_labels_of_one_class_are_remarked_on():
    z, _ = multiclass(200, 4)
    z[:, 2] += 3
    found = fit(z, np.full(200, 2))
    assert found.warnings[0] == "all 200 labels are class 2: T fits that class only"


def test_a_label_that_is_never_predicted_is_fitted_like_any():
    z, y = multiclass(500, 4)
    z[:, 3] -= 20
    assert (z.argmax(axis=1) != 3).all()
    assert (y == 3).any()
    assert math.isfinite(fit(z, y).temperature)


def test_a_prior_and_smoothing_are_named_with_their_strength():
    z, y = multiclass(200)
    assert "standard deviation 0.5 around 0" in " ".join(fit(z, y, prior=0.5).warnings)
    assert "0.01 of each is spread over all classes" in " ".join(fit(z, y, smoothing=0.01).warnings)


def test_a_worse_score_is_said_to_be_within_chance_where_it_is():
    """The interval of the paired difference decides."""
    z, y = multiclass(2000, scale=1.1)
    for seed in range(40):
        found = fit(z, y, eval_data=multiclass(60, scale=1.1, seed=seed + 100))
        difference = found.metrics.intervals.difference
        for key, name in (("nll", "NLL"), ("ece", "ECE")):
            said = [sentence for sentence in found.warnings if f"made {name} worse" in sentence]
            worse = getattr(found.metrics.after, key) > getattr(found.metrics.before, key)
            assert bool(said) == worse
            if worse:
                within = getattr(difference, key)[0] <= 0
                assert ("within what other samples would give" in said[0]) == within


def test_without_resamples_nothing_is_said_of_chance():
    z, y = multiclass(2000, scale=2.0)
    found = fit(z, y, eval_data=multiclass(200, scale=0.5, seed=9), bootstrap=0)
    assert found.metrics.intervals is None
    assert any("made NLL worse" in said and "within" not in said for said in found.warnings)


def test_labels_that_may_have_nothing_to_do_with_the_logits_are_remarked_on():
    rng = np.random.default_rng(3)
    z, y = multiclass(400)
    chance = next(found for found in (fitted_on_permuted(z, y, rng) for _ in range(50)) if found is not None)
    assert "nothing to do with the logits" in chance.warnings[0]
    assert chance.temperature / chance.stderr < 2
    assert not any("nothing to do" in line for line in fit(z, y).warnings)


def fitted_on_permuted(z, y, rng):
    """None where chance alone ranks the labels worse than chance."""
    try:
        return fit(z, rng.permutation(y))
    except FitError:
        return None
