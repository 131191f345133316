"""The fitted temperature against the published ones, exact arithmetic, torch, scikit-learn and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import brentq
from scipy.special import expit
from torch.nn import functional

from onnxcal.calibrators import Divide, Temperature, fit, fit_temperature
from onnxcal.errors import NoFiniteOptimum, OnnxcalError, UsageError, UselessLogits, WorseThanChance
from onnxcal.rows import labelled
from tests.reference import published as sets
from tests.reference.likelihood import best_temperature, exact_ends, one_hot, pairs, slope_in_decimals
from tests.reference.others import sklearn_temperature, torch_standard_error, torch_temperature
from tests.reference.refusals import refused

EXACT = 1e-7
"""What onnxcal promises of |T − T_mle| / T_mle."""


def temperature_of(z, y, **options) -> float:
    return fit_temperature(labelled(z, y, **options)).value


def assert_exact(t, z, w, digits=50) -> None:
    """The slope of the NLL changes sign within `EXACT` of T."""
    above, below = (slope_in_decimals(z, w, t * (1 + e), digits) for e in (EXACT, -EXACT))
    assert above < 0 < below


def overconfident(n=300, k=4, scale=3.0, seed=0):
    """Logits `scale` times too large for their labels, so that T is about `scale`."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(n, k)) * 1.5
    y = (honest + rng.gumbel(size=(n, k))).argmax(axis=1)
    return scale * honest, y


def overconfident_binary(shape=(300,), scale=3.0, seed=0):
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=shape) * 1.5
    return scale * honest, (rng.random(shape) < expit(honest)).astype(np.int64)


def grid_problem(n=60, k=5, seed=0):
    """Logits that are multiples of 1/16, so that shifts and powers of two are exact."""
    z, y = overconfident(n, k, seed=seed)
    return np.round(z * 16) / 16, y


# The promise


@pytest.mark.parametrize("name", sets.SETS)
def test_temperature_is_the_published_maximum_likelihood_one(published, expected, name):
    z, y = sets.load(published, name, "val")
    t = expected["datasets"][name]["T"]
    assert abs(temperature_of(z, y) - t) / t <= EXACT


@pytest.mark.parametrize("name", sets.SETS)
def test_the_slope_changes_sign_at_the_temperature(published, name):
    z, y = sets.load(published, name, "val")
    n = 12_000 // (z.shape[1] if z.ndim == 2 else 2)  # decimals are slow
    z, y = z[:n], y[:n]
    t = temperature_of(z, y)
    z, w = pairs(z, y) if z.ndim == 1 else (z, one_hot(y, z.shape[1]))
    assert_exact(t, z, w, digits=30)


def test_torch_in_double_finds_the_same_temperature(published):
    z, y = sets.load(published, "akamaster_resnet20_png1000", "val")
    assert temperature_of(z, y) == pytest.approx(torch_temperature(z, y, functional.cross_entropy), rel=EXACT)


def test_scikit_learn_finds_the_same_multiclass_temperature(published):
    z, y = sets.load(published, "akamaster_resnet20_png1000", "val")
    # It compares values of the NLL, which resolve T to √eps at best, not to 1e-7.
    assert temperature_of(z, y) == pytest.approx(sklearn_temperature(z, y), rel=1e-6)


def test_scikit_learn_finds_twice_the_binary_temperature(published):
    s, y = sets.load(published, "cleanlab_imdb_sigmoid", "val")
    # Its pair is (−s, s), not (0, s).
    assert 2 * temperature_of(s, y) == pytest.approx(sklearn_temperature(s[:, None], y), rel=1e-6)


# What must not matter


@pytest.mark.parametrize("c", [0.02, 0.5, 1.0, 37.0, 5000.0])
@pytest.mark.parametrize("k", [2, 10])
def test_scaled_logits_scale_the_temperature(c, k):
    z, y = overconfident(k=k)
    assert temperature_of(c * z, y) == pytest.approx(c * temperature_of(z, y), rel=EXACT)


@pytest.mark.parametrize("c", [0.02, 5000.0])
def test_scaled_binary_logits_scale_the_temperature(c):
    s, y = overconfident_binary()
    assert temperature_of(c * s, y) == pytest.approx(c * temperature_of(s, y), rel=EXACT)


@pytest.mark.parametrize("c", [2.0**-400, 2.0**-60, 2.0**60, 2.0**400])
def test_far_larger_and_smaller_logits_than_float32_holds_can_be_fitted(c):
    z, y = grid_problem()
    assert temperature_of(c * z, y) == pytest.approx(c * temperature_of(z, y), rel=EXACT)


