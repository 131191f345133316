"""The compiled pass: the sums of central moments, for every dtype, layout and kind of label; and when it is used."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from onnxcal.calibrators import cumulants, fit_temperature
from onnxcal.calibrators.cumulants import in_float32, in_float64
from onnxcal.calibrators.margins import COMPILED_ELEMENTS, Margins
from onnxcal.rows import labelled
from tests.calibrators.test_cumulants import cumulant_sums
from tests.reference.problems import multiclass

pytest.importorskip("numba")
BETA = float(np.float32(0.4))


def both(z: Any, y: Any, weight: Any = None, smoothing: float = 0.0) -> tuple[Any, Any]:
    """What the compiled pass gives, and float64 NumPy."""
    made = replace(Margins.of(labelled(z, y, weight=weight), smoothing), many=True)
    assert cumulants.compiled_loop() is not None
    return in_float32(made, BETA, 3)[:4], in_float64(made, BETA, 3)[:4]


def assert_alike(found: Any, wanted: Any) -> None:
    scale = np.abs(wanted).max()
    assert found == pytest.approx(wanted, rel=1e-5, abs=1e-6 * scale)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("size", [(1, 2), (700, 3), (256, 31), (257, 32), (200, 100), (100, 1000), (6, 9000)])
def test_sums_are_those_of_central_moments(size, dtype):
    z, y = multiclass(*size)
    z = z.astype(dtype)
    found, _ = both(z, y)
    assert_alike(found, cumulant_sums(z, y, BETA))


@pytest.mark.parametrize("size", [(600, 10), (300, 40)])
class TestEveryKindOfRow:
    """Against the float64 pass, which has tests of its own."""

    def test_weights(self, size):
        z, y = multiclass(*size)
        assert_alike(*both(z, y, np.random.default_rng(0).uniform(0, 3, len(y))))

    def test_soft_labels(self, size):
        z, _ = multiclass(*size)
        assert_alike(*both(z, np.random.default_rng(0).dirichlet(np.ones(size[1]), size[0])))

    def test_smoothed_labels(self, size):
        assert_alike(*both(*multiclass(*size), smoothing=0.1))

    def test_masked_classes(self, size):
        z, y = multiclass(*size)
        masked = np.random.default_rng(0).random(z.shape) < 0.3
        masked[np.arange(len(y)), y] = False
        assert_alike(*both(np.where(masked, np.float32("-inf"), z), y))

    def test_rows_beyond_float32_exponents(self, size):
        z, y = multiclass(*size)
        z[::3] *= 1000
        assert_alike(*both(z, y))

    def test_every_layout(self, size):
        z, y = multiclass(*size)
        wide = np.repeat(z, 2, axis=1)
        assert both(np.asfortranarray(z), y) == both(z, y) == both(wide[:, ::2], y)
        flipped = np.ascontiguousarray(z[::-1])[::-1]
        assert both(flipped, y) == both(z, y)


def test_large_sets_are_summed_by_it_and_small_ones_are_not(monkeypatch):
    taken = []

    def loop(margins: Margins, *where: Any) -> Any:
        taken.append(margins.values.size)
        return known(margins, *where)

    known = cumulants.compiled_loop()
    assert known is not None
    monkeypatch.setattr(cumulants, "compiled_loop", lambda: loop)
    fit_temperature(labelled(*multiclass(6000, 10)))
    assert not taken
    fit_temperature(labelled(*multiclass(COMPILED_ELEMENTS // 64, 64)))
    assert max(taken) == COMPILED_ELEMENTS


def test_without_numba_numpy_does_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "onnxcal.calibrators.compiled", raising=False)
    cumulants.compiled_loop.cache_clear()
    try:
        assert cumulants.compiled_loop() is None
        z, y = multiclass(COMPILED_ELEMENTS // 64, 64)
        found = fit_temperature(labelled(z, y)).value
    finally:
        cumulants.compiled_loop.cache_clear()
        monkeypatch.undo()
    assert fit_temperature(labelled(z, y)).value == pytest.approx(found, rel=1e-7, abs=0)
