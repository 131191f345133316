"""`fit`: arrays in, a `Calibration` with its scores out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import onnxcal
import onnxcal.rows
from onnxcal.calibrators import fit
from onnxcal.errors import DataError, UsageError
from onnxcal.metrics import score
from tests.reference import published as sets
from tests.reference.refusals import refused
from tests.reference.scores import softmax_scores

NAMES = {"accuracy": "acc", "nll": "nll", "brier": "brier", "ece": "ece", "confidence": "meanconf"}


def assert_scores(found, wanted) -> None:
    got = {key: getattr(found, name) for name, key in NAMES.items()}
    assert got == pytest.approx({key: wanted[key] for key in got}, abs=1e-6, rel=0)


def problem(n=200, k=3, seed=0, scale=3.0):
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(n, k)) * 1.5
    return scale * honest, (honest + rng.gumbel(size=(n, k))).argmax(axis=1)


@pytest.mark.parametrize("name", sets.SETS)
def test_scores_of_published_sets_are_the_published_ones(published, expected, name):
    val, test = sets.load(published, name, "val"), sets.load(published, name, "test")
    wanted = expected["datasets"][name]
    fitted, apart = fit(*val), fit(*val, eval_data=test)
    assert_scores(fitted.metrics.before, wanted["val_before"])
    assert_scores(fitted.metrics.after, wanted["val_after"])
    assert_scores(apart.metrics.before, wanted["test_before"])
    assert_scores(apart.metrics.after, wanted["test_after"])
    assert (fitted.metrics.split, fitted.metrics.n_samples) == ("fit", wanted["Nval"])
    assert (apart.metrics.split, apart.metrics.n_samples) == ("eval", wanted["Ntest"])
    assert apart.temperature == fitted.temperature
    assert fitted.n_samples == apart.n_samples == wanted["Nval"]


def test_a_fit_says_what_it_did():
    z, y = problem()
    calibration = fit(z, y)
    assert (calibration.method, calibration.objective, calibration.converged) == ("temperature", "nll", True)
    assert (calibration.task, calibration.n_samples, calibration.output) == ("multiclass", 200, None)
    assert fit(z[:, 1] - z[:, 0], y == 1).task == "binary"
    assert fit(z, np.eye(3)[y], task="multilabel").task == "multilabel"


def test_fit_is_at_the_top_of_the_package():
    assert onnxcal.fit is fit


def test_lists_and_tensors_are_arrays_too():
    z, y = problem()
    t = fit(z, y).temperature
    assert fit(z.tolist(), y.tolist()).temperature == t
    assert fit(torch.tensor(z, requires_grad=True), torch.tensor(y)).temperature == t
    half = torch.tensor(z).bfloat16()
    assert fit(half.float(), y).temperature == fit(half.double(), y).temperature


def test_the_evaluation_set_is_cleaned_like_the_other():
    z, y = problem()
    eval_z, eval_y = problem(seed=1)
    metrics = fit(z, y, eval_data=(eval_z, np.where(np.arange(200) < 50, -1, eval_y)), ignore_index=-1).metrics
    assert metrics.n_samples == 150
    assert metrics.before.nll == pytest.approx(softmax_scores(eval_z[50:], eval_y[50:])["nll"], rel=1e-12)


def test_calibration_that_makes_things_worse_is_said_in_words():
    z, y = problem(scale=4.0)
    other_z, other_y = problem(seed=1, scale=0.5)
    calibration = fit(z, y, eval_data=(other_z, other_y))
    before, after = calibration.metrics.before, calibration.metrics.after
    assert after.nll > before.nll
    said = next(sentence for sentence in calibration.warnings if "NLL" in sentence)
    assert "worse on the evaluation set (200 samples)" in said
    assert f"{before.nll:.4g} → {after.nll:.4g}" in said


def test_calibration_that_helps_is_not_warned_about():
    assert fit(*problem(n=2000)).warnings == ()


def test_a_temperature_near_one_is_said_to_change_nothing():
    (said,) = [w for w in fit(*problem(scale=1.0)).warnings if "not distinguishable from 1" in w]
    assert said.startswith("T = ")


def test_the_minimum_cannot_be_worse_on_its_own_samples():
    for seed in range(20):
        metrics = fit(*problem(n=50, seed=seed)).metrics
        assert metrics.after.nll <= metrics.before.nll


def test_scores_are_those_of_the_fitted_temperature():
    z, y = problem()
    calibration = fit(z, y)
    sample = onnxcal.rows.labelled(z, y)
    assert calibration.metrics.before == score(sample)
    assert calibration.metrics.after == score(sample, calibration.temperature)


@pytest.mark.parametrize("option", ["method", "task"])
def test_unknown_words_are_refused(option):
    with refused(UsageError, option, "'sigmund'", hint="use one of"):
        fit(*problem(), **{option: "sigmund"})


def test_labels_that_do_not_fit_the_evaluation_logits_are_refused():
    z, y = problem()
    with refused(DataError, "(100,)", "(200, 3)"):
        fit(z, y, eval_data=(z, y[:100]))
