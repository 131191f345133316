"""What a plot is of: the names of classes, and the samples behind a calibration."""

from __future__ import annotations

from dataclasses import replace

import pytest

import onnxcal
from onnxcal.errors import UsageError
from onnxcal.graph.head import Selected
from onnxcal.subjects import class_names, known_calibration, subject_of
from tests import builders
from tests.metrics.test_plot_data import multiclass
from tests.reference.refusals import refused


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (None, None),
        ((0, 1, 2, 3), None),
        ((3, 1, 4, 1), ("3", "1", "4", "1")),
        (("cat", "dog", "$x$", "<b>"), ("cat", "dog", "$x$", "<b>")),
    ],
)
def test_names_are_the_models_unless_they_count_from_0(classes, names) -> None:
    (head,) = onnxcal.inspect(builders.classifier([builders.softmax()], output="probs")).heads
    assert class_names(replace(head, classes=classes)) == names


def test_names_of_an_output_that_may_show_another_order_are_not_used() -> None:
    (head,) = onnxcal.inspect(builders.classifier([builders.softmax()], output="probs")).heads
    moved = replace(head, classes=("a", "b", "c", "d"), trail=(Selected("probs", 1, (3, 2, 1, 0)),))
    assert class_names(replace(moved, keys=("a", "b", "c", "d"))) is None


def test_samples_of_a_fit_are_those_that_were_fitted_on() -> None:
    calibration = onnxcal.fit(*multiclass(), bootstrap=7, seed=3)
    found = subject_of(calibration)
    assert found.sample is calibration.fitted_on.sample
    assert (found.temperature, found.interval) == (calibration.temperature, calibration.interval)
    assert (found.split, found.resamples, found.seed) == ("fit", 7, 3)
    assert found.metrics == calibration.metrics


def test_a_held_out_half_is_shown_at_the_temperature_of_the_other(demo_data, tmp_path) -> None:
    out = tmp_path / "out.onnx"
    calibration = onnxcal.calibrate(demo_data / "digits.onnx", demo_data / "digits.npz", output=out).calibration
    half, whole = subject_of(calibration), subject_of(calibration, fitted=True)
    assert (half.split, whole.split) == ("holdout", "fit")
    assert 2 * half.sample.logits.n_samples == pytest.approx(whole.sample.logits.n_samples, abs=1)
    assert whole.temperature == calibration.temperature != half.temperature


def test_one_temperature_is_looked_at() -> None:
    assert known_calibration(None, None) is None
    assert known_calibration(None, 2).temperature == 2.0
    with refused(UsageError, "both a temperature and a calibration", hint="one of them"):
        known_calibration(onnxcal.Calibration(1.5), 2.0)
