"""The 1-D solver on slopes whose roots are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from onnxcal.calibrators.newton import Derivatives, DidNotConverge, find_root

SLOPES: dict[str, tuple[Callable[[float], tuple[float, float]], float]] = {
    "line": (lambda b: (b - 3.0, 1.0), 3.0),
    "ninth power": (lambda b: (b**9 - 512.0, 9 * b**8), 2.0),
    "logarithm": (lambda b: (math.log(b / 7.0), 1 / b), 7.0),
    "saturated on both sides": (lambda b: (math.tanh(b - 5.0), 1 - math.tanh(b - 5.0) ** 2), 5.0),
    "hyperbola": (lambda b: (1.0 - 0.25 / b, 0.25 / b**2), 0.25),
    "corner without curvature": (lambda b: (b - 4.0, 1.0) if b < 9 else (5.0, 0.0), 4.0),
    "far away": (lambda b: (1.0 - 1e12 / b, 1e12 / b**2), 1e12),
    "near zero": (lambda b: (1e12 * b - 1.0, 1e12), 1e-12),
}


@pytest.mark.parametrize("start", [1e-6, 0.3, 1.0, 50.0, 1e6])
@pytest.mark.parametrize("name", SLOPES)
def test_the_root_is_found_from_anywhere(name, start):
    function, root = SLOPES[name]
    found = find_root(lambda beta: Derivatives(*function(beta)), start)
    assert found.beta == pytest.approx(root, rel=1e-9)
    assert found.curvature == pytest.approx(function(root)[1], rel=1e-6)


def test_evaluations_are_counted():
    asked = []

    def derivatives(beta: float) -> Derivatives:
        asked.append(beta)
        return Derivatives(math.log(beta / 7.0), 1 / beta)

    assert find_root(derivatives, 6.0).evaluations == len(asked)


def test_a_start_on_the_root_is_the_answer():
    assert find_root(lambda beta: Derivatives(beta - 2.0, 1.0), 2.0) == (2.0, 1.0, 1)


def test_a_good_start_needs_few_evaluations():
    assert find_root(lambda beta: Derivatives(math.log(beta / 7.0), 1 / beta), 6.9).evaluations <= 4


def test_a_slope_without_a_root_is_no_silent_number():
    with pytest.raises(DidNotConverge, match="no root"):
        find_root(lambda beta: Derivatives(-1.0, 0.0), 1.0)


def test_only_positive_points_are_asked_for():
    asked = []

    def derivatives(beta: float) -> Derivatives:
        asked.append(beta)
        return Derivatives(math.tanh(beta - 1e-3), 1 - math.tanh(beta - 1e-3) ** 2)

    find_root(derivatives, 3.0)
    assert min(asked) > 0
