"""The two halves that a temperature is fitted and judged on."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxcal.calibrators.holdout import halves
from onnxcal.logits import Labels


def indices(*values: int) -> Labels:
    return Labels(np.array(values, np.int64))


def assert_halves(fitted_on, held_out, n) -> None:
    """Disjoint, complete, ascending, and as large as each other but for one."""
    assert sorted([*fitted_on, *held_out]) == list(range(n))
    assert list(fitted_on) == sorted(fitted_on)
    assert list(held_out) == sorted(held_out)
    assert abs(len(fitted_on) - len(held_out)) <= 1


def assert_stratified(classes, fitted_on, held_out) -> None:
    first, second = Counter(classes[fitted_on].tolist()), Counter(classes[held_out].tolist())
    assert all(abs(first[c] - second[c]) <= 1 for c in {*first, *second})


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.integers(0, 2**32 - 1))
def test_halves_are_disjoint_complete_and_stratified(classes, seed):
    classes = np.array(classes)
    fitted_on, held_out = halves(indices(*classes), "multiclass", None, seed)
    assert_halves(fitted_on, held_out, len(classes))
    assert_stratified(classes, fitted_on, held_out)


def test_soft_labels_are_stratified_by_their_largest():
    w = np.random.default_rng(0).dirichlet([0.5, 0.5, 0.5], size=101)
    fitted_on, held_out = halves(Labels(w), "multiclass", None, 0)
    assert_halves(fitted_on, held_out, 101)
    assert_stratified(w.argmax(axis=1), fitted_on, held_out)


def test_binary_labels_are_stratified():
    flags = (np.random.default_rng(0).random(101) < 0.1).astype(np.float64)
    fitted_on, held_out = halves(Labels(flags), "binary", None, 0)
    assert_halves(fitted_on, held_out, 101)
    assert_stratified(flags, fitted_on, held_out)


def test_multilabel_rows_are_halved_at_random():
    flags = np.random.default_rng(0).integers(0, 2, size=(101, 4)).astype(np.float64)
    assert_halves(*halves(Labels(flags), "multilabel", None, 0), 101)


def test_the_same_seed_gives_the_same_halves_and_another_seed_others():
    labels = indices(*np.arange(100) % 3)
    once, again, other = (halves(labels, "multiclass", None, seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(once[0], again[0])
    np.testing.assert_array_equal(once[1], again[1])
    assert set(once[0]) != set(other[0])


def test_sorted_data_is_shuffled():
    fitted_on, _ = halves(indices(*[0] * 1000), "multiclass", None, 0)
    assert len(set(np.diff(fitted_on))) > 2  # not every other row
    assert 200 < (fitted_on < 500).sum() < 300


@pytest.mark.parametrize("images", [2, 7, 20])
def test_the_pixels_of_one_image_stay_together(images):
    rng = np.random.default_rng(0)
    sample = np.repeat(np.arange(images), rng.integers(3, 30, images))
    labels = indices(*rng.integers(0, 3, len(sample)))
    fitted_on, held_out = halves(labels, "multiclass", sample, 0)
    assert sorted([*fitted_on, *held_out]) == list(range(len(sample)))
    first, second = set(sample[fitted_on]), set(sample[held_out])
    assert not first & second
    assert abs(len(first) - len(second)) <= 1


def test_images_may_be_missing_where_all_their_pixels_are_ignored():
    sample = np.repeat([0, 3, 17, 18], 10)
    fitted_on, held_out = halves(indices(*[0] * 40), "multiclass", sample, 0)
    assert len(fitted_on) == len(held_out) == 20
    assert not set(sample[fitted_on]) & set(sample[held_out])


def test_images_are_halved_by_the_seed():
    sample, labels = np.repeat(np.arange(20), 3), indices(*[0] * 60)
    once, again, other = (halves(labels, "multiclass", sample, seed)[0] for seed in (7, 7, 8))
    np.testing.assert_array_equal(once, again)
    assert list(once) != list(other)


def test_samples_of_one_row_each_are_stratified_though_some_were_ignored():
    classes = np.array([0] * 90 + [1] * 10)
    sample = np.flatnonzero(np.arange(150) % 3)  # every third sample was dropped by --ignore-index
    for seed in range(10):
        fitted_on, held_out = halves(indices(*classes), "multiclass", sample, seed)
        assert_halves(fitted_on, held_out, 100)
        assert_stratified(classes, fitted_on, held_out)


def test_two_rows_are_one_for_each_half():
    fitted_on, held_out = halves(indices(0, 1), "multiclass", None, 0)
    assert len(fitted_on) == len(held_out) == 1