def test_shifted_rows_give_the_same_temperature():
    z, y = grid_problem()
    shift = np.random.default_rng(3).integers(-4096, 4096, size=(len(z), 1))
    assert temperature_of(z + shift, y) == temperature_of(z, y)


def test_order_of_samples_and_classes_does_not_matter():
    z, y = overconfident()
    rng = np.random.default_rng(5)
    rows, classes = rng.permutation(len(z)), rng.permutation(z.shape[1])
    assert temperature_of(z[rows][:, classes], np.argsort(classes)[y[rows]]) == pytest.approx(
        temperature_of(z, y), rel=1e-12
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "<f8"])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, lambda z: np.repeat(z, 2, axis=1)[:, ::2]])
def test_the_values_count_not_their_dtype_or_layout(dtype, layout):
    z, y = overconfident()
    z = z.astype(np.float16).astype(dtype)
    assert temperature_of(layout(z), y) == temperature_of(z.astype(np.float64), y)


def test_half_precision_logits_are_summed_in_double(published):
    z, y = sets.load(published, "densenet40_cifar10", "val")
    half = z.astype(np.float16)
    assert temperature_of(half, y) == pytest.approx(best_temperature(half, one_hot(y, 10)), rel=EXACT)


def test_arrays_that_were_passed_stay_as_they_are():
    z, y = overconfident()
    kept_z, kept_y = z.copy(), y.copy()
    z.flags.writeable = y.flags.writeable = False
    fit(z, y)
    np.testing.assert_array_equal(z, kept_z)
    np.testing.assert_array_equal(y, kept_y)


# Kinds of labels and heads


def test_one_hot_labels_are_class_indices():
    z, y = overconfident()
    assert temperature_of(z, one_hot(y, 4)) == temperature_of(z, y)


def test_soft_labels_minimise_the_cross_entropy():
    z, _ = overconfident()
    w = np.random.default_rng(1).dirichlet([0.3, 0.3, 0.3, 0.3], size=len(z)) * 0.5 + 0.5 * one_hot(z.argmax(1), 4)
    t = temperature_of(z, w)
    assert t == pytest.approx(best_temperature(z, w), rel=EXACT)
    assert t == pytest.approx(torch_temperature(z, w, functional.cross_entropy), rel=EXACT)


def test_a_soft_label_is_so_many_samples_of_each_class():
    z, y = grid_problem()
    w = 0.75 * one_hot(y, 5) + 0.25 * one_hot((y + 1) % 5, 5)
    repeated = np.concatenate([y, y, y, (y + 1) % 5])
    assert temperature_of(z, w) == pytest.approx(temperature_of(np.tile(z, (4, 1)), repeated), rel=1e-12)


@pytest.mark.parametrize("shape", [(300,), (300, 1)])
def test_a_binary_logit_is_the_pair_of_zero_and_itself(shape):
    s, y = overconfident_binary()
    pair = np.column_stack([np.zeros_like(s), s])
    assert temperature_of(s.reshape(shape), y) == pytest.approx(temperature_of(pair, y), rel=1e-12)
    assert temperature_of(s.reshape(shape), y.reshape(shape)) == temperature_of(s, y)


def test_binary_probabilities_are_labels_too():
    s, _ = overconfident_binary()
    w = expit(s / 3 + np.random.default_rng(0).normal(size=s.shape))
    torchs = torch_temperature(s, w, functional.binary_cross_entropy_with_logits)
    assert temperature_of(s, w) == pytest.approx(torchs, rel=EXACT)


def test_multilabel_is_the_root_that_scipy_finds():
    s, y = overconfident_binary((200, 5))
    root = brentq(lambda b: float(((expit(b * s) - y) * s).sum()), 1e-3, 1e3, xtol=1e-15, rtol=1e-14)
    assert temperature_of(s, y, task="multilabel") == pytest.approx(1 / root, rel=EXACT)


def test_multilabel_is_the_binary_task_of_all_entries():
    s, y = overconfident_binary((200, 5))
    assert temperature_of(s, y, task="multilabel") == pytest.approx(temperature_of(s.ravel(), y.ravel()), rel=1e-12)


@pytest.mark.parametrize("axis", [1, -3])
def test_each_pixel_of_a_dense_head_is_a_sample(axis):
    z, y = overconfident(n=6 * 7 * 8)
    dense = z.reshape(6, 7, 8, 4).transpose(0, 3, 1, 2)
    assert temperature_of(dense, y.reshape(6, 7, 8), axis=axis) == temperature_of(z, y)


