"""The numbers of plots, against scikit-learn, scipy and formulas that are written apart."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from sklearn.calibration import calibration_curve

from onnxcal import plots
from onnxcal.logits import Labels, Logits, Sample, Task
from onnxcal.metrics.confidences import confidence_histograms
from onnxcal.metrics.diagrams import class_diagrams, reliability_diagrams, reliability_sweep
from onnxcal.metrics.reliability import reliability_bins, wilson_interval
from onnxcal.metrics.risk import risk_coverage, risk_coverages
from onnxcal.metrics.subject import Subject
from onnxcal.metrics.temperatures import temperature_curve
from tests.reference.scores import expected_calibration_error, softmax_scores

Z95 = float(stats.norm.ppf(0.975))


def multiclass(n: int = 1500, k: int = 8, seed: int = 0, scale: float = 2.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, k)) * 1.5
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    return scale * z, labels


def subject(temperature: float = 2.5, *, task: Task = "multiclass", seed: int = 0, weighted: bool = False) -> Subject:
    rng = np.random.default_rng(seed + 100)
    z, y = multiclass(seed=seed)
    if task == "binary":
        z, y = z[:, 0], (rng.random(len(z)) < special.expit(z[:, 0] / 2)).astype(np.float64)
    elif task == "multilabel":
        y = (rng.random(z.shape) < special.expit(z / 2)).astype(np.float64)
    weight = rng.integers(0, 4, len(z)).astype(np.float64) if weighted else None
    return Subject(Sample(Logits(z, task), Labels(y), weight), temperature, resamples=0)


def predictions(z: np.ndarray, y: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence, correctness and predicted class by scipy."""
    p = special.softmax(z / temperature, axis=1)
    predicted = p.argmax(axis=1)
    return p.max(axis=1), predicted == y, predicted


# Reliability


@pytest.mark.parametrize("temperature", [0.7, 2.5])
def test_bins_are_those_of_scikit_learn(temperature: float) -> None:
    found = reliability_diagrams(subject(temperature)).after.bins
    confidence, correct, _ = predictions(*multiclass(), temperature)
    accuracies, confidences = calibration_curve(correct, confidence, n_bins=15, strategy="uniform")
    some = found.counts > 0
    np.testing.assert_allclose(found.accuracy[some], accuracies, rtol=1e-12)
    np.testing.assert_allclose(found.confidence[some], confidences, rtol=1e-12)
    counts, edges = np.histogram(confidence, bins=15, range=(0, 1))
    np.testing.assert_array_equal(found.counts, counts)
    np.testing.assert_allclose(found.edges, edges, atol=1e-15)


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 10), (10, 10), (3, 10), (81, 263), (999, 1000)])
def test_band_is_scipys_wilson_interval(hits: int, n: int) -> None:
    low, high = wilson_interval(np.array([hits / n]), np.array([float(n)]))
    expected = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert float(low[0]) == pytest.approx(expected.low, abs=1e-12)
    assert float(high[0]) == pytest.approx(expected.high, abs=1e-12)


@given(hits=st.integers(0, 500), misses=st.integers(0, 500))
def test_band_solves_wilsons_equation(hits: int, misses: int) -> None:
    n = hits + misses
    if n == 0:
        low, high = wilson_interval(np.array([0.0]), np.array([0.0]))
        assert (float(low[0]), float(high[0])) == (0.0, 1.0)
        return
    for bound in wilson_interval(np.array([hits / n]), np.array([float(n)])):
        p = float(bound[0])
        assert 0 <= p <= 1
        assert abs(hits / n - p) == pytest.approx(Z95 * math.sqrt(p * (1 - p) / n), abs=1e-9)


def test_band_of_weighted_samples_counts_them_as_kish_does() -> None:
    confidence, correct = np.full(40, 0.7), np.arange(40) < 30
    same = reliability_bins(confidence, correct, weight=np.full(40, 5.0))
    np.testing.assert_allclose(same.band, reliability_bins(confidence, correct).band)
    uneven = np.where(np.arange(40) % 2, 3.0, 1.0)
    found = reliability_bins(confidence, correct, weight=uneven)
    kish = float(Fraction(80) ** 2 / Fraction(20 * 9 + 20))
    assert found.effective[found.counts > 0] == pytest.approx([kish])


