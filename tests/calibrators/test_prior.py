"""A prior on T and smoothed labels against brute-force scans in float64, and where each gives an answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from onnxcal.calibrators import fit, fit_temperature
from onnxcal.errors import NoFiniteOptimum, UsageError, UselessLogits, WorseThanChance
from onnxcal.rows import labelled
from tests.reference.float64 import best_temperature, rows
from tests.reference.likelihood import pairs
from tests.reference.problems import multiclass, sigmoids
from tests.reference.refusals import refused

RNG = np.random.default_rng(0)


def scanned(z, y, sigma, weight=None, *, low=-40.0, high=40.0):
    """The log T at which Σ NLL + (log T)² / (2 σ²) is lowest: a scan, and Brent's method around its best point."""
    w = np.ones(len(z)) if weight is None else weight

    def objective(log_t):
        return float((rows(z, y, math.exp(-log_t)).nll * w).sum()) + log_t**2 / (2 * sigma**2)

    points = np.linspace(low, high, 1601)
    at = int(np.argmin([objective(p) for p in points]))
    bracket = (points[max(0, at - 1)], points[min(len(points) - 1, at + 1)])
    return minimize_scalar(objective, bounds=bracket, method="bounded", options={"xatol": 1e-9}).x, objective


def assert_most_probable(z, y, sigma, weight=None, **options):
    t = fit_temperature(labelled(z, y, weight=weight), prior=sigma).value
    best, objective = scanned(z, y, sigma, weight, **options)
    assert objective(math.log(t)) <= objective(best) + 1e-9 * max(1.0, abs(objective(best)))
    assert math.log(t) == pytest.approx(best, abs=2e-6)


EDGES = {
    "separable": lambda z, y: (z, z.argmax(axis=1)),
    "worse than chance": lambda z, y: (z, z.argmin(axis=1)),
    "one class": lambda z, y: (z, np.zeros_like(y)),
    "useless": lambda z, y: (np.tile(z[:1], (len(z), 1)), np.arange(len(z)) % z.shape[1]),
    "constant": lambda z, y: (np.ones_like(z), y),
    "one sample": lambda z, y: (z[:1], y[:1]),
    "ordinary": lambda z, y: (z, y),
}


