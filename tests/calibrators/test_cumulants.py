"""Sums over samples against scipy and mpmath-like decimals; the same bits whoever makes them."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from onnxcal.calibrators import cumulants, fit_temperature
from onnxcal.calibrators.cumulants import in_float32, in_float64, slopes_of_rows
from onnxcal.calibrators.margins import Margins
from onnxcal.rows import labelled
from tests.reference.float64 import rows
from tests.reference.likelihood import nll_in_decimals, one_hot, pairs, slope_in_decimals
from tests.reference.problems import multiclass, sigmoids


def cumulant_sums(z, y, beta):
    """Mean, variance and third cumulant of β(z − z_y) under softmax(βz), and Σ mean², by plain central moments."""
    z = np.asarray(z, np.float64)
    u = beta * (z - z[np.arange(len(z)), y][:, None])
    p = np.exp(u - u.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    mean = (p * u).sum(axis=1)
    apart = u - mean[:, None]
    second, third = ((p * apart**j).sum(axis=1).sum() for j in (2, 3))
    return mean.sum(), second, third, (mean**2).sum()


SHAPES = [(400, 3), (300, 31), (300, 32), (200, 100), (6, 9000)]


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("beta", [0.01, 0.4, 3.0])
def test_sums_are_those_of_central_moments(size, beta):
    z, y = multiclass(*size)
    margins = Margins.of(labelled(z, y))
    wanted = cumulant_sums(z, y, beta)
    assert in_float64(margins, beta, 3)[:4] == pytest.approx(wanted, rel=1e-10)
    scale = np.abs(wanted).max()
    found = in_float32(margins, float(np.float32(beta)), 3)[:4]
    assert found == pytest.approx(cumulant_sums(z, y, float(np.float32(beta))), rel=1e-5, abs=1e-5 * scale)


def test_slope_and_likelihood_are_those_of_decimals():
    z, y = multiclass(40, 4, dtype=np.float64)
    found = in_float64(Margins.of(labelled(z, y)), 0.5, 1)
    w = one_hot(y, 4)
    assert found.slope == pytest.approx(float(slope_in_decimals(z, w, 2.0)) * 0.5, rel=1e-12)
    # The NLL of u = β(z − z_y) is log Σ eᵘ.
    assert found.nll == pytest.approx(float(nll_in_decimals(z, w, Decimal(2))), rel=1e-12)


def test_derivatives_are_differences_of_the_slope():
    """With respect to a relative change r of β."""
    z, y = multiclass(300, 5, dtype=np.float64)
    margins, h = Margins.of(labelled(z, y)), 1e-4
    low, here, high = (in_float64(margins, 0.4 * (1 + r), 3) for r in (-h, 0, h))
    low, high = low.slope / (1 - h), high.slope / (1 + h)  # d NLL / dr, r about β = 0.4
    assert here.curvature == pytest.approx((high - low) / (2 * h), rel=1e-6)
    assert here.third == pytest.approx((high - 2 * here.slope + low) / h**2, rel=1e-4)


@pytest.mark.parametrize("shape", [(500,), (200, 7)])
def test_sigmoids_are_pairs(shape):
    s, y = sigmoids(shape)
    task = "binary" if len(shape) == 1 else "multilabel"
    margins = Margins.of(labelled(s, y, task=task))
    z, w = pairs(s, y)
    found, at = in_float64(margins, 0.4, 3), rows(z, w, 0.4)
    slopes = (0.4 * at.slope).reshape(len(s), -1).sum(axis=1)
    _, _, third, _ = cumulant_sums(z, w.argmax(axis=1), 0.4)
    assert found.slope == pytest.approx(slopes.sum(), rel=1e-11)
    assert found.curvature == pytest.approx(0.16 * at.curvature.sum(), rel=1e-11)
    assert found.third == pytest.approx(third, rel=1e-10)
    assert found.squares == pytest.approx((slopes**2).sum(), rel=1e-11)
    assert found.nll == pytest.approx(at.nll.sum(), rel=1e-11)
    np.testing.assert_allclose(slopes_of_rows(margins, 0.4), slopes, rtol=1e-10, atol=1e-13)
    assert in_float32(margins, 0.4, 3)[:4] == pytest.approx(found[:4], rel=1e-5, abs=1e-3)


def test_weights_multiply_slopes_curvatures_and_likelihoods():
    z, y = multiclass(300, 5)
    weight = np.random.default_rng(0).random(300) * 3
    margins = Margins.of(labelled(z, y, weight=weight))
    at, found = rows(z, y, 0.4), in_float64(margins, 0.4, 3)
    assert found.slope == pytest.approx((0.4 * at.slope * weight).sum(), rel=1e-10)
    assert found.curvature == pytest.approx((0.16 * at.curvature * weight).sum(), rel=1e-11)
    assert found.squares == pytest.approx(((0.4 * at.slope * weight) ** 2).sum(), rel=1e-11)
    assert found.nll == pytest.approx((at.nll * weight).sum(), rel=1e-11)
    np.testing.assert_allclose(slopes_of_rows(margins, 0.4), 0.4 * at.slope * weight, rtol=1e-9, atol=1e-12)


def test_rows_that_overflow_float32_are_done_again():
    z, y = multiclass(4000, 40)
    z[::7] *= 100
    y[::7] = z[::7].argmin(axis=1)
    margins = Margins.of(labelled(z, y))
    assert not margins.masked
    found, wanted = in_float32(margins, 1.0, 3), cumulant_sums(z, y, 1.0)
    assert (found.slope, found.squares) == pytest.approx((wanted[0], wanted[3]), rel=1e-6)
    assert found.curvature == pytest.approx(wanted[1], rel=0.01)  # differences of squares of up to 1000


@pytest.mark.parametrize(("n", "k"), [(120_000, 10), (12_000, 100)])
@pytest.mark.parametrize("exact", [False, True])
def test_any_number_of_threads_gives_the_same_bits(n, k, exact, monkeypatch):
    sample = labelled(*multiclass(n, k), weight=np.random.default_rng(0).random(n))
    assert sample.logits.values.size >= cumulants.MANY_ELEMENTS
    found = set()
    for cores in (1, 2, 3, 7, 64):
        monkeypatch.setattr(cumulants, "available_cores", lambda cores=cores: cores)
        found.add(fit_temperature(sample, exact=exact))
    assert len(found) == 1


def test_the_order_of_rows_hardly_matters():
    z, y = multiclass(60_000)
    order = np.random.default_rng(0).permutation(len(y))
    once, again = (fit_temperature(labelled(*pair)) for pair in ((z, y), (z[order], y[order])))
    assert once.value == pytest.approx(again.value, rel=2e-8)
    exact = [fit_temperature(labelled(*pair), exact=True).value for pair in ((z, y), (z[order], y[order]))]
    assert exact[0] == pytest.approx(exact[1], rel=1e-13)
