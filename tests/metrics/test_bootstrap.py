"""Resampled scores: against a plain multinomial bootstrap, simulation, and what must not matter."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcal.calibrators import fit, fit_temperature
from onnxcal.metrics import PerSample, ScoreIntervals, bootstrap, compare, per_sample, reliability_bins
from onnxcal.metrics.bootstrap import _quantiles
from onnxcal.rows import labelled
from tests.reference.problems import multiclass, sigmoids
from tests.reference.scores import expected_calibration_error

SCORES = ("nll", "ece", "brier")


def scored(n=1500, temperature=2.7, seed=0, **options):
    z, y = multiclass(n, 5, seed=seed)
    sample = labelled(z, y, **options)
    return per_sample(sample), per_sample(sample, temperature)


def taken(each: PerSample, rows) -> PerSample:
    return PerSample(each.nll[rows], each.brier[rows], each.confidence[rows], each.correct[rows])


def scores_of(each: PerSample, counts) -> np.ndarray:
    """NLL, ECE and Brier score of a resample, in which sample i is counts[i] times."""
    total = counts.sum()
    gap, ece = counts * (each.correct - each.confidence), 0.0
    for m in range(15):
        inside = (each.confidence > m / 15) & (each.confidence <= (m + 1) / 15)
        ece += abs(gap[inside].sum()) / total
    return np.array([(counts * each.nll).sum() / total, ece, (counts * each.brier).sum() / total])


def multinomial(before, after, group, weight, resamples=600, seed=1):
    """(R, 3, 3) by Efron's bootstrap of groups, in a plain loop; and the scores themselves."""
    rng = np.random.default_rng(seed)
    names, index = np.unique(group, return_inverse=True)
    drawn = []
    for _ in range(resamples):
        counts = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))[index] * weight
        b, a = scores_of(before, counts), scores_of(after, counts)
        drawn.append([b, a, a - b])
    b, a = scores_of(before, weight), scores_of(after, weight)
    return np.array(drawn), np.array([b, a, a - b])


