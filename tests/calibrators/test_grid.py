"""The single-pass fit: against the exact one; states that can be added in any order."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxcal.calibrators import fit
from onnxcal.calibrators.grid import FIRST_OCTAVE, LAST_OCTAVE, NLLGrid
from onnxcal.errors import FitError, NoFiniteOptimum, UsageError, UselessLogits, WorseThanChance
from onnxcal.rows import labelled
from tests.reference.float64 import best_temperature, rows, standard_errors
from tests.reference.likelihood import pairs
from tests.reference.problems import multiclass, sigmoids
from tests.reference.refusals import refused

ORDER = 1e-10
"""What is promised of the difference between any two orders of adding."""


def state(z, y, **options) -> NLLGrid:
    return NLLGrid.of(labelled(z, y, **options))


def assert_exact(found: NLLGrid, best: float, rel=1e-11) -> None:
    temperature, precision = found.temperature()
    assert temperature.value == pytest.approx(best, rel=rel, abs=0)
    assert precision < 1e-9
    assert abs(temperature.value / best - 1) <= max(precision, 1e-13)


# Against the float64 optimum


@pytest.mark.parametrize("size", [(3000, 2), (2000, 10), (500, 100), (100, 1000)])
@pytest.mark.parametrize("scale", [1.0, 20.0, 0.02, 3.7])
def test_the_temperature_is_the_float64_optimum_within_the_stated_precision(size, scale):
    z, y = multiclass(*size, dtype=np.float64)
    assert_exact(state(z * scale, y), best_temperature(z * scale, y))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_values_count_not_their_dtype(dtype):
    z = multiclass(800)[0].astype(dtype)
    y = multiclass(800)[1]
    assert_exact(state(z, y), best_temperature(z, y))


def test_shifted_rows():
    z, y = multiclass(1000, dtype=np.float64)
    shifted = z + 1e6 * np.arange(1000)[:, None]
    assert_exact(state(shifted, y), best_temperature(shifted, y))


@pytest.mark.parametrize("low", [-np.inf, -1e9, -1e30, -1e200, float(np.finfo(np.float64).min)])
def test_masked_classes_and_what_programs_take_for_them(low):
    z, y = multiclass(1000, 6, dtype=np.float64)
    masked = np.random.default_rng(0).random(z.shape) < 0.3
    masked[np.arange(1000), y] = False
    assert_exact(state(np.where(masked, low, z), y), best_temperature(np.where(masked, -np.inf, z), y))


def test_binary_and_multilabel():
    s, y = sigmoids((3000,))
    assert_exact(state(s, y), best_temperature(*pairs(s, y)))
    s, y = sigmoids((600, 5))
    assert_exact(state(s, y, task="multilabel"), best_temperature(*pairs(s, y)))


def test_soft_and_weighted_labels():
    z, y = multiclass(1000)
    rng = np.random.default_rng(0)
    w, weight = 0.7 * np.eye(10)[y] + 0.3 * rng.dirichlet(np.ones(10), 1000), rng.random(1000) * 5
    assert_exact(state(z, w, weight=weight), best_temperature(z, w, weight))


@given(st.integers(0, 2**32 - 1), st.integers(20, 200), st.integers(2, 9), st.floats(-2, 3), st.floats(0.1, 5))
@settings(max_examples=40, deadline=None)
def test_any_logits(seed, n, k, exponent, sharpness):
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(n, k)) * sharpness
    y = (honest + rng.gumbel(size=(n, k))).argmax(axis=1)
    z = honest * 10**exponent
    try:
        found = state(z, y).temperature()
    except FitError:
        return
    assert found[0].value == pytest.approx(best_temperature(z, y, start=found[0].value), rel=1e-9, abs=0)


def test_ties():
    z = np.round(multiclass(500, 4)[0])
    y = multiclass(500, 4)[1]
    assert (np.sort(z, axis=1)[:, -1] == np.sort(z, axis=1)[:, -2]).sum() > 20
    assert_exact(state(z, y), best_temperature(z, y))


# Its range


@pytest.mark.parametrize("temperature", [1.02 * 2.0**-LAST_OCTAVE, 2e-3, 1e4, 0.98 * 2.0**-FIRST_OCTAVE])
def test_temperatures_are_found_up_to_both_ends_of_the_range(temperature):
    z, y = multiclass(1000, dtype=np.float64)
    z *= temperature / best_temperature(z, y)
    found, precision = state(z, y).temperature()
    assert found.value == pytest.approx(temperature, rel=1e-10)
    assert precision < 1e-9


@pytest.mark.parametrize("temperature", [0.98 * 2.0**-LAST_OCTAVE, 1e-9, 1e9, 1.02 * 2.0**-FIRST_OCTAVE])
def test_a_temperature_out_of_range_is_refused(temperature):
    z, y = multiclass(1000, dtype=np.float64)
    z *= temperature / best_temperature(z, y)
    with refused(UsageError, "0.000976562 and 16384", hint="without --no-spool"):
        state(z, y).temperature()


@pytest.mark.parametrize(
    ("z", "y", "error"),
    [
        ([[2.0, 0.0], [0.0, 1.0]], [0, 1], NoFiniteOptimum),
        ([[2.0, 0.0], [0.0, 1.0]], [1, 0], WorseThanChance),
        ([[1.0, 1.0], [1.0, 1.0]], [0, 1], UselessLogits),
        ([[2.0, 1.0], [2.0, 1.0]], [0, 1], UselessLogits),
    ],
)
def test_logits_without_a_finite_optimum_are_named(z, y, error):
    with refused(error, "2 samples"):
        state(z, y).temperature()


def test_evidence_of_two_states_is_weighed_together():
    """Either alone has no optimum."""
    right, wrong = state([[2.0, 0.0]] * 3, [0, 0, 0]), state([[2.0, 0.0]], [1])
    z, y = np.array([[2.0, 0.0]] * 4), np.array([0, 0, 0, 1])
    assert_exact(right + wrong, best_temperature(z, y))


# Adding


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from(["plain", "weighted", "masked", "binary"]))
@settings(max_examples=25, deadline=None)
def test_any_split_in_any_order_gives_the_same_temperature(seed, parts, kind):
    rng = np.random.default_rng(seed)
    z, y = (sigmoids if kind == "binary" else multiclass)(*[(300,)] if kind == "binary" else [300, 4], seed=seed)
    weight = rng.random(300) * 10 ** rng.uniform(-3, 3, 300) if kind == "weighted" else np.ones(300)
    if kind == "masked":
        masked = rng.random(z.shape) < 0.3
        masked[np.arange(300), y] = False
        z = np.where(masked, np.float32(-np.inf), z)
    whole = state(z, y, weight=weight)
    order = rng.permutation(300)
    pieces = [state(z[rows], y[rows], weight=weight[rows]) for rows in np.array_split(order, parts)]
    try:
        wanted = whole.temperature()[0]
    except FitError as error:
        with pytest.raises(type(error)):
            functools.reduce(NLLGrid.__add__, pieces).temperature()
        return
    left = functools.reduce(NLLGrid.__add__, pieces)
    right = functools.reduce(lambda a, b: b + a, pieces[::-1], NLLGrid())
    for joined in (left, right):
        found = joined.temperature()[0]
        assert joined.n_samples == 300
        assert found.value == pytest.approx(wanted.value, rel=ORDER, abs=0)
        assert found.stderr == pytest.approx(wanted.stderr, rel=ORDER, abs=0)
        assert found.robust_stderr == pytest.approx(wanted.robust_stderr, rel=ORDER, abs=0)


def test_nothing_is_neutral():
    one = state(*multiclass(100))
    for same in (NLLGrid() + one, one + NLLGrid()):
        np.testing.assert_array_equal(same.sums, one.sums)
        assert (same.ends, same.n_samples, same.task) == (one.ends, one.n_samples, one.task)


def test_the_state_is_small_however_many_samples():
    assert state(*multiclass(10)).sums.nbytes == state(*multiclass(5000)).sums.nbytes < 8192


# How sure it is


def test_standard_errors_are_those_of_float64():
    z, y = multiclass(2000)
    weight = np.random.default_rng(0).random(2000)
    found = state(z, y, weight=weight).temperature()[0]
    wanted = standard_errors(z, y, found.value, weight)
    assert found.stderr == pytest.approx(wanted.stderr, rel=1e-8)
    assert found.robust_stderr == pytest.approx(wanted.robust, rel=1e-4)


def test_positions_of_one_image_are_one_sample_to_the_robust_standard_error():
    z, y = multiclass(40 * 64, 5)
    rng = np.random.default_rng(0)
    z += 3 * np.repeat(rng.normal(size=(40, 5)), 64, axis=0).astype(np.float32)  # errors that an image shares
    dense, labels = np.moveaxis(z.reshape(40, 8, 8, 5), -1, 1), y.reshape(40, 8, 8)
    batches = [(dense[i : i + 7], labels[i : i + 7]) for i in range(0, 40, 7)]
    once, kept = fit(batches, no_spool=True), fit(dense, labels)
    wanted = standard_errors(z, y, once.temperature, group=np.repeat(np.arange(40), 64))
    assert wanted.robust > 1.5 * wanted.stderr
    assert once.robust_stderr == pytest.approx(wanted.robust, rel=1e-4)
    assert kept.robust_stderr == pytest.approx(wanted.robust, rel=1e-4)


@pytest.mark.parametrize("scale", [0.9, 1.0, 1.15, 4.0])
def test_the_likelihood_ratio_is_that_of_float64(scale):
    z, y = multiclass(3000, scale=scale)
    found = state(z, y)
    t = found.temperature()[0].value
    wanted = 2 * float((rows(z, y, 1.0).nll - rows(z, y, 1 / t).nll).sum())
    assert found.likelihood_ratio(t) == pytest.approx(wanted, rel=1e-3, abs=0.01)


def test_a_single_pass_says_what_it_is():
    z, y = multiclass(2000)
    once, kept = fit([(z[:900], y[:900]), (z[900:], y[900:])], no_spool=True), fit(z, y, exact=True)
    assert once.temperature == pytest.approx(kept.temperature, rel=1e-11)
    assert once.stderr == pytest.approx(kept.stderr, rel=1e-8)
    assert once.p_value == pytest.approx(kept.p_value, rel=1e-3, abs=1e-12)
    assert (once.metrics, once.n_samples, once.task, once.objective) == (None, 2000, "multiclass", "nll")
    assert once.precision is not None
    assert once.precision < 1e-10
    assert kept.precision is None
    assert math.log(once.interval[1] / kept.interval[1]) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("option", [{"exact": True}, {"prior": 1.0}, {"smoothing": 0.1}])
def test_what_a_single_pass_cannot_do_is_refused(option):
    with refused(UsageError, "a single pass"):
        fit([multiclass(100)], no_spool=True, **option)


def test_arrays_have_no_need_of_a_single_pass():
    with refused(UsageError, "no_spool is for batches"):
        fit(*multiclass(100), no_spool=True)