@pytest.mark.parametrize("axis", [2, -1, 3])
def test_the_class_axis_may_be_any(axis):
    z, y = overconfident(n=6 * 7 * 8)
    moved = np.moveaxis(z.reshape(6, 7, 8, 4), -1, axis)
    assert temperature_of(moved, y.reshape(6, 7, 8), axis=axis) == temperature_of(z, y)


def test_classes_may_come_first():
    z, y = overconfident()
    assert temperature_of(z.T, y, axis=0) == temperature_of(z, y)


def test_dense_labels_may_be_one_hot():
    z, y = overconfident(n=6 * 7 * 8)
    dense = np.moveaxis(z.reshape(6, 7, 8, 4), -1, 1)
    w = np.moveaxis(one_hot(y, 4).reshape(6, 7, 8, 4), -1, 1)
    assert temperature_of(dense, w) == temperature_of(z, y)


@pytest.mark.parametrize("marker", [-100, 255, -1])
def test_ignored_labels_take_no_part(marker):
    z, y = overconfident(n=6 * 7 * 8)
    dense = np.moveaxis(z.reshape(6, 7, 8, 4), -1, 1)
    labels = y.reshape(6, 7, 8).copy()
    labels[np.random.default_rng(0).random(labels.shape) < 0.3] = marker
    torchs = torch_temperature(dense, labels, functional.cross_entropy, ignore_index=marker)
    assert temperature_of(dense, labels, ignore_index=marker) == pytest.approx(torchs, rel=EXACT)


def test_a_masked_class_takes_no_part():
    z, y = overconfident(k=6)
    masked = np.random.default_rng(0).random(z.shape) < 0.4
    masked[np.arange(len(y)), y] = False
    z[masked] = -np.inf
    t = temperature_of(z, y)
    w = one_hot(y, 6)
    assert_exact(t, z, w)
    finite = np.where(masked, -1e30, z)  # torch differentiates −inf / T to NaN
    assert t == pytest.approx(torch_temperature(finite, y, functional.cross_entropy), rel=EXACT)


def test_a_class_masked_everywhere_might_as_well_not_be_there():
    z, y = overconfident()
    padded = np.column_stack([np.full(len(z), -np.inf), z])
    assert temperature_of(padded, y + 1) == pytest.approx(temperature_of(z, y), rel=1e-12)


# Many samples: the start comes from a subsample, which may mislead


def hide_rows(z, y, degenerate):
    """Make every fourth row, which is what the subsample of 16,384 rows consists of, say something else."""
    z, y = z.copy(), y.copy()
    some = slice(0, None, 4)
    if degenerate == "separable":
        y[some] = z[some].argmax(axis=1)
    elif degenerate == "worse than chance":
        y[some] = z[some].argmin(axis=1)
    elif degenerate == "constant":
        z[some] = 1.0
    elif degenerate == "another scale":
        z[some] *= 1e-3
    return z, y


@pytest.mark.parametrize("degenerate", ["none", "separable", "worse than chance", "constant", "another scale"])
def test_large_sets_are_fitted_to_all_their_rows(degenerate):
    z, y = hide_rows(*overconfident(n=16384, k=3), degenerate)
    assert temperature_of(z, y) == pytest.approx(best_temperature(z, one_hot(y, 3)), rel=EXACT)


def test_a_memory_mapped_array_is_fitted_like_one_in_memory(tmp_path):
    z, y = overconfident(n=9000)
    np.save(tmp_path / "z.npy", z.astype(np.float32))
    mapped = np.load(tmp_path / "z.npy", mmap_mode="r")
    assert temperature_of(mapped, y) == temperature_of(z.astype(np.float32), y)


# The standard error


def test_standard_error_is_the_observed_information(published):
    z, y = sets.load(published, "akamaster_resnet20_png1000", "val")
    found = fit_temperature(labelled(z, y))
    assert found.stderr == pytest.approx(torch_standard_error(z, y, found.value, functional.cross_entropy), rel=1e-6)


def test_binary_standard_error_is_the_observed_information():
    s, y = overconfident_binary()
    found = fit_temperature(labelled(s, y))
    loss = functional.binary_cross_entropy_with_logits
    assert found.stderr == pytest.approx(torch_standard_error(s, y.astype(float), found.value, loss), rel=1e-6)


def test_standard_error_of_soft_labels_and_masked_classes_is_finite():
    z, y = overconfident()
    z[:, 0] = np.where(y == 0, z[:, 0], -np.inf)
    assert 0 < fit_temperature(labelled(z, y)).stderr < math.inf