@pytest.mark.parametrize("kind", ["plain", "weighted", "grouped"])
def test_intervals_are_those_of_a_multinomial_bootstrap(kind):
    rng = np.random.default_rng(5)
    before, after = scored()
    n = len(before.nll)
    weight = rng.exponential(size=n) if kind == "weighted" else np.ones(n)
    group = np.repeat(np.arange(n // 10), 10) if kind == "grouped" else np.arange(n)
    found = bootstrap(
        before, after, resamples=4000,
        group=group if kind == "grouped" else None, weight=weight if kind == "weighted" else None,
    )  # fmt: skip
    drawn, point = multinomial(before, after, group, weight)
    low, high = (2 * point - np.quantile(drawn, q, axis=0) for q in (0.975, 0.025))
    width = np.quantile(drawn, 0.975, axis=0) - np.quantile(drawn, 0.025, axis=0)
    for i, part in enumerate((found.before, found.after, found.difference)):
        for j, name in enumerate(SCORES):
            wanted = np.array([low[i, j], high[i, j]])
            if i < 2:
                wanted = np.maximum(wanted, 0)
            # Quantiles of 600 draws are known to about a tenth of the width.
            np.testing.assert_allclose(getattr(part, name), wanted, atol=0.15 * width[i, j])


def test_samples_of_one_group_are_drawn_together():
    """Ten copies of each sample are worth one."""
    before, after = scored(300)
    rows = np.repeat(np.arange(300), 10)
    once = bootstrap(before, after, resamples=3000)
    copies = bootstrap(taken(before, rows), taken(after, rows), group=rows, resamples=3000)
    apart = bootstrap(taken(before, rows), taken(after, rows), resamples=3000)
    for name in SCORES:
        widths = [np.diff(getattr(one.difference, name))[0] for one in (once, copies, apart)]
        assert widths[1] == pytest.approx(widths[0], rel=1e-4)
        assert widths[2] < 0.5 * widths[0]


def test_groups_may_come_in_any_order():
    before, after = scored(300)
    rng = np.random.default_rng(0)
    group, order = np.repeat(np.arange(60), 5), rng.permutation(300)
    one = bootstrap(before, after, group=group)
    other = bootstrap(taken(before, order), taken(after, order), group=group[order])
    for name in SCORES:
        assert getattr(one.difference, name) == pytest.approx(getattr(other.difference, name), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("factor", [1e-30, 7.0, 1e45])
def test_only_ratios_of_weights_matter(factor):
    before, after = scored(300)
    weight = np.random.default_rng(0).random(300)
    one, other = (bootstrap(before, after, weight=w) for w in (weight, weight * factor))
    for name in SCORES:
        assert getattr(one.after, name) == pytest.approx(getattr(other.after, name), rel=1e-5)


def test_a_weight_of_zero_is_no_sample():
    before, after = scored(600)
    weight = np.tile([1.0, 0.0], 300)
    found = bootstrap(before, after, weight=weight, resamples=4000)
    kept = bootstrap(taken(before, weight > 0), taken(after, weight > 0), resamples=4000)
    for name in SCORES:
        assert np.diff(getattr(found.after, name)) == pytest.approx(np.diff(getattr(kept.after, name)), rel=0.1)


def test_the_same_seed_gives_the_same_intervals():
    before, after = scored(300)
    assert bootstrap(before, after, seed=3) == bootstrap(before, after, seed=3)
    assert bootstrap(before, after, seed=3) != bootstrap(before, after, seed=4)


def test_weights_of_resamples_are_poisson():
    assert _quantiles().mean() == pytest.approx(1, abs=1e-4)
    assert _quantiles().var() == pytest.approx(1, abs=1e-3)
    assert (_quantiles() == 0).mean() == pytest.approx(np.exp(-1), abs=1e-4)
    assert (_quantiles() == 3).mean() == pytest.approx(np.exp(-1) / 6, abs=1e-4)


def test_intervals_of_differences_cover_the_truth():
    """NLL and Brier score at T = 2 and T = 1 of 250 data sets; the truth from 400,000 samples."""
    truth = compare(labelled(*multiclass(400_000, 4, scale=1.5, seed=77)), 2.0, split="eval", resamples=0)
    covered = dict.fromkeys(("nll", "brier"), 0)
    for seed in range(250):
        sample = labelled(*multiclass(300, 4, scale=1.5, seed=seed))
        found = compare(sample, 2.0, split="eval", resamples=400).intervals.difference
        for name in covered:
            low, high = getattr(found, name)
            covered[name] += low <= getattr(truth.after, name) - getattr(truth.before, name) <= high
    # Of 250 at 95 %, one standard deviation is 1.4 %; the basic interval of 300 skew values is itself 1 to 2 % short.
    for share in covered.values():
        assert 0.90 <= share / 250 <= 0.985


def test_scores_are_not_below_zero():
    found = bootstrap(*scored(5), resamples=500)
    for part in (found.before, found.after):
        assert min(getattr(part, name)[0] for name in SCORES) >= 0


@pytest.mark.parametrize("resamples", [1, 2, 1000])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_handful_of_samples_has_intervals_too(n, resamples):
    for seed in range(10):
        found = bootstrap(*scored(n), resamples=resamples, seed=seed)
        for part in (found.before, found.after, found.difference):
            assert np.isfinite([getattr(part, name) for name in SCORES]).all()
    assert isinstance(found.before, ScoreIntervals)


@pytest.mark.parametrize("exponent", [130, 400])
def test_scores_beyond_float32_have_intervals(exponent):
    z, y = multiclass(300, 4, dtype=np.float64)
    found = fit(np.ldexp(z, exponent), y).metrics
    low, high = found.intervals.before.nll
    assert low < found.before.nll < high < np.inf
    assert found.intervals.after.nll == pytest.approx(fit(z, y).metrics.intervals.after.nll, rel=1e-4)


# Comparisons


def test_a_comparison_of_positions_is_one_of_images():
    z, y = multiclass(40 * 25, 4)
    z, y = z + 0, y.reshape(40, 5, 5)
    sample = labelled(np.moveaxis(z.reshape(40, 5, 5, 4), -1, 1), y)
    found = compare(sample, 2.0, split="fit")
    each = [per_sample(sample, t) for t in (1.0, 2.0)]
    assert found.intervals == bootstrap(*each, group=np.repeat(np.arange(40), 25))


def test_entries_of_a_multilabel_row_are_drawn_together():
    s, y = sigmoids((100, 5))
    sample = labelled(s, y, task="multilabel", weight=np.arange(1, 101))
    each = [per_sample(sample, t) for t in (1.0, 2.0)]
    rows = np.repeat(np.arange(100), 5)
    assert compare(sample, 2.0, split="fit").intervals == bootstrap(*each, group=rows, weight=rows + 1.0)


def test_no_resamples_are_no_intervals():
    assert compare(labelled(*multiclass(50)), 2.0, split="fit", resamples=0).intervals is None


@pytest.mark.parametrize("weighted", [False, True])
def test_weighted_scores_are_those_of_repeated_samples(weighted):
    z, y = multiclass(200, 4)
    weight = np.random.default_rng(0).integers(0, 4, 200) if weighted else np.ones(200, int)
    one = compare(labelled(z, y, weight=weight), 2.0, split="fit", resamples=0)
    other = compare(labelled(np.repeat(z, weight, axis=0), np.repeat(y, weight)), 2.0, split="fit", resamples=0)
    for name in ("accuracy", "confidence", "nll", "ece", "brier", "ece_floor"):
        if name == "ece_floor" and weighted:
            assert one.after.ece_floor > other.after.ece_floor  # copies are no independent samples
            continue
        assert getattr(one.after, name) == pytest.approx(getattr(other.after, name), rel=1e-12)


def test_contributions_sum_to_the_scores_of_a_loop():
    before, _ = scored(400)
    assert reliability_bins(before.confidence, before.correct).ece == pytest.approx(
        expected_calibration_error(before.confidence, before.correct, 15), rel=1e-12
    )


# The floor of the ECE


@pytest.mark.parametrize("n", [100, 1000, 10_000])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_floor_is_the_mean_error_of_honest_predictions(n, weighted):
    rng = np.random.default_rng(n)
    confidence = 0.3 + 0.69 * rng.beta(3, 1, n)
    weight = rng.exponential(size=n) if weighted else None
    found = reliability_bins(confidence, rng.random(n) < confidence, weight=weight).ece_floor
    eces = [reliability_bins(confidence, rng.random(n) < confidence, weight=weight).ece for _ in range(800)]
    # The mean of 800 is known to 1 to 2 %. Bins of a few samples are not quite normal: their gaps are near ±√v.
    assert found == pytest.approx(np.mean(eces), rel=0.1 if n == 100 else 0.03)


def test_a_fit_is_honest_about_the_floor():
    z, y = multiclass(2000, scale=1.0)
    found = compare(labelled(z, y), 1.0, split="fit").before
    assert found.ece < 2 * found.ece_floor
    overconfident = compare(labelled(3 * z, y), fit_temperature(labelled(3 * z, y)).value, split="fit")
    assert overconfident.before.ece > 5 * overconfident.before.ece_floor
    assert overconfident.after.ece < 2 * overconfident.after.ece_floor


def test_intervals_do_not_depend_on_the_threads_of_the_linear_algebra():
    """To the six digits that a model file keeps; in float32 they differed in the seventh, and so now and then here."""
    control = pytest.importorskip("threadpoolctl")
    before, after = scored(n=10_000)
    found = []
    for threads in (1, 2):
        with control.threadpool_limits(threads):
            intervals = bootstrap(before, after, seed=3)
        found.append([value for part in (intervals.before, intervals.difference) for value in (*part.nll, *part.ece)])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-11)