def correlated(
    rng: np.random.Generator, images: int = 60, positions: int = 50
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidences of 70 %, whether they are right (half of the positions of an image together), and images."""
    group = np.repeat(np.arange(images), positions)
    shared = (rng.random(images) < 0.7)[group]
    return np.full(group.size, 0.7), np.where(rng.random(group.size) < 0.5, shared, rng.random(group.size) < 0.7), group


def test_band_of_positions_of_one_image_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = {"alone": 0, "together": 0}
    for _ in range(400):
        confidence, correct, group = correlated(rng)
        for name, one in (("alone", None), ("together", group)):
            low, high = reliability_bins(confidence, correct, group=one).band
            held[name] += bool(low[10] <= 0.7 <= high[10])
    assert 400 * 0.92 <= held["together"] <= 400 * 0.98
    assert held["alone"] < 400 * 0.6  # what it was before groups counted


def test_floor_of_the_ece_of_positions_of_one_image_is_the_ece_that_honest_ones_have() -> None:
    rng = np.random.default_rng(1)
    found = [reliability_bins(c, right, group=group) for c, right, group in (correlated(rng) for _ in range(400))]
    assert np.mean([one.ece_floor for one in found]) == pytest.approx(np.mean([one.ece for one in found]), rel=0.1)


def test_band_of_groups_is_no_narrower_and_of_nothing_but_hits_as_wide_as_that_of_as_many_samples_as_groups() -> None:
    rng = np.random.default_rng(2)
    confidence, correct, group = rng.uniform(0.3, 1, 500), rng.random(500) < 0.6, np.arange(500) // 5
    alone, together = reliability_bins(confidence, correct), reliability_bins(confidence, correct, group=group)
    assert (together.effective <= alone.effective).all()
    assert (together.accuracy == alone.accuracy).all()
    assert together.ece == alone.ece
    sure = reliability_bins(np.full(40, 0.99), np.ones(40, bool), group=np.arange(40) // 10)
    expected = stats.binomtest(4, 4).proportion_ci(0.95, method="wilson")
    assert sure.band[0][-1] == pytest.approx(expected.low, abs=1e-12)


def test_groups_of_one_change_nothing_but_the_small_sample_factor() -> None:
    rng = np.random.default_rng(3)
    confidence, correct = rng.uniform(0.3, 1, 3000), rng.random(3000) < 0.6
    alone = reliability_bins(confidence, correct)
    together = reliability_bins(confidence, correct, group=np.arange(3000))
    some = alone.counts > 1
    n = alone.counts[some]
    np.testing.assert_allclose(together.effective[some], n - 1, rtol=1e-12)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_subjects_hand_their_groups_to_the_bands(task: Task) -> None:
    what = subject(2.5, task=task).sample
    group = None if task == "multilabel" else np.arange(1500) // 100
    found = reliability_diagrams(Subject(Sample(what.logits, what.labels, group=group), 2.5, resamples=0)).after.bins
    assert (found.effective < found.counts).any()
    assert (found.effective <= found.counts).all()


def test_an_empty_bin_has_a_band_that_says_nothing() -> None:
    bins = reliability_bins(np.array([0.99]), np.array([True]))
    low, high = bins.band
    assert (low[:-1] == 0).all()
    assert (high[:-1] == 1).all()


@pytest.mark.parametrize("task", ["multiclass", "binary", "multilabel"])
def test_before_is_the_same_model_at_temperature_one(task: Task) -> None:
    both = reliability_diagrams(subject(2.5, task=task))
    again = reliability_diagrams(subject(1.0, task=task))
    np.testing.assert_array_equal(both.before.bins.accuracy, again.after.bins.accuracy)
    assert both.before.scores == again.after.scores


# Classes


def test_class_diagram_is_that_of_the_samples_predicted_as_it() -> None:
    found = class_diagrams(subject(2.5), count=100).worst
    confidence, correct, predicted = predictions(*multiclass(), 2.5)
    assert sorted(one.index for one in found) == sorted(set(predicted))
    for one in found:
        here = predicted == one.index
        assert int(one.after.bins.counts.sum()) == int(here.sum())
        expected = expected_calibration_error(confidence[here], correct[here], 15)
        assert one.after.scores.ece == pytest.approx(expected, abs=1e-12)


def test_worst_classes_add_most_to_the_ece_beyond_noise() -> None:
    classes = class_diagrams(subject(2.5), count=100).worst
    added = [float(c.after.bins.weights.sum()) * (c.after.scores.ece - c.after.scores.ece_floor) for c in classes]
    assert added == sorted(added, reverse=True)
    assert len(class_diagrams(subject(2.5)).worst) == 6


def test_a_class_that_was_made_overconfident_is_the_worst() -> None:
    z, y = multiclass(4000)
    wrong = (z.argmax(axis=1) == 3) & (np.random.default_rng(5).random(len(z)) < 0.4)
    found = class_diagrams(plots.subject(z, np.where(wrong, (y + 1) % 8, y), 2.5, bootstrap=0))
    assert found.worst[0].index == 3


def test_classes_of_multilabel_are_its_columns() -> None:
    what = subject(2.5, task="multilabel")
    flags = what.sample.labels.values
    for one in class_diagrams(what, count=100).worst:
        p = special.expit(what.sample.logits.values[:, one.index] / 2.5)
        correct = (p > 0.5) == (flags[:, one.index] > 0.5)
        expected = expected_calibration_error(np.maximum(p, 1 - p), correct, 15)
        assert one.after.scores.ece == pytest.approx(expected, abs=1e-12)


def test_weighted_classes_are_those_of_repeated_samples() -> None:
    what = subject(2.5, weighted=True)
    weight = what.sample.weight
    assert weight is not None
    rows = np.repeat(np.arange(len(weight)), weight.astype(int))
    repeated = Subject(what.sample.take(rows), 2.5, resamples=0)
    repeated = Subject(Sample(repeated.sample.logits, repeated.sample.labels), 2.5, resamples=0)
    found = {one.index: one.after.scores.ece for one in class_diagrams(what, count=100).worst}
    assert found == pytest.approx({o.index: o.after.scores.ece for o in class_diagrams(repeated, count=100).worst})


# Temperatures


def test_curve_is_that_of_plain_loops() -> None:
    z, y = multiclass(120)
    curve = temperature_curve(plots.subject(z, y, 2.5, bootstrap=0))
    for at in (0, 20, len(curve.temperatures) - 1):
        expected = softmax_scores(z, y, float(curve.temperatures[at]))
        assert curve.nll[at] == pytest.approx(expected["nll"], rel=1e-12)
        assert curve.ece[at] == pytest.approx(expected["ece"], abs=1e-12)


def test_curve_holds_the_fitted_temperature_at_its_lowest_nll() -> None:
    z, y = multiclass()
    curve = temperature_curve(plots.subject(z, y, bootstrap=0))
    assert curve.temperatures[np.argmin(curve.nll)] == curve.temperature
    assert 1.0 in curve.temperatures
    assert (np.diff(curve.temperatures) > 0).all()
    assert curve.interval is not None
    assert curve.temperatures[0] < curve.interval[0] < curve.temperature < curve.interval[1] < curve.temperatures[-1]


def test_sweep_has_the_model_as_it_was_and_the_chosen_temperature() -> None:
    sweep = reliability_sweep(subject(2.5))
    temperatures = [one.temperature for one in sweep.diagrams]
    assert temperatures == sorted(temperatures)
    assert 1.0 in temperatures
    assert temperatures[sweep.chosen] == 2.5
    z, y = multiclass()
    for one in sweep.diagrams:
        confidence, correct, _ = predictions(z, y, one.temperature)
        assert one.scores.ece == pytest.approx(expected_calibration_error(confidence, correct, 15), abs=1e-12)


@pytest.mark.parametrize("temperature", [0.25, 0.5, 0.95, 1.0, 1.1, 2.0, 4.0, 300.0])
def test_sweep_draws_no_line_over_another(temperature: float) -> None:
    temperatures = np.array([one.temperature for one in reliability_sweep(subject(temperature)).diagrams])
    assert temperature in temperatures
    assert (np.diff(np.log(temperatures)) > 0.1).all()


# Risk and coverage


def mean_of_selective_risks(confidence: np.ndarray, correct: np.ndarray) -> float:
    """AURC by its definition: the mean over all samples of the error rate of those that are at least as sure."""
    order = sorted(range(len(confidence)), key=lambda i: -confidence[i])
    risks, wrong = [], 0
    for kept, i in enumerate(order, start=1):
        wrong += not correct[i]
        risks.append(wrong / kept)
    return math.fsum(risks) / len(risks)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_aurc_is_the_mean_of_all_selective_risks(temperature: float) -> None:
    found = risk_coverages(subject(temperature)).after
    confidence, correct, _ = predictions(*multiclass(), temperature)
    assert found.aurc == pytest.approx(mean_of_selective_risks(confidence, correct), rel=1e-12)
    assert found.coverage[-1] == 1
    assert found.risk[-1] == pytest.approx(1 - correct.mean(), rel=1e-12)


def test_temperature_changes_the_order_of_samples_only_with_more_than_two_classes() -> None:
    several, one = risk_coverages(subject(2.5)), risk_coverages(subject(2.5, task="binary"))
    assert several.before.aurc != several.after.aurc
    assert one.before.aurc == pytest.approx(one.after.aurc, rel=1e-12)
    np.testing.assert_allclose(one.before.risk, one.after.risk, rtol=1e-12)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from([0.25, 0.5, 0.75]), st.booleans()), min_size=1, max_size=6))
def test_ties_count_as_the_mean_over_their_orders(rows: list[tuple[float, bool]]) -> None:
    from itertools import permutations

    confidence, correct = np.array([c for c, _ in rows]), np.array([right for _, right in rows])
    orders = [list(order) for order in permutations(range(len(rows)))]
    expected = np.mean([mean_of_selective_risks(confidence[order], correct[order]) for order in orders])
    assert risk_coverage(confidence, correct).aurc == pytest.approx(expected, abs=1e-12)


def test_no_order_beats_the_best_one() -> None:
    curves = risk_coverages(subject(2.5))
    errors = round(float(curves.after.risk[-1]) * 1500)
    best = math.fsum(max(0, kept - (1500 - errors)) / kept for kept in range(1, 1501)) / 1500
    assert curves.best.aurc == pytest.approx(best, rel=1e-12)
    assert curves.best.aurc < min(curves.before.aurc, curves.after.aurc)


def test_weighted_risk_has_the_weighted_error_rate_in_the_end() -> None:
    what = subject(2.5, weighted=True)
    z, y = multiclass()
    _, correct, _ = predictions(z, y, 2.5)
    found = risk_coverages(what).after
    assert found.risk[-1] == pytest.approx(np.average(~correct, weights=what.sample.weight), rel=1e-12)
    assert (np.diff(found.coverage) > 0).all()


# Confidences


@pytest.mark.parametrize("task", ["multiclass", "binary", "multilabel"])
def test_histograms_count_right_and_wrong_predictions(task: Task) -> None:
    what = subject(2.5, task=task)
    found = confidence_histograms(what).after
    confidence, correct = what.after.confidence, what.after.correct
    for counts, some in ((found.right, correct), (found.wrong, ~correct)):
        np.testing.assert_array_equal(counts, np.histogram(confidence[some], bins=20, range=(0, 1))[0])
    assert found.mean_wrong == pytest.approx(confidence[~correct].mean())
    assert [share.sum() for share in found.shares] == pytest.approx([1, 1])


def test_a_model_that_is_always_right_has_no_mean_of_the_wrong() -> None:
    z, _ = multiclass(50)
    found = confidence_histograms(plots.subject(z, z.argmax(axis=1), 1.5, bootstrap=0)).after
    assert found.mean_wrong is None
    assert found.wrong.sum() == 0
    assert (found.shares[1] == 0).all()