def test_twice_the_samples_shrink_the_standard_error_by_root_two():
    z, y = overconfident()
    once, twice = fit_temperature(labelled(z, y)), fit_temperature(labelled(np.tile(z, (2, 1)), np.tile(y, 2)))
    assert twice.value == pytest.approx(once.value, rel=1e-12)
    assert once.stderr / twice.stderr == pytest.approx(math.sqrt(2), rel=1e-6)


def test_standard_error_is_the_spread_of_temperatures_over_data_sets():
    fits = [fit_temperature(labelled(*overconfident(n=400, seed=seed))) for seed in range(200)]
    spread = np.std([found.value for found in fits], ddof=1)
    # The spread of 200 draws is itself known to 5 %: three of those.
    assert np.mean([found.stderr for found in fits]) == pytest.approx(spread, rel=0.15)


# No finite optimum


BUT_ONE = [[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]

DEGENERATE = {
    "one sample that is right": ([[2.0, 1.0]], [0], NoFiniteOptimum),
    "one sample that is wrong": ([[2.0, 1.0]], [1], WorseThanChance),
    "one sample that is in the middle": ([[2.0, 1.0, 0.0]], [1], UselessLogits),
    "one sample without information": ([[1.0, 1.0]], [1], UselessLogits),
    "separable": ([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0]], [0, 1, 2], NoFiniteOptimum),
    "separable but for ties": ([[2.0, 2.0, 0.0], [0.0, 1.0, 0.0], [0.0, 3.0, 3.0]], [1, 1, 2], NoFiniteOptimum),
    "separable with constant rows": ([[2.0, 0.0], [5.0, 5.0]], [0, 1], NoFiniteOptimum),
    "constant rows": ([[1.0, 1.0, 1.0], [-7.0, -7.0, -7.0]], [0, 2], UselessLogits),
    "all zero": (np.zeros((50, 10)), np.arange(50) % 10, UselessLogits),
    "every label once": ([[0.3, 0.1, 0.2]] * 3, [0, 1, 2], UselessLogits),
    "labels uniform": ([[0.3, 0.1, 0.2]] * 2, np.full((2, 3), 1 / 3), UselessLogits),
    "labels reversed": ([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0]], [1, 2, 0], WorseThanChance),
    "soft labels that agree": (BUT_ONE, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], NoFiniteOptimum),
    "soft labels that disagree": (BUT_ONE, [[0.1, 0.2, 0.7], [0.7, 0.1, 0.2]], WorseThanChance),
    "one class left": ([[-np.inf, 1.0], [2.0, -np.inf]], [1, 0], UselessLogits),
    "separable but for masked classes": ([[-np.inf, 1.0, 0.0], [2.0, 3.0, -np.inf]], [1, 1], NoFiniteOptimum),
    "binary separable": ([2.0, -1.0, 0.5], [1, 0, 1], NoFiniteOptimum),
    "binary separable but for a zero": ([2.0, -1.0, 0.0], [1, 0, 1], NoFiniteOptimum),
    "binary all zero": ([0.0, 0.0], [1, 0], UselessLogits),
    "binary balanced": ([1.0, 1.0], [1, 0], UselessLogits),
    "binary reversed": ([2.0, -1.0, 0.5], [0, 1, 0], WorseThanChance),
    "binary half and half": ([2.0, -1.0], [0.5, 0.5], UselessLogits),
}


@pytest.mark.parametrize("case", DEGENERATE)
def test_logits_without_a_finite_optimum_are_named(case):
    z, y, error = DEGENERATE[case]
    with refused(error, f"({len(z)} samples)"):
        temperature_of(z, y)


@pytest.mark.parametrize("error", [NoFiniteOptimum, UselessLogits, WorseThanChance])
def test_multilabel_logits_without_a_finite_optimum_are_named(error):
    s = np.array([[2.0, -1.0], [-0.5, 3.0]])
    y = {NoFiniteOptimum: s > 0, UselessLogits: np.full(s.shape, 0.5), WorseThanChance: s < 0}[error]
    with refused(error):
        temperature_of(s, y, task="multilabel")


