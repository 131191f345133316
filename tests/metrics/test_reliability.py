"""Reliability bins and ECE against published figures and an explicit loop over the bins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxcal.errors import DataError
from onnxcal.metrics import reliability_bins
from tests.reference.refusals import refused
from tests.reference.scores import expected_calibration_error


def bins(confidence, correct, n_bins=15):
    return reliability_bins(np.asarray(confidence, np.float64), np.asarray(correct, bool), n_bins)


@pytest.mark.parametrize(
    "name",
    [
        "probs_resnet110_c10_logits",
        "probs_densenet40_c10_logits",
        "probs_resnet110_c100_logits",
        "probs_densenet40_c100_logits",
        "probs_resnet50_birds_logits",
    ],
)
def test_published_errors_of_fifteen_bins_are_found(published, expected, name):
    with np.load(published / "top1_published_ece.npz") as top1:
        found = bins(top1[f"{name}_conf"], top1[f"{name}_correct"])
    # Published from probabilities in float32, whose rounding is 6e-8.
    assert found.ece == pytest.approx(expected["top1_published_ece_M15"][name], abs=6e-8)


@pytest.mark.parametrize(("name", "n_bins"), [("gluon_senet154", 10), ("snacks", 10), ("gluon_senet154", 20)])
def test_published_errors_of_ten_and_twenty_bins_are_found(published, expected, name, n_bins):
    with np.load(published / "top1_published_ece.npz") as top1:
        found = bins(top1[f"{name}_conf"], top1[f"{name}_correct"], n_bins)
    percent = expected[f"top1_published_ece_percent_M{n_bins}"][name]
    assert found.ece == pytest.approx(percent / 100, abs=0.5e-4)  # published to two digits of a percentage


def test_every_published_error_is_tested(expected):
    assert len(expected["top1_published_ece_M15"]) == 5
    assert sorted(expected["top1_published_ece_percent_M10"]) == ["gluon_senet154", "snacks"]
    assert list(expected["top1_published_ece_percent_M20"]) == ["gluon_senet154"]


confidences = st.one_of(st.floats(0, 1), st.integers(0, 60).map(lambda i: i / 60))


@given(st.lists(st.tuples(confidences, st.booleans()), min_size=1, max_size=60), st.sampled_from([1, 2, 15, 16]))
def test_the_error_is_that_of_a_loop_over_bins(predictions, n_bins):
    confidence, correct = zip(*predictions, strict=True)
    assert bins(confidence, correct, n_bins).ece == pytest.approx(
        expected_calibration_error(confidence, correct, n_bins), abs=1e-12
    )


@pytest.mark.parametrize("n_bins", [2, 4, 8, 10, 15, 20])
def test_an_edge_belongs_to_the_bin_below_it(n_bins):
    for m in range(1, n_bins + 1):
        found = bins([m / n_bins], [True], n_bins)
        assert found.counts.tolist() == [int(i == m - 1) for i in range(n_bins)]


@pytest.mark.parametrize("n_bins", [2, 4, 8, 10, 15, 20])
def test_what_is_above_an_edge_belongs_to_the_bin_above_it(n_bins):
    for m in range(n_bins):
        found = bins([np.nextafter(m / n_bins, 1)], [True], n_bins)
        assert found.counts.tolist() == [int(i == m) for i in range(n_bins)]


def test_zero_belongs_to_the_first_bin():
    assert bins([0.0], [False], 4).counts.tolist() == [1, 0, 0, 0]


def test_a_confidence_that_rounding_made_more_than_one_belongs_to_the_last_bin():
    assert bins([np.nextafter(1, 2)], [True], 4).counts.tolist() == [0, 0, 0, 1]


def test_each_bin_has_its_count_accuracy_and_mean_confidence():
    found = bins([0.1, 0.2, 0.6, 0.7, 0.9], [True, False, True, True, False], 4)
    np.testing.assert_allclose(found.edges, [0, 0.25, 0.5, 0.75, 1])
    assert found.counts.tolist() == [2, 0, 2, 1]
    np.testing.assert_allclose(found.accuracy, [0.5, 0, 1, 0])
    np.testing.assert_allclose(found.confidence, [0.15, 0, 0.65, 0.9])
    assert found.ece == pytest.approx((2 * 0.35 + 2 * 0.35 + 0.9) / 5)


def test_confidence_that_is_right_as_often_as_it_says_has_no_error():
    assert bins([0.75] * 4, [True, True, True, False]).ece == 0.0


@pytest.mark.parametrize("n_bins", [1, 10, 15, 20])
def test_all_samples_are_counted(n_bins):
    rng = np.random.default_rng(0)
    found = bins(rng.random(1000), rng.random(1000) < 0.5, n_bins)
    assert found.counts.sum() == 1000
    assert len(found.counts) == len(found.accuracy) == len(found.confidence) == len(found.edges) - 1 == n_bins


def test_single_precision_is_binned_as_the_number_that_it_is():
    # 0.6 in float32 is a little more than 9/15, 0.8 a little more than 12/15.
    found = reliability_bins(np.float32([0.6, 0.8]), np.array([True, True]))
    assert np.flatnonzero(found.counts).tolist() == [9, 12]


def test_no_samples_are_refused():
    with refused(DataError, "no samples"):
        bins([], [])


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan, np.inf, -np.inf])
def test_what_is_no_probability_is_refused(value):
    with refused(DataError, "[0, 1]", hint="not logits"):
        bins([0.5, value], [True, False])
