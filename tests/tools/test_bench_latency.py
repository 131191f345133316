"""`tools/bench_latency.py`: its forms are what they are called, and its intervals are those of the sign test."""

from __future__ import annotations

import bench_latency
import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binom


def test_forms_compute_what_they_are_called() -> None:
    found = {
        name: bench_latency.runner(form, 3)() for name, form in bench_latency.forms(bench_latency.network()).items()
    }
    (logits,) = found["logits"]  # type: ignore[misc]
    np.testing.assert_allclose(found[bench_latency.BASELINE][0], softmax(logits, axis=1), atol=1e-6)  # type: ignore[index]
    np.testing.assert_allclose(found["calibrated"][0], softmax(logits / bench_latency.T, axis=1), atol=1e-6)  # type: ignore[index]


@pytest.mark.parametrize("n", [25, 100, 401])
def test_interval_of_the_median_is_the_sign_tests(n: int) -> None:
    low, high = bench_latency.interval(list(range(n)))
    assert low + high == pytest.approx(n - 1, abs=1)
    assert binom.cdf(high, n, 0.5) - binom.cdf(low, n, 0.5) == pytest.approx(0.95, abs=0.03)


def test_every_form_is_measured() -> None:
    names = [one.name for one in bench_latency.measure(bench_latency.network(8, 8, 3), 1, 3)]
    assert names[:3] == ["logits", bench_latency.BASELINE, "calibrated"]