@pytest.mark.parametrize("c", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("k", [3, 7, 10])
def test_a_slope_of_zero_is_seen_through_rounding(c, k):
    row = c * np.random.default_rng(k).normal(size=k)
    with refused(UselessLogits, "best temperature is infinite"):
        temperature_of(np.tile(row, (10 * k, 1)), np.arange(10 * k) % k)


def test_large_separable_sets_are_named():
    z, _ = overconfident(n=20000, k=3)
    with refused(NoFiniteOptimum, "20,000 samples"):
        temperature_of(z, z.argmax(axis=1))


def test_one_mistake_is_enough_for_an_optimum():
    z, _ = overconfident()
    y = z.argmax(axis=1)
    y[7] = z[7].argsort()[-2]
    assert temperature_of(z, y) == pytest.approx(best_temperature(z, one_hot(y, 4)), rel=EXACT)


@pytest.mark.parametrize("margin", [1e-3, 1e-6])
def test_one_narrow_mistake_among_wide_margins_is_an_optimum(margin):
    z, y = np.array([[1000.0, 0.0]] * 50 + [[0.0, margin]]), np.zeros(51, np.int64)
    assert_exact(temperature_of(z, y), z, one_hot(y, 2))


@pytest.mark.parametrize("information", [2.0**-5, 2.0**-20])
def test_a_little_information_is_an_optimum(information):
    z, y = np.array([[1.0, 0.0], [1.0, 0.0], [information, 0.0]]), np.array([0, 1, 0])
    t = temperature_of(z, y)
    assert t > 1 / information
    assert_exact(t, z, one_hot(y, 2))


# Anything at all

GRID = st.integers(-320, 320).map(lambda i: i / 16)


@st.composite
def problems(draw):
    """Logits on a grid of 1/16, where sums are exact and ties and degenerate cases are common, and class indices."""
    n, k = draw(st.integers(1, 8)), draw(st.integers(2, 5))
    z = draw(arrays.arrays(np.float64, (n, k), elements=GRID))
    y = draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n))
    return z, np.array(y), draw(st.sampled_from([2.0**-12, 1.0, 2.0**10]))


@given(problems())
@settings(max_examples=300, deadline=None)
def test_any_problem_has_the_outcome_that_exact_arithmetic_gives(problem):
    z, y, scale = problem
    constant, at_zero, at_infinity = exact_ends(z, y)
    outcome: type[OnnxcalError] | None = None
    if constant or (at_zero == 0 and at_infinity > 0):
        outcome = UselessLogits
    elif at_infinity == 0:
        outcome = NoFiniteOptimum
    elif at_zero > 0:
        outcome = WorseThanChance
    if outcome is not None:
        with refused(outcome):
            temperature_of(scale * z, y)
        return
    t = temperature_of(scale * z, y)
    w = one_hot(y, z.shape[1])
    assert_exact(t, scale * z, w)


@given(
    arrays.arrays(np.float64, st.integers(1, 10), elements=GRID),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_any_binary_problem_has_the_outcome_that_exact_arithmetic_gives(s, seed):
    y = np.random.default_rng(seed).integers(0, 2, len(s))
    pair, w = pairs(s, y)
    constant, at_zero, at_infinity = exact_ends(pair, y)
    if constant or at_zero >= 0 or at_infinity == 0:
        with pytest.raises((UselessLogits, NoFiniteOptimum, WorseThanChance)):
            temperature_of(s, y)
        return
    t = temperature_of(s, y)
    assert_exact(t, pair, w)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["float16", "float32", "float64"]), st.floats(-4, 4))
@settings(max_examples=60, deadline=None)
def test_the_optimum_of_random_logits_is_exact(seed, dtype, log_scale):
    z, y = overconfident(n=30, k=3, scale=math.exp(log_scale), seed=seed)
    z = z.astype(dtype)
    try:
        t = temperature_of(z, y)
    except (NoFiniteOptimum, WorseThanChance):
        return
    w = one_hot(y, 3)
    assert_exact(t, z, w)


# The type


@pytest.mark.parametrize("value", [0.0, -0.0, -1.5, math.nan, math.inf, -math.inf])
def test_a_temperature_is_positive_and_finite(value):
    with refused(UsageError, repr(value)):
        Temperature(value)


def test_a_temperature_divides():
    assert Temperature(1.7, stderr=0.1).steps() == (Divide(1.7),)


@pytest.mark.parametrize("exponent", [-700, -400, 400, 600])
def test_logits_at_the_ends_of_float64_scale_their_temperature(exponent):
    """Their squares are beyond float64; dividing by a power of two changes no bit of the optimum."""
    rng = np.random.default_rng(3)
    z, y = rng.normal(size=(200, 4)), rng.integers(0, 4, 200)
    y[:150] = z[:150].argmax(axis=1)
    plain = fit(z, y)
    assert fit(np.ldexp(z, exponent), y).temperature == pytest.approx(math.ldexp(plain.temperature, exponent))
