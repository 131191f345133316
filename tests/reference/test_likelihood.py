"""The references agree with each other and with published figures, so that they can judge onnxcal."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from tests.reference import published as sets
from tests.reference.likelihood import (
    best_temperature,
    exact_ends,
    nll_in_decimals,
    one_hot,
    pairs,
    slope,
    slope_in_decimals,
)


def test_every_published_set_is_in_the_list(expected):
    assert sorted(sets.SETS) == sorted(expected["datasets"])


@pytest.mark.parametrize("name", ["akamaster_resnet20_png1000", "cleanlab_imdb_sigmoid"])
def test_bisection_finds_the_published_temperature(published, expected, name):
    z, y = sets.load(published, name, "val")
    z, w = pairs(z, y) if z.ndim == 1 else (z, one_hot(y, z.shape[1]))
    assert best_temperature(z, w) == pytest.approx(expected["datasets"][name]["T"], rel=1e-10)


def test_decimal_slope_is_the_float_slope_and_the_difference_quotient_of_the_nll():
    rng = np.random.default_rng(0)
    z, w = rng.normal(size=(9, 4)), rng.dirichlet(np.ones(4), size=9)
    assert float(slope_in_decimals(z, w, 1.7)) == pytest.approx(slope(z, w, 1 / 1.7), rel=1e-12)
    t, h = Decimal("1.7"), Decimal("1e-15")
    by_temperature = (nll_in_decimals(z, w, t + h) - nll_in_decimals(z, w, t - h)) / (2 * h)
    assert float(by_temperature * -t * t) == pytest.approx(slope(z, w, 1 / 1.7), rel=1e-12)


def test_exact_ends_are_the_limits_of_the_slope():
    rng = np.random.default_rng(1)
    z, y = rng.normal(size=(30, 3)), rng.integers(0, 3, 30)
    ends = exact_ends(z, y)
    assert not ends.constant
    assert slope(z, one_hot(y, 3), 0.0) == pytest.approx(float(ends.at_zero))
    assert slope(z, one_hot(y, 3), 1e6) == pytest.approx(float(ends.at_infinity))
