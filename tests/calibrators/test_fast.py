"""The float32 way to the optimum: 10⁻⁷ of the float64 one on every set, also where the subsamples mislead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnxcal.calibrators import cumulants, fast, fit_temperature, margins
from onnxcal.calibrators.fast import fast_optimum
from onnxcal.calibrators.margins import Margins
from onnxcal.errors import NoFiniteOptimum
from onnxcal.rows import labelled
from tests.reference.float64 import best_temperature
from tests.reference.likelihood import pairs
from tests.reference.problems import multiclass, sigmoids
from tests.reference.refusals import refused

DEFAULT, EXACT = 1e-7, 1e-12


def assert_optimum(z: Any, y: Any, weight: Any = None, *, task: Any = None, columns: Any = None) -> float:
    """T is the float64 optimum to 10⁻⁷, and to 10⁻¹² with a vanishing gradient where that is asked for."""
    sample = labelled(z, y, weight=weight, task=task)
    found, exact = fit_temperature(sample), fit_temperature(sample, exact=True)
    zs, ys = columns or (z, y)
    best = best_temperature(zs, ys, weight, start=exact.value)
    assert found.value == pytest.approx(best, rel=DEFAULT, abs=0)
    assert exact.value == pytest.approx(best, rel=EXACT, abs=0)
    assert exact.gradient is not None
    assert abs(exact.gradient) < 1e-12
    return found.value


@pytest.fixture(autouse=True, params=["numpy", "compiled"])
def sums(request, monkeypatch):
    """All of this holds for both ways to sum; by size alone none of these sets would come to the compiled one."""
    if request.param == "compiled":
        pytest.importorskip("numba")
        monkeypatch.setattr(margins, "COMPILED_ELEMENTS", 0)


SIZES = {
    "few": (5000, 10),
    "wide": (3000, 100),
    "wider": (1200, 1000),
    "tall": (60_000, 10),
    "vocabulary": (60, 50_000),
}


@pytest.fixture(scope="module")
def problems() -> dict[str, Any]:
    return {name: multiclass(*size) for name, size in SIZES.items()}


@pytest.mark.parametrize("scale", [1.0, 20.0, 0.02, 5000.0])
@pytest.mark.parametrize("size", SIZES)
def test_the_temperature_is_the_float64_optimum_at_any_size_and_scale(problems, size, scale):
    z, y = problems[size]
    assert_optimum(z * np.float32(scale), y)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shift", [0, 1000])
def test_the_temperature_is_the_float64_optimum_of_the_values_passed(dtype, shift):
    z, y = multiclass()
    assert_optimum((z + np.float32(shift)).astype(dtype), y)


@pytest.mark.parametrize("offset", [1e6, -1e9])
def test_float64_logits_that_float32_would_round_keep_their_digits(offset):
    z, y = multiclass(dtype=np.float64)
    assert_optimum(z + offset + np.arange(len(z))[:, None], y)


@pytest.mark.parametrize("temperature", [1e-3, 0.05, 30.0, 1e4])
def test_temperatures_from_a_thousandth_to_ten_thousand(temperature):
    z, y = multiclass(scale=temperature, seed=4)
    assert assert_optimum(z, y) == pytest.approx(temperature, rel=0.1)


def test_masked_classes():
    z, y = multiclass(k=40)
    masked = np.random.default_rng(1).random(z.shape) < 0.4
    masked[np.arange(len(y)), y] = False
    assert_optimum(np.where(masked, np.float32(-np.inf), z), y)


LOWEST = {dtype: float(np.finfo(dtype).min) for dtype in ("float32", "float64")}


@pytest.mark.parametrize(
    ("dtype", "low"),
    [("float32", -1e9), ("float32", -1e30), ("float32", LOWEST["float32"]), ("float64", LOWEST["float32"])]
    + [("float64", low) for low in (-1e9, -1e100, -1e200, LOWEST["float64"])],
)
def test_a_very_low_logit_is_as_good_as_minus_infinity(dtype, low):
    """Programs write the lowest number of a type where they mean −inf; its scale is not that of the logits."""
    z, y = multiclass(dtype=np.float64)
    z = z.astype(dtype)
    masked = np.random.default_rng(1).random(z.shape) < 0.3
    masked[np.arange(len(y)), y] = False
    minus_infinity, z = np.where(masked, -np.inf, z), np.where(masked, low, z).astype(dtype)
    for exact in (False, True):
        found = fit_temperature(labelled(z, y), exact=exact).value
        assert found == pytest.approx(best_temperature(minus_infinity, y), rel=EXACT if exact else DEFAULT, abs=0)


def test_margins_beyond_float32():
    rng = np.random.default_rng(2)
    z, y = multiclass(dtype=np.float64)
    z = (z / np.abs(z).max() * 3e38 * rng.choice([1, -1], size=(len(z), 1))).astype(np.float32)
    y = np.where(rng.random(len(y)) < 0.7, z.argmax(axis=1), y)
    t = fit_temperature(labelled(z, y)).value
    assert t / 1e38 == pytest.approx(best_temperature(z / 1e38, y), rel=1e-6)  # z / 1e38 is rounded


def test_soft_labels():
    z, y = multiclass()
    w = np.random.default_rng(0).dirichlet(np.full(10, 0.3), size=len(z)) * 0.4 + 0.6 * np.eye(10)[y]
    assert_optimum(z, w)


@pytest.mark.parametrize("factor", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("kind", ["even", "heavy tail", "a few spikes"])
def test_weighted_samples(kind, factor):
    z, y = multiclass()
    rng = np.random.default_rng(0)
    spikes = np.ones(len(y))
    spikes[rng.integers(0, len(y), 20)] = 1e6
    weight = {"even": rng.random(len(y)), "heavy tail": np.exp(4 * rng.normal(size=len(y))), "a few spikes": spikes}
    sample = labelled(z, y, weight=weight[kind] * factor)
    best = best_temperature(z, y, weight[kind])
    assert fit_temperature(sample).value == pytest.approx(best, rel=DEFAULT, abs=0)
    assert fit_temperature(sample, exact=True).value == pytest.approx(best, rel=EXACT, abs=0)


def test_a_weight_is_so_many_repetitions():
    z, y = multiclass()
    weight = np.random.default_rng(0).integers(0, 4, len(y))
    weighted = fit_temperature(labelled(z, y, weight=weight))
    repeated = fit_temperature(labelled(np.repeat(z, weight, axis=0), np.repeat(y, weight)))
    assert weighted.value == pytest.approx(repeated.value, rel=DEFAULT, abs=0)
    assert weighted.stderr == pytest.approx(repeated.stderr, rel=1e-4)


@pytest.mark.parametrize("scale", [1.0, 20.0, 0.02, 5000.0])
def test_binary(scale):
    s, y = sigmoids((40_000,))
    s = s * np.float32(scale)
    assert_optimum(s, y, columns=pairs(s, y))


def test_multilabel():
    s, y = sigmoids((5000, 8))
    assert_optimum(s, y, task="multilabel", columns=pairs(s, y))


@pytest.mark.parametrize("distinct", [5, 40, 64, 100, 300])
@pytest.mark.parametrize("how", [np.tile, np.repeat])
def test_rounding_errors_of_equal_rows_do_not_add_up(distinct, how):
    z, y = multiclass(distinct, seed=distinct)
    times = 30_000 // distinct
    if how is np.tile:
        many, labels = np.tile(z, (times, 1)), np.tile(y, times)
    else:
        many, labels = np.repeat(z, times, axis=0), np.repeat(y, times)
    assert fit_temperature(labelled(many, labels)).value == pytest.approx(best_temperature(z, y), rel=DEFAULT, abs=0)


@pytest.mark.parametrize("seed", range(8))
def test_rounding_errors_of_equal_logits_do_not_add_up(seed):
    """Every row is another permutation of the same few numbers, as of votes or coarse quantisation."""
    rng = np.random.default_rng(seed)
    z = np.zeros((6000, 300))
    z[np.arange(6000), rng.integers(0, 300, 6000)] = rng.choice([4, 12], 6000, p=[0.75, 0.25])
    y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    z = (z * rng.uniform(0.7, 1.4)).astype(np.float32)
    assert fit_temperature(labelled(z, y)).value == pytest.approx(best_temperature(z, y), rel=DEFAULT, abs=0)


def test_rows_sorted_by_class():
    z, y = multiclass(20_000)
    order = np.argsort(y, kind="stable")
    t = assert_optimum(z[order], y[order])
    assert t == pytest.approx(fit_temperature(labelled(z, y)).value, rel=DEFAULT)


# Where the subsample misleads: every sixth row is what the way to the optimum begins with


def other(kind: str, z: Any, y: Any, rows: slice) -> tuple[Any, Any]:
    z, y = z.copy(), y.copy()
    if kind == "separable":
        y[rows] = z[rows].argmax(axis=1)
    elif kind == "worse than chance":
        y[rows] = z[rows].argmin(axis=1)
    elif kind == "useless":
        z[rows] = 1.0
    elif kind == "far smaller":
        z[rows] *= 1e-4
    elif kind == "far larger":
        z[rows] *= 1e4
    elif kind == "slightly larger":
        z[rows] *= 1.02
    elif kind == "one class":
        y[rows] = 0
    return z, y


KINDS = ["separable", "worse than chance", "useless", "far smaller", "far larger", "slightly larger", "one class"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("which", ["the subsample", "all but the subsample", "the first subsample"])
def test_a_subsample_that_is_not_like_the_rest_costs_no_digits(kind, which):
    n = 24_000
    z, y = multiclass(n, 5)
    strides = {"the subsample": 6, "all but the subsample": 6, "the first subsample": n // fast.FIRST_SAMPLES}
    some = slice(None, None, strides[which])
    changed = other(kind, z, y, some)
    if which == "all but the subsample":
        if kind == "worse than chance":
            pytest.skip("they are so as a whole")
        changed = other(kind, z, y, slice(None))
        changed[0][some], changed[1][some] = z[some], y[some]
    assert_optimum(*changed)


@pytest.mark.parametrize("period", [2, 3, 6, 12])
@pytest.mark.parametrize("noise", [0.3, 2.0])
def test_augmented_copies_beside_their_originals(period, noise):
    """Every sixth row is then of the cleaner kind."""
    rng = np.random.default_rng(period)
    z, y = multiclass(24_000 // period)
    z, y = np.repeat(z, period, axis=0), np.repeat(y, period)
    z += np.where((np.arange(len(z)) % period)[:, None] > 0, noise * rng.normal(size=z.shape), 0).astype(np.float32)
    assert_optimum(z, y)


def test_a_pilot_of_the_same_skew_is_not_taken_for_the_whole():
    """Rows whose third cumulants cancel while their fourth ones do not, beside a subsample that has neither."""
    for seed in (3, 5, 25, 32, 36, 67, 72, 86, 125):
        rng = np.random.default_rng(seed)
        n, k = 4800, 300
        z, some = np.zeros((n, k)), np.arange(n) % fast.STRIDE == 0
        kind = rng.random(n) < 0.8239542297919334
        z[np.arange(n), rng.integers(0, k, n)] = np.where(kind, 3.0, 11.0)
        z += rng.normal(size=z.shape) * 0.05
        z[some] = rng.normal(size=(some.sum(), k)) * 0.8
        y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
        apart = best_temperature(z[~some], y[~some]) / best_temperature(z[some], y[some])
        z[some] *= rng.uniform(0.992, 1.008) * apart
        z = z.astype(np.float32)
        found = fit_temperature(labelled(z, y)).value
        assert found == pytest.approx(best_temperature(z, y, start=found), rel=DEFAULT, abs=0)


def test_large_separable_sets_are_seen_to_have_no_optimum():
    z, _ = multiclass(20_000)
    with refused(NoFiniteOptimum, "20,000 samples"):
        fit_temperature(labelled(z, z.argmax(axis=1)))


def test_one_mistake_in_many_is_found_wherever_it_is():
    z, _ = multiclass(20_000)
    for row in (1, 6, 19_999):
        y = z.argmax(axis=1)
        y[row] = z[row].argsort()[-2]
        assert_optimum(z, y)


# What it costs


@pytest.mark.parametrize(("n", "k"), [(50_000, 10), (20_000, 100)])
def test_two_or_three_passes_over_all_samples_are_enough(n, k, monkeypatch):
    z, y = multiclass(n, k)
    seen = []

    def counted(margins: Any, beta: float, order: int) -> Any:
        seen.append(len(margins) / n)
        return cumulants.in_float32(margins, beta, order)

    monkeypatch.setattr(fast, "in_float32", counted)
    assert fast_optimum(Margins.of(labelled(z, y))) is not None
    assert sum(share == 1 for share in seen) <= 2
    assert sum(seen) < 4


@given(
    st.integers(0, 2**32 - 1), st.integers(1700, 6000), st.sampled_from([2, 3, 10, 31, 32, 33]),
    st.floats(-3, 3), st.sampled_from(["float16", "float32", "float64"]), st.floats(0.05, 4),
)  # fmt: skip
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_shape_scale_and_sharpness(seed, n, k, exponent, dtype, sharpness):
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(n, k)) * sharpness * rng.lognormal(size=(n, 1))
    y = (honest + rng.gumbel(size=(n, k))).argmax(axis=1)
    z = (honest * 10.0 ** min(exponent, 1.5 if dtype == "float16" else 3)).astype(dtype)
    found = fit_temperature(labelled(z, y)).value
    assert found == pytest.approx(best_temperature(z, y, start=found), rel=DEFAULT, abs=0)


# Its parts


@pytest.mark.parametrize("step", [-0.04, 0.003, 0.03])
def test_the_expansion_is_moved_with_the_cubic_term_that_the_new_slope_shows(step):
    """A slope that is a cubic polynomial of the relative step is known everywhere from one expansion and one slope."""
    slope, curvature, third, fourth = 0.3, 2.0, -1.5, 7.0
    there = slope + curvature * step + third * step**2 / 2 + fourth * step**3 / 6
    scale = 1 + step
    moved = fast._moved(cumulants.Cumulants(slope, curvature, third), scale, there * scale)
    assert moved.slope == there * scale
    assert moved.curvature == pytest.approx((curvature + third * step + fourth * step**2 / 2) * scale**2, rel=1e-12)
    assert moved.third == pytest.approx((third + fourth * step) * scale**3, rel=1e-10)


def test_after_a_tiny_step_rounding_is_not_taken_for_a_cubic_term():
    here = cumulants.Cumulants(1e-5, 1.0, 0.5)
    moved = fast._moved(here, 1 - 1e-5, 1e-8)
    assert moved.curvature == pytest.approx(1.0, rel=1e-4)
    assert moved.third == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("kind", ["alike", "another curvature", "another skew", "another size of what is missed"])
def test_a_subsample_speaks_for_all_only_where_it_is_like_them(kind):
    z, y = multiclass(30_000)
    margins = Margins.of(labelled(z, y))
    pilot, scale = margins.every(fast.STRIDE, 1), 1 + fast.PILOT_STEP / 2
    beta = float(np.float32(1 / 3))
    here, ratio = cumulants.in_float32(margins, beta, 3), len(margins) / len(pilot)
    if kind == "another curvature":
        here = here._replace(curvature=here.curvature * 1.2)
    elif kind == "another skew":
        here = here._replace(third=here.third + 0.3 * here.curvature)
    elif kind == "another size of what is missed":
        scale = 1 + 0.9 * fast.PILOT_STEP
        z = z.copy()
        z[1 :: fast.STRIDE] *= 12
        pilot = Margins.of(labelled(z, y)).every(fast.STRIDE, 1)
        some = cumulants.in_float32(pilot, beta, 3)
        here = here._replace(curvature=some.curvature * ratio, third=some.third * ratio)
    scale = float(np.float32(beta * scale)) / beta  # as its caller does: it is summed at a float32 β
    found = fast._slope_by_pilot(here, pilot, beta, scale, ratio)
    if kind != "alike":
        assert found is None
        return
    wanted = cumulants.in_float64(margins, beta * scale, 1).slope
    assert found == pytest.approx(wanted, abs=3e-8 * here.curvature)


def test_a_subsample_does_not_speak_for_a_long_step():
    margins = Margins.of(labelled(*multiclass(30_000)))
    here = cumulants.in_float32(margins, 0.33, 3)
    assert fast._slope_by_pilot(here, margins.every(6, 1), 0.33, 1 + 1.1 * fast.PILOT_STEP, 6.0) is None


@pytest.mark.parametrize("why", ["few elements", "large error", "equal rows", "few values"])
def test_where_float32_might_miss_the_fit_goes_on_in_float64(why):
    """As the last digits show."""
    z, y = multiclass(20_000)
    if why == "few elements":
        z, y = z[:1600], y[:1600]
    elif why == "large error":
        sure = np.ones(20_000, bool)
        sure[::1000] = False
        y[sure] = z[sure].argmax(axis=1)
        z[sure] += 60 * np.eye(10, dtype=np.float32)[y[sure]]
    elif why == "equal rows":
        z, y = np.tile(z[:40], (500, 1)), np.tile(y[:40], 500)
    elif why == "few values":
        z = np.round(z / 2) * 2
    found = fit_temperature(labelled(z, y))
    if why == "large error":
        assert found.stderr > 0.05 * found.value
    assert found.value == pytest.approx(best_temperature(z, y, start=found.value), rel=1e-13, abs=0)


def test_elsewhere_it_does_not():
    z, y = multiclass(20_000)
    found = fit_temperature(labelled(z, y))
    assert 0 < abs(found.value / best_temperature(z, y) - 1) < DEFAULT
