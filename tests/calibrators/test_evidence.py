"""How sure T is: against torch's second derivative, float64 sandwiches, cluster bootstraps, χ² of scipy, simulation."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle

import numpy as np
import pytest
from scipy.stats import chi2, norm
from torch.nn import functional

from onnxcal.calibrators import Calibration, fit, fit_temperature
from onnxcal.calibrators.evidence import MISSPECIFIED, Z95, enough_samples, interval
from onnxcal.report.calibration import write_calibration
from onnxcal.rows import labelled
from tests.reference.float64 import best_temperature, rows, standard_errors
from tests.reference.likelihood import pairs
from tests.reference.others import torch_standard_error
from tests.reference.problems import multiclass, sigmoids

# Standard errors


@pytest.mark.parametrize("n", [500, 20_000])
def test_the_standard_error_is_the_second_derivative_of_torch(n):
    z, y = multiclass(n, 5)
    for exact, rel in ((False, 1e-4), (True, 1e-8)):
        found = fit_temperature(labelled(z, y), exact=exact)
        wanted = torch_standard_error(z, y, found.value, functional.cross_entropy)
        assert found.stderr == pytest.approx(wanted, rel=rel)


@pytest.mark.parametrize("n", [500, 20_000])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_robust_standard_error_is_the_sandwich(n, weighted):
    z, y = multiclass(n, 5)
    weight = np.random.default_rng(0).exponential(size=n) if weighted else None
    for exact, rel in ((False, 2e-2), (True, 1e-8)):
        found = fit_temperature(labelled(z, y, weight=weight), exact=exact)
        wanted = standard_errors(z, y, found.value, weight)
        assert found.robust_stderr == pytest.approx(wanted.robust, rel=rel)


def test_the_sandwich_of_sigmoids_counts_samples_not_entries():
    s, y = sigmoids((400, 6))
    y[:, 1:] = y[:, :1]  # six labels that are one
    s[:, 1:] = s[:, :1]
    found = fit_temperature(labelled(s, y, task="multilabel"), exact=True)
    z, w = pairs(s, y)
    wanted = standard_errors(z, w, found.value, group=np.repeat(np.arange(400), 6))
    assert found.robust_stderr == pytest.approx(wanted.robust, rel=1e-8)
    assert found.robust_stderr / found.stderr == pytest.approx(math.sqrt(6), rel=0.15)


def dense(images=60, seed=0):
    """Positions of an image that share an error, so that they are worth less than their number."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(images, 36, 4)) * 1.5
    shared = 2.0 * rng.normal(size=(images, 1, 4))
    y = (honest + rng.gumbel(size=honest.shape)).argmax(axis=2)
    z = 3 * (honest + shared)
    return np.moveaxis(z.reshape(images, 6, 6, 4), -1, 1), y.reshape(images, 6, 6), z, y


def test_positions_of_one_image_are_one_sample():
    z, y, flat, flat_y = dense()
    found = fit(z, y, exact=True)
    group = np.repeat(np.arange(60), 36)
    wanted = standard_errors(flat.reshape(-1, 4), flat_y.ravel(), found.temperature, group=group)
    assert found.robust_stderr == pytest.approx(wanted.robust, rel=1e-8)
    alone = standard_errors(flat.reshape(-1, 4), flat_y.ravel(), found.temperature)
    assert found.robust_stderr > 1.3 * alone.robust
    assert found.interval == pytest.approx(interval(found.temperature, wanted.robust, None), rel=1e-6)


def test_the_clustered_standard_error_is_that_of_a_bootstrap_of_images():
    z, y, flat, flat_y = dense(seed=1)
    rng = np.random.default_rng(2)
    drawn = []
    for _ in range(200):
        some = rng.integers(0, 60, 60)
        drawn.append(math.log(best_temperature(flat[some].reshape(-1, 4), flat_y[some].ravel(), start=4.0)))
    found = fit(z, y)
    # A spread of 200 draws is known to 5 %, the sandwich of 60 clusters to about 10 %.
    assert found.robust_stderr / found.temperature == pytest.approx(float(np.std(drawn)), rel=0.3)


# Intervals


def test_an_interval_is_symmetric_in_log_t():
    low, high = interval(2.0, 0.3, None)
    assert low * high == pytest.approx(4.0)
    assert math.log(high / 2) == pytest.approx(norm.ppf(0.975) * 0.15, rel=1e-12)
    assert pytest.approx(norm.ppf(0.975), rel=1e-14) == Z95


@pytest.mark.parametrize(("robust", "believed"), [(None, 0.1), (0.05, 0.1), (0.109, 0.1), (0.111, 0.111), (0.3, 0.3)])
def test_the_robust_error_is_believed_where_it_is_a_tenth_larger(robust, believed):
    assert MISSPECIFIED == 1.1
    assert interval(2.0, 0.1, robust) == interval(2.0, believed, None)


@pytest.mark.parametrize("information", [2.0**-5, 2.0**-8, 2.0**-20])
def test_next_to_no_information_makes_an_interval_without_ends(information, tmp_path):
    z, y = np.array([[1.0, 0.0], [1.0, 0.0], [information, 0.0]]), np.array([0, 1, 0])
    found = fit(z, y)
    low, high = found.interval
    assert low <= 1e-30 < found.temperature < 1e30 <= high
    if high == math.inf:
        assert (low, found.enough_samples) == (0.0, None)
    assert found.p_value == pytest.approx(0.49, abs=0.02)
    assert any("not distinguishable from 1" in sentence for sentence in found.warnings)
    write_calibration(found, tmp_path / "cal.json")
    assert Calibration.load(tmp_path / "cal.json").interval == found.interval


