"""Logits less their label's logit: their values, where they are kept, and what is not copied."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcal.calibrators.margins import FEW_CLASSES, MANY_ELEMENTS, PREPARED_ELEMENTS, Margins, label_logit
from onnxcal.rows import labelled
from tests.reference.problems import multiclass, sigmoids


def by_rows(margins, start, stop, dtype):
    piece = margins.piece(start, stop, dtype)
    return piece.T if margins.class_axis == 0 else piece


@pytest.mark.parametrize("size", [(50, 3), (50, FEW_CLASSES - 1), (50, FEW_CLASSES), (40_000, 10), (4000, 100)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_margins_are_differences_to_the_label(size, dtype):
    z, y = multiclass(*size, dtype=np.float64)
    margins = Margins.of(labelled(z + 1e6, y))
    exact = (z + 1e6) - (z + 1e6)[np.arange(len(y)), y][:, None]
    for start, stop in [*margins.bounds()[:2], margins.bounds()[-1]]:
        found = by_rows(margins, start, stop, dtype)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, exact[start:stop].astype(dtype))
    np.testing.assert_array_equal(margins.rows(3, np.array([0, 5])), exact[[3, 8]])


@pytest.mark.parametrize("size", [(50, 3), (4000, 10), (90_000, 10), (9000, 200), (3, 500_000)])
def test_pieces_cover_all_rows_once(size):
    margins = Margins.of(labelled(np.zeros(size, np.float32) + np.arange(size[1], dtype=np.float32), [0] * size[0]))
    bounds = margins.bounds()
    assert [start for start, _ in bounds] == [0, *(stop for _, stop in bounds[:-1])]
    assert bounds[-1][1] == size[0]
    assert (margins.prepared is not None) == (size[0] * size[1] <= PREPARED_ELEMENTS)
    assert len(bounds) > 1 or size[0] * size[1] < MANY_ELEMENTS or size[0] < 10


@pytest.mark.parametrize("size", [(4000, 10), (400, 100), (60_000, 10)])
@pytest.mark.parametrize(("stride", "first"), [(6, 0), (6, 1), (7, 3)])
def test_some_rows_are_those_of_the_whole(size, stride, first):
    z, y = multiclass(*size)
    weight = np.arange(len(y)) + 1.0
    whole = Margins.of(labelled(z, y, weight=weight))
    some, chosen = whole.every(stride, first), labelled(z[first::stride], y[first::stride])
    assert len(some) == chosen.logits.n_samples
    np.testing.assert_array_equal(by_rows(some, 0, 200, np.float32), by_rows(Margins.of(chosen), 0, 200, np.float32))
    np.testing.assert_array_equal(some.weights(0, 9), weight[first::stride][:9])
    assert np.shares_memory(some.values, z)


def test_no_copy_is_made_of_a_large_array():
    z, y = multiclass(40_000)
    margins = Margins.of(labelled(z, y))
    assert margins.prepared is None
    assert np.shares_memory(margins.values, z)


@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, lambda z: np.repeat(z, 2, axis=1)[:, ::2]])
def test_the_label_is_found_in_any_layout(layout):
    z, y = multiclass(300, 7)
    np.testing.assert_array_equal(label_logit(layout(z), y), z[np.arange(300), y])


def test_the_logit_of_a_soft_label_is_its_expectation():
    z, _ = multiclass(300, 4, dtype=np.float64)
    w = np.random.default_rng(0).dirichlet(np.ones(4), 300)
    np.testing.assert_allclose(label_logit(z, w), (w * z).sum(axis=1), rtol=1e-12)
    w[:, 2], z[:, 2] = 0, -np.inf
    np.testing.assert_allclose(label_logit(z, w), (w * np.where(w > 0, z, 0)).sum(axis=1), rtol=1e-12)


def test_smoothing_spreads_over_classes_that_are_not_masked():
    z, y = np.array([[1.0, 2.0, -np.inf], [4.0, 6.0, 8.0]]), np.array([0, 1])
    np.testing.assert_allclose(label_logit(z, y, 0.3), [0.7 * 1 + 0.3 * 1.5, 0.7 * 6 + 0.3 * 6])


def test_sigmoids_stay_as_they_are():
    s, y = sigmoids((100, 3))
    margins = Margins.of(labelled(s, y, task="multilabel"), smoothing=0.2)
    assert margins.values is s or np.shares_memory(margins.values, s)
    np.testing.assert_allclose(margins.labels, 0.8 * y + 0.1)
