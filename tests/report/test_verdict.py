"""The verdict says what the samples show, and no more."""

from __future__ import annotations

import numpy as np
import pytest

import onnxcal
from onnxcal.report.verdict import outcome, sentence


def drawn(n: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels of which `temperature` is the true one."""
    rng = np.random.default_rng(seed)
    z = 3 * rng.normal(size=(n, 5))
    return z, (z / temperature + rng.gumbel(size=z.shape)).argmax(axis=1)


@pytest.mark.parametrize(
    ("n", "temperature", "bootstrap", "expected", "words"),
    [
        (4000, 3.0, 200, "better", "are measurably better with T = "),
        (4000, 3.0, 0, "better", "are better with T = "),
        (30, 1.0, 200, "unneeded", "Nothing shows that the probabilities need calibrating (T = "),
    ],
)
def test_outcome_is_what_the_samples_show(
    n: int, temperature: float, bootstrap: int, expected: str, words: str
) -> None:
    calibration = onnxcal.fit(*drawn(n, temperature), bootstrap=bootstrap)
    assert calibration.metrics is not None
    assert outcome(calibration, calibration.metrics) == expected
    said = sentence(calibration, calibration.metrics)
    assert words in said
    for scores in (calibration.metrics.before, calibration.metrics.after):
        assert f"{scores.nll:.3f}" in said
        assert f"{scores.ece:.3f}" in said


def test_a_temperature_that_is_wrong_elsewhere_is_said_to_be_worse() -> None:
    calibration = onnxcal.fit(*drawn(2000, 4.0))
    there = onnxcal.plots.subject(*drawn(2000, 1.0, seed=1), calibration.temperature, bootstrap=200)
    assert outcome(calibration, there.metrics) == "worse"
    assert "measurably worse with T = " in sentence(calibration, there.metrics)


def test_a_handful_of_samples_decides_nothing() -> None:
    calibration = onnxcal.fit(*drawn(2000, 2.0))
    there = onnxcal.plots.subject(*drawn(12, 2.0, seed=3), calibration.temperature, bootstrap=200)
    assert outcome(calibration, there.metrics) == "undecided"
    assert "from so few samples" in sentence(calibration, there.metrics)
    assert "(12 samples)" in sentence(calibration, there.metrics)