@pytest.mark.parametrize("sigma", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("edge", EDGES)
def test_the_temperature_is_the_most_probable_one(edge, sigma):
    assert_most_probable(*EDGES[edge](*multiclass(60, 4, dtype=np.float64)), sigma)


def test_constant_logits_leave_the_prior_as_it_is():
    assert fit_temperature(labelled(np.ones((5, 3)), [0, 1, 2, 0, 1]), prior=1.0).value == 1.0


@pytest.mark.parametrize("scale", [1e-6, 1e-4, 1e4])
@pytest.mark.parametrize("n", [5, 200, 20_000])
def test_a_second_minimum_far_away_is_found_where_it_is_lower(scale, n):
    """Tiny logits: near T = 1 the likelihood is flat, and the prior alone makes a minimum there."""
    z, y = multiclass(200, 4, dtype=np.float64)
    assert_most_probable(z * scale, y, 1.0, weight=np.full(200, n / 200))


def test_a_prior_is_weak_where_there_are_many_samples():
    z, y = multiclass(5000)
    plain, weak = fit(z, y, exact=True), fit(z, y, prior=1.0)
    assert abs(math.log(weak.temperature / plain.temperature)) < 0.2 * plain.stderr / plain.temperature
    assert weak.objective == "nll+prior"
    assert (weak.prior, plain.prior) == (1.0, None)
    assert fit(z, y, prior=100.0).temperature == pytest.approx(plain.temperature, rel=1e-6)


def test_a_narrow_prior_holds_t_at_one():
    z, y = multiclass(50)
    found = fit_temperature(labelled(z, y), prior=0.01)
    assert found.value == pytest.approx(1, abs=0.02)
    assert found.stderr == pytest.approx(0.01, rel=0.1)


def test_information_under_a_prior_is_the_second_derivative():
    z, y = multiclass(80, 4, dtype=np.float64)
    found = fit_temperature(labelled(z, y), prior=0.5)
    _, objective = scanned(z, y, 0.5, low=-1, high=1)
    b, h = math.log(found.value), 1e-4
    second = (objective(b + h) - 2 * objective(b) + objective(b - h)) / h**2
    assert found.stderr == pytest.approx(found.value / math.sqrt(second), rel=1e-5)


def test_binary_logits_under_a_prior():
    s, _ = sigmoids((60,), dtype=np.float64)
    z, w = pairs(s, s > 0)
    t = fit_temperature(labelled(s, s > 0), prior=1.0).value
    assert math.log(t) == pytest.approx(scanned(z, w, 1.0)[0], abs=2e-6)


@pytest.mark.parametrize("exponent", [-400, 400])
def test_the_prior_is_about_the_logits_as_they_are(exponent):
    """Logits beyond float32 are rescaled on the way."""
    z, y = multiclass(200, 4, dtype=np.float64)
    found = math.log(fit_temperature(labelled(np.ldexp(z, exponent), y), prior=1000.0).value)
    plain = math.log(best_temperature(z, y))
    assert found == pytest.approx(plain + exponent * math.log(2), abs=1e-3)


@pytest.mark.parametrize("sigma", [0, -1.0, 0.001, 1000.0, math.nan, math.inf])
def test_a_prior_out_of_range_is_refused(sigma):
    with refused(UsageError, "prior"):
        fit(*multiclass(50), prior=sigma)


# Smoothed labels


@pytest.mark.parametrize("epsilon", [1e-4, 0.01, 0.2])
@pytest.mark.parametrize("kind", ["ordinary", "separable", "masked", "soft"])
def test_smoothed_labels_are_soft_ones(epsilon, kind):
    z, y = multiclass(2000, 5, dtype=np.float64)
    if kind == "separable":
        y = z.argmax(axis=1)
    if kind == "masked":
        z[:, 4] = np.where(y == 4, z[:, 4], -np.inf)
    w = np.eye(5)[y] if kind != "soft" else 0.8 * np.eye(5)[y] + 0.04
    here = np.isfinite(z)
    smoothed = (1 - epsilon) * w + epsilon * here / here.sum(axis=1, keepdims=True)
    labels = w if kind == "soft" else y
    for exact in (False, True):
        found = fit_temperature(labelled(z, labels), smoothing=epsilon, exact=exact).value
        assert found == pytest.approx(best_temperature(z, smoothed), rel=1e-12 if exact else 1e-7, abs=0)


def test_smoothing_many_samples_in_float32():
    z, y = multiclass(20_000)
    smoothed = 0.9 * np.eye(10)[y] + 0.01
    assert fit_temperature(labelled(z, y), smoothing=0.1).value == pytest.approx(
        best_temperature(z, smoothed), rel=1e-7, abs=0
    )


def test_smoothed_flags():
    s, _ = sigmoids((3000,), dtype=np.float64)
    flags = (s > 0).astype(float)
    found = fit_temperature(labelled(s, flags), smoothing=0.1, exact=True).value
    assert found == pytest.approx(best_temperature(*pairs(s, 0.9 * flags + 0.05)), rel=1e-12, abs=0)


@pytest.mark.parametrize("epsilon", [-0.1, 1.0, 2.0, math.nan])
def test_smoothing_out_of_range_is_refused(epsilon):
    with refused(UsageError, "smoothing"):
        fit(*multiclass(50), smoothing=epsilon)


def test_no_smoothing_is_none():
    z, y = multiclass(100)
    assert fit(z, y, smoothing=0.0).temperature == fit(z, y).temperature
    assert fit(z, y, smoothing=0.0).smoothing is None
    with refused(NoFiniteOptimum):
        fit(z, z.argmax(axis=1), smoothing=0)


def test_smoothing_does_not_hide_logits_that_are_worse_than_chance_or_useless():
    z, _ = multiclass(100)
    with refused(WorseThanChance):
        fit(z, z.argmin(axis=1), smoothing=0.01)
    with refused(UselessLogits):
        fit(np.ones((4, 2)), [0, 1, 0, 1], smoothing=0.01)
