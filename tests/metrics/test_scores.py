"""Scores against published figures, plain loops, torch and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import expit, softmax
from sklearn import metrics as sk
from torch.nn import functional

from onnxcal.metrics import Scores, score
from onnxcal.rows import labelled
from tests.reference import published as sets
from tests.reference.scores import sigmoid_scores, softmax_scores

RNG = np.random.default_rng(0)


def scores(z, y, temperature=1.0, **options) -> Scores:
    return score(labelled(z, y, **options), temperature)


def figures(found: Scores) -> dict[str, float]:
    return {name: getattr(found, name) for name in ("accuracy", "confidence", "nll", "brier", "ece")}


def problem(n=300, k=5):
    z = 4 * RNG.normal(size=(n, k))
    return z, (z / 3 + RNG.gumbel(size=(n, k))).argmax(axis=1)


@pytest.mark.parametrize("when", ["val_before", "val_after", "test_before", "test_after"])
@pytest.mark.parametrize("name", sets.SETS)
def test_scores_of_published_sets_are_the_published_ones(published, expected, name, when):
    z, y = sets.load(published, name, when.split("_")[0])
    wanted = expected["datasets"][name]
    found = scores(z, y, wanted["T"] if when.endswith("after") else 1.0)
    assert found.accuracy == pytest.approx(wanted[when]["acc"], abs=1e-12)
    assert found.confidence == pytest.approx(wanted[when]["meanconf"], abs=1e-9)
    assert found.nll == pytest.approx(wanted[when]["nll"], abs=1e-9)
    assert found.brier == pytest.approx(wanted[when]["brier"], abs=1e-9)
    assert found.ece == pytest.approx(wanted[when]["ece"], abs=1e-9)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_multiclass_scores_are_those_of_a_plain_loop(temperature):
    z, y = problem()
    assert figures(scores(z, y, temperature)) == pytest.approx(softmax_scores(z, y, temperature), rel=1e-12)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_binary_scores_are_those_of_a_plain_loop(temperature):
    s, y = 4 * RNG.normal(size=300), RNG.integers(0, 2, 300)
    assert figures(scores(s, y, temperature)) == pytest.approx(sigmoid_scores(s, y, temperature), rel=1e-12)


def test_each_entry_of_a_multilabel_head_is_a_prediction_of_its_own():
    s, y = 4 * RNG.normal(size=(100, 5)), RNG.integers(0, 2, (100, 5))
    found = scores(s, y, 1.5, task="multilabel")
    assert figures(found) == pytest.approx(sigmoid_scores(s.ravel(), y.ravel(), 1.5), rel=1e-12)
    assert found.n_samples == 100
    assert found.bins.counts.sum() == 500


def test_multiclass_scores_are_those_of_scikit_learn_and_torch():
    z, y = problem()
    found, p = scores(z, y), softmax(z, axis=1)
    assert found.accuracy == pytest.approx(sk.accuracy_score(y, p.argmax(axis=1)), rel=1e-12)
    assert found.nll == pytest.approx(sk.log_loss(y, p), rel=1e-12)
    assert found.nll == pytest.approx(float(functional.cross_entropy(torch.tensor(z), torch.tensor(y))), rel=1e-12)
    assert found.brier == pytest.approx(sk.brier_score_loss(y, p, scale_by_half=False), rel=1e-12)


def test_binary_scores_are_those_of_scikit_learn_and_torch():
    s, y = 4 * RNG.normal(size=300), RNG.integers(0, 2, 300)
    found, p = scores(s, y), expit(s)
    assert found.accuracy == pytest.approx(sk.accuracy_score(y, p > 0.5), rel=1e-12)
    assert found.nll == pytest.approx(sk.log_loss(y, p), rel=1e-12)
    bce = functional.binary_cross_entropy_with_logits(torch.tensor(s), torch.tensor(y, dtype=torch.float64))
    assert found.nll == pytest.approx(float(bce), rel=1e-12)
    assert found.brier == pytest.approx(sk.brier_score_loss(y, p), rel=1e-12)


def test_two_columns_and_a_sigmoid_are_the_same_task():
    s, y = 4 * RNG.normal(size=300), RNG.integers(0, 2, 300)
    one, two = scores(s, y, 1.3), scores(np.column_stack([np.zeros(300), s]), y, 1.3)
    for name in ("accuracy", "confidence", "nll", "ece"):
        assert getattr(one, name) == pytest.approx(getattr(two, name), rel=1e-12)
    assert 2 * one.brier == pytest.approx(two.brier, rel=1e-12)  # two columns are two squares


def test_soft_labels_are_scored_by_cross_entropy():
    z, w = 4 * RNG.normal(size=(200, 4)), RNG.dirichlet(np.ones(4), size=200)
    found = scores(z, w)
    assert found.nll == pytest.approx(float(functional.cross_entropy(torch.tensor(z), torch.tensor(w))), rel=1e-12)
    assert found.brier == pytest.approx(float(((softmax(z, axis=1) - w) ** 2).sum(axis=1).mean()), rel=1e-12)
    assert found.accuracy == pytest.approx(float((z.argmax(1) == w.argmax(1)).mean()), rel=1e-12)


def test_soft_binary_labels_are_scored_by_cross_entropy():
    s, w = 4 * RNG.normal(size=200), RNG.random(200)
    bce = functional.binary_cross_entropy_with_logits(torch.tensor(s), torch.tensor(w))
    assert scores(s, w).nll == pytest.approx(float(bce), rel=1e-12)
    assert scores(s, w).accuracy == pytest.approx(float(((s > 0) == (w > 0.5)).mean()), rel=1e-12)


def test_one_hot_labels_score_as_class_indices():
    z, y = problem()
    assert scores(z, np.eye(5)[y]) == scores(z, y)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_scores_are_computed_in_double(dtype):
    z, y = problem()
    z = z.astype(dtype)
    assert scores(z, y, 1.7) == scores(z.astype(np.float64), y, 1.7)


def test_each_pixel_counts_as_a_sample():
    z, y = 4 * RNG.normal(size=(3, 5, 6, 7)), RNG.integers(0, 5, size=(3, 6, 7))
    found = scores(z, y)
    assert found.n_samples == 3 * 6 * 7
    assert found.nll == pytest.approx(float(functional.cross_entropy(torch.tensor(z), torch.tensor(y))), rel=1e-12)


def test_more_samples_than_fit_a_chunk_are_all_scored():
    z, y = problem(n=50_000, k=5)
    bulk = torch.tensor(z)
    found = scores(z, y)
    assert found.nll == pytest.approx(float(functional.cross_entropy(bulk, torch.tensor(y))), rel=1e-11)
    assert found.confidence == pytest.approx(float(bulk.softmax(1).amax(1).mean()), rel=1e-11)
    assert found.bins.counts.sum() == found.n_samples == 50_000


def test_a_row_wider_than_a_chunk_is_scored():
    z = RNG.normal(size=(2, 100_000))
    loss = functional.cross_entropy(torch.tensor(z), torch.tensor([3, 99_999]))
    assert scores(z, [3, 99_999]).nll == pytest.approx(float(loss), rel=1e-12)


def test_the_likelihood_is_not_clipped():
    assert scores([[5000.0, 0.0]], [1]).nll == 5000.0
    assert scores([-5000.0], [1]).nll == 5000.0
    assert scores([[5000.0, 0.0]], [0]).nll == 0.0


def test_extreme_logits_do_not_overflow():
    found = scores([[3e38, -3e38], [-3e38, 3e38]], [0, 1], 1e-3)
    assert figures(found) == {"accuracy": 1.0, "confidence": 1.0, "nll": 0.0, "brier": 0.0, "ece": 0.0}


def test_small_probabilities_keep_their_digits():
    assert scores([[40.0, 0.0]], [0]).nll == pytest.approx(math.log1p(math.exp(-40)), rel=1e-6)
    assert scores([40.0], [1]).nll == pytest.approx(math.log1p(math.exp(-40)), rel=1e-12)


def test_a_tie_goes_to_the_lower_class():
    assert scores([[1.0, 1.0], [1.0, 1.0]], [0, 1]).accuracy == 0.5
    assert scores([[0.0, 2.0, 2.0]], [1]).accuracy == 1.0
    assert scores([0.0, 0.0, 0.0], [0, 0, 1]).accuracy == pytest.approx(2 / 3)


def test_masked_classes_take_no_part():
    z, y = problem()
    padded = np.insert(z, 2, -np.inf, axis=1)
    assert figures(scores(padded, y + (y >= 2))) == pytest.approx(figures(scores(z, y)), rel=1e-12)


def test_a_soft_label_may_have_no_weight_on_a_masked_class():
    found = scores([[0.0, 0.0, -np.inf]], [[0.3, 0.7, 0.0]])
    assert found.nll == pytest.approx(math.log(2))
    assert found.brier == pytest.approx(0.08)


GRID = st.integers(-3200, 3200).map(lambda i: i / 16)


@given(
    arrays.arrays(np.float32, (6, 4), elements=GRID),
    st.lists(st.integers(0, 3), min_size=6, max_size=6),
    st.floats(-2, 2).map(lambda e: 10**e),
)
def test_accuracy_is_unchanged_by_temperature(z, y, t):
    assert scores(z, y, t).accuracy == scores(z, y).accuracy


@given(arrays.arrays(np.float64, (6, 4), elements=GRID), st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_any_scores_are_those_of_a_plain_loop(z, y):
    found = figures(scores(z, y))
    assert found == pytest.approx(softmax_scores(z, y), rel=1e-12, abs=1e-12)
    assert 0 <= found["brier"] <= 2
    assert 0 <= found["ece"] <= 1
