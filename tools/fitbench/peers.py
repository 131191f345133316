"""Who fits temperatures: onnxcal, other people's packages, and the recipes that people copy, in words of our own.

A contestant takes a `Problem` and gives back a call that fits it once and returns T. What it wants as input (tensors, a
data loader, probabilities) is made before that call and is not timed; what it makes of it is.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from fitbench.problems import Problem

Fit = Callable[[], float]
TORCH_THREADS = 2


@dataclass(frozen=True)
class Peer:
    """One way to fit a temperature."""

    title: str
    """As the tables call it."""
    prepare: Callable[[Problem], Fit]
    """Raises ImportError where something is not installed, or does not import as installed."""
    cheap: bool
    """Part of the shortened run."""


PEERS: dict[str, Peer] = {}
"""By the name that `--peers` takes."""


def _peer(name: str, title: str, *, cheap: bool = False) -> Callable[[Callable[[Problem], Fit]], None]:
    def register(prepare: Callable[[Problem], Fit]) -> None:
        assert name not in PEERS
        PEERS[name] = Peer(title, prepare, cheap)

    return register


@_peer("onnxcal", "onnxcal", cheap=True)
def _(problem: Problem) -> Fit:
    import onnxcal

    return lambda: onnxcal.fit(problem.z, problem.y).temperature


# Recipes


def _copied_recipe(problem: Problem, *, steps: int, rate: float) -> Fit:
    """Cross-entropy of z / T, T from 1.5, one call of LBFGS, no line search: as gpleiss/temperature_scaling does."""
    torch, z, y = _tensors(problem)

    def fit() -> float:
        t = torch.full((1,), 1.5, requires_grad=True)
        optimizer = torch.optim.LBFGS([t], lr=rate, max_iter=steps)

        def closure() -> Any:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(z / t, y)
            loss.backward()
            return loss

        optimizer.step(closure)
        return float(t.detach())

    return fit


@_peer("gpleiss-50", "gpleiss recipe, 50 LBFGS steps")
def _(problem: Problem) -> Fit:
    return _copied_recipe(problem, steps=50, rate=0.01)


@_peer("gpleiss-200", "gpleiss recipe, 200 LBFGS steps")
def _(problem: Problem) -> Fit:
    return _copied_recipe(problem, steps=200, rate=0.01)


@_peer("blog", "blog recipe, LBFGS, rate .05, 60 steps")
def _(problem: Problem) -> Fit:
    return _copied_recipe(problem, steps=60, rate=0.05)


@_peer("scipy", "scipy minimize_scalar over a numpy NLL", cheap=True)
def _(problem: Problem) -> Fit:
    from scipy.optimize import minimize_scalar

    z, y = problem.z, problem.y
    rows = np.arange(len(z))

    def nll(log_t: float) -> float:
        scaled = z * z.dtype.type(math.exp(-log_t))
        scaled -= scaled.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(scaled).sum(axis=1))
        return float((log_sum - scaled[rows, y]).mean(dtype=np.float64))

    return lambda: math.exp(minimize_scalar(nll, bounds=(-5, 5), method="bounded").x)


@_peer("newton", "a plain float64 Newton", cheap=True)
def _(problem: Problem) -> Fit:
    def fit() -> float:
        z = problem.z.astype(np.float64)
        z -= z.max(axis=1, keepdims=True)
        label = z[np.arange(len(z)), problem.y]
        beta = 0.5
        for _ in range(100):
            p = np.exp(beta * z)
            p /= p.sum(axis=1, keepdims=True)
            mean = (p * z).sum(axis=1)
            slope = (mean - label).sum()
            curvature = (p * z**2).sum() - (mean**2).sum()
            step = -slope / curvature
            beta = min(max(beta + step, beta / 3), 3 * beta)
            if abs(step) < 1e-9 * beta:
                break
        return 1 / float(beta)

    return fit


# Packages


@_peer("torch-uncertainty", "torch-uncertainty TemperatureScaler")
def _(problem: Problem) -> Fit:
    torch, z, y = _tensors(problem)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from torch_uncertainty.post_processing import TemperatureScaler
        except RuntimeError:  # a torchvision built for another torch lacks its operators; none is used here
            for operator in ("nms", "qnms"):
                torch.library.define(f"torchvision::{operator}", "(Tensor a, Tensor b, float c) -> Tensor")
            from torch_uncertainty.post_processing import TemperatureScaler
    logging.getLogger().setLevel(logging.ERROR)  # it warns of the missing model at each fit
    batches = [(z, y)]

    def fit() -> float:
        scaler = TemperatureScaler()
        scaler.fit(batches, progress=False)
        return float(scaler.temperature[0].detach())

    return fit


@_peer("probmetrics-lbfgs", "probmetrics, LBFGS")
def _(problem: Problem) -> Fit:
    return _probmetrics(problem, lambda made: made.TemperatureScalingCalibrator(opt="lbfgs"), lambda c: 1 / c.invtemp_)


@_peer("probmetrics-newton", "probmetrics, Newton (torchcal)")
def _(problem: Problem) -> Fit:
    return _probmetrics(problem, lambda made: made.TorchcalTemperatureScalingCalibrator(), lambda c: c.temp_)


@_peer("probmetrics-bisection", "probmetrics, bisection (its default)")
def _(problem: Problem) -> Fit:
    return _probmetrics(problem, lambda made: made.TemperatureScalingCalibrator(), lambda c: 1 / c.invtemp_)


def _probmetrics(problem: Problem, make: Callable[[Any], Any], temperature: Callable[[Any], float]) -> Fit:
    _, z, y = _tensors(problem)
    from probmetrics.calibrators import temperature_scaling
    from probmetrics.distributions import CategoricalLogits

    return lambda: float(temperature(make(temperature_scaling).fit_torch(CategoricalLogits(z), y)))


@_peer("netcal-float64", "netcal, float64 probabilities")
def _(problem: Problem) -> Fit:
    return _netcal(problem, np.dtype(np.float64))


@_peer("netcal-float32", "netcal, float32 probabilities")
def _(problem: Problem) -> Fit:
    return _netcal(problem, np.dtype(np.float32))


def _netcal(problem: Problem, dtype: np.dtype[Any]) -> Fit:
    """It takes probabilities only; they are made in float64, so that no more is lost than its input type must lose."""
    from netcal.scaling import TemperatureScaling

    p = np.exp(problem.z.astype(np.float64) - problem.z.max(axis=1, keepdims=True))
    p = (p / p.sum(axis=1, keepdims=True)).astype(dtype)

    def fit() -> float:
        scaling = TemperatureScaling()
        scaling.fit(p, problem.y)
        return 1 / float(np.asarray(scaling.temperature).item())  # it multiplies by what it calls the temperature

    return fit


@_peer("sklearn", "scikit-learn _TemperatureScaling", cheap=True)
def _(problem: Problem) -> Fit:
    from sklearn.calibration import _TemperatureScaling

    return lambda: 1 / float(_TemperatureScaling().fit(problem.z, problem.y).beta_)


def _tensors(problem: Problem) -> tuple[ModuleType, Any, Any]:
    """torch, and the arrays as its tensors, not copied."""
    import torch

    torch.set_num_threads(TORCH_THREADS)
    return torch, torch.from_numpy(problem.z), torch.from_numpy(problem.y)
