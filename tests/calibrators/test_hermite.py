"""Hermite interpolation against scipy's, polynomials and a smooth function."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.interpolate import BPoly, KroghInterpolator

from onnxcal.calibrators.hermite import Hermite

NODES = np.array([-0.5, -0.3, 0.0, 0.25])


def test_a_polynomial_is_its_own_interpolant():
    p = np.polynomial.Polynomial([0.3, -1.0, 2.0, 0.5, -0.7, 0.1, 0.9, -0.2, 0.05, 0.6, -0.4, 1.1])
    curve = Hermite(NODES, np.stack([p(NODES), p.deriv()(NODES), p.deriv(2)(NODES)], axis=1))
    for x in np.linspace(-0.6, 0.4, 21):
        assert curve(x) == pytest.approx(p(x), rel=1e-11, abs=1e-11)
        assert curve.derivative(x) == pytest.approx(p.deriv()(x), rel=1e-10, abs=1e-10)


def test_it_is_scipys_interpolant():
    values = np.random.default_rng(0).normal(size=(4, 3))
    curve = Hermite(NODES, values)
    krogh = KroghInterpolator(np.repeat(NODES, 3), values.ravel())
    for x in np.linspace(-0.5, 0.25, 31):
        assert curve(x) == pytest.approx(float(krogh(x)), rel=1e-8, abs=1e-8)
    two = Hermite(NODES[:2], values[:2])
    bernstein = BPoly.from_derivatives(NODES[:2], values[:2])
    assert two(-0.4) == pytest.approx(float(bernstein(-0.4)), rel=1e-12)


def test_values_and_both_derivatives_are_met_at_the_nodes():
    values = np.random.default_rng(1).normal(size=(4, 3))
    curve, h = Hermite(NODES, values), 1e-5
    for node, (value, slope, bend) in zip(NODES, values, strict=True):
        assert curve(node) == pytest.approx(value, abs=1e-12)
        assert curve.derivative(node) == pytest.approx(slope, abs=1e-9)
        difference = (curve.derivative(node + h) - curve.derivative(node - h)) / (2 * h)
        assert difference == pytest.approx(bend, abs=1e-3 * max(1, abs(bend)))


def test_the_root_is_where_the_sign_changes():
    x = np.array([0.8, 1.0, 1.3])
    curve = Hermite(x, np.stack([np.log(x / 1.1), 1 / x, -1 / x**2], axis=1))
    assert curve.root(1.0, 1.3) == pytest.approx(1.1, abs=1e-6)
    assert math.isclose(curve(curve.root(1.0, 1.3)), 0, abs_tol=1e-14)