def test_enough_samples_make_an_interval_of_five_percent():
    z, y = multiclass(400)
    few = fit(z, y)
    many = fit(*multiclass(few.enough_samples))
    assert math.log(many.interval[1] / many.interval[0]) / 2 == pytest.approx(0.05, rel=0.15)
    assert enough_samples(100, (math.exp(-0.1), math.exp(0.1))) == pytest.approx(400, abs=1)


@pytest.mark.parametrize("kind", ["multiclass", "binary"])
def test_intervals_cover_the_true_temperature_as_often_as_they_say(kind):
    """500 data sets of known T*; 93 to 97 % is two standard deviations of such a share."""
    covered = 0
    for seed in range(500):
        if kind == "binary":
            z, y = sigmoids((400,), scale=2.0, seed=seed)
        else:
            z, y = multiclass(300, 5, scale=2.0, seed=seed)
        found = fit_temperature(labelled(z, y))
        low, high = interval(found.value, found.stderr, found.robust_stderr)
        covered += low <= 2.0 <= high
    assert 0.93 <= covered / 500 <= 0.97


def test_intervals_cover_where_the_model_is_wrong():
    """Labels from another law than softmax(z/T): then only the sandwich is right."""

    def drawn(n, seed):
        rng = np.random.default_rng(seed)
        s = np.concatenate([rng.normal(size=n - n // 10), 12 * rng.choice([-1, 1], n // 10)])
        return s, (rng.random(n) < np.where(np.abs(s) > 6, 0.5 + 0.3 * np.sign(s), 1 / (1 + np.exp(-s)))).astype(int)

    truth = best_temperature(*pairs(*drawn(300_000, 999)))
    found = [fit_temperature(labelled(*drawn(600, seed))) for seed in range(300)]
    robust = np.mean([a.robust_stderr / a.stderr for a in found])
    assert robust > MISSPECIFIED
    ends = [interval(a.value, a.stderr, a.robust_stderr) for a in found]
    # One in 16 would be missed by an interval of 93.5 %; three standard deviations of a share of 300.
    assert np.mean([low <= truth <= high for low, high in ends]) == pytest.approx(0.95, abs=0.038)
    plain = [interval(a.value, a.stderr, None) for a in found]
    assert np.mean([low <= truth <= high for low, high in plain]) < 0.9


# The likelihood ratio


@pytest.mark.parametrize("scale", [1.0, 1.05, 1.2, 3.0])
def test_the_p_value_is_that_of_scipys_chi_squared(scale):
    z, y = multiclass(2000, scale=scale, seed=2)
    found = fit(z, y)
    ratio = 2 * float((rows(z, y, 1.0).nll - rows(z, y, 1 / found.temperature).nll).sum())
    scaled = max(1.0, found.robust_stderr / found.stderr) if found.robust_stderr > 1.1 * found.stderr else 1.0
    assert found.p_value == pytest.approx(chi2.sf(ratio / scaled**2, 1), rel=1e-6, abs=1e-300)


def test_the_p_value_is_uniform_where_t_is_one():
    p = [fit(*multiclass(300, 4, scale=1.0, seed=seed)).p_value for seed in range(300)]
    # Kolmogorov–Smirnov: 1.36/√300 is the 5 % point, 1.63/√300 the 1 % point.
    assert np.abs(np.sort(p) - (np.arange(300) + 0.5) / 300).max() < 1.63 / math.sqrt(300)


def test_the_p_value_of_positions_is_that_of_images():
    z, y, flat, flat_y = dense()
    z, flat = z / 4, flat / 4
    found = fit(z, y)
    assert found.robust_stderr > MISSPECIFIED * found.stderr
    ratio = 2 * float(
        (rows(flat.reshape(-1, 4), flat_y.ravel(), 1.0).nll).sum()
        - (rows(flat.reshape(-1, 4), flat_y.ravel(), 1 / found.temperature).nll).sum()
    )
    scaled = ratio * (found.stderr / found.robust_stderr) ** 2
    assert math.log(found.p_value) == pytest.approx(float(chi2.logsf(scaled, 1)), rel=1e-6)


# The record


HOW = {
    "plain": {}, "exact": {"exact": True}, "prior": {"prior": 1.0}, "smoothing": {"smoothing": 0.01},
    "single pass": {"no_spool": True},
}  # fmt: skip


@pytest.fixture(params=HOW)
def calibration(request):
    z, y = multiclass(300, 4)
    data = ([(z[:100], y[:100]), (z[100:], y[100:])],) if request.param == "single pass" else (z, y)
    return fit(*data, **HOW[request.param])


def test_a_fitted_calibration_is_the_same_when_read_back(calibration, tmp_path):
    path = tmp_path / "cal.json"
    write_calibration(calibration, path)
    back = Calibration.load(path)
    assert back.as_json() == calibration.as_json()
    assert back.p_value == calibration.p_value
    assert back.interval == calibration.interval
    document = json.loads(path.read_text())["calibration"]
    assert document.keys() == calibration.as_json().keys()
    assert {"robust_stderr", "interval", "p_value", "gradient", "precision", "prior", "enough_samples"} <= set(document)


def test_a_fitted_calibration_can_be_pickled_and_changed(calibration):
    back = pickle.loads(pickle.dumps(calibration))
    assert back.as_json() == calibration.as_json()
    assert back.metrics == calibration.metrics
    named = dataclasses.replace(calibration, output="probs")
    assert (named.output, named.p_value, named.metrics) == ("probs", calibration.p_value, calibration.metrics)


def test_a_temperature_that_was_given_says_nothing_of_how_sure_it_is():
    given = Calibration(1.7)
    assert (given.interval, given.p_value, given.enough_samples, given.metrics) == (None, None, None, None)
