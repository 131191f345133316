"""Temperature scaling, and the exact maximum-likelihood temperature."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxcal.calibrators.newton import Derivatives, Root, find_root
from onnxcal.calibrators.steps import Divide, Step
from onnxcal.errors import NoFiniteOptimum, UsageError, UselessLogits, WorseThanChance
from onnxcal.logits import LabelArray, Labels, Logits, all_finite, chunks, value_chunks

SAFE_EXPONENT = 300
"""Logits between 2^-300 and 2^300 are squared and summed without overflow or underflow."""
SUBSAMPLE_ROWS = 4096
"""Above twice as many rows, a start is found on about this many evenly spaced ones."""


@dataclass(frozen=True)
class Temperature:
    """Temperature scaling: one positive number divides every logit (Guo et al. 2017, eq. 9).

    Dividing by T leaves the arg max as it is, so accuracy does not change.
    """

    value: float
    """T, dimensionless, finite and > 0. T > 1 softens an overconfident model."""
    stderr: float | None = None
    """Standard error of T from the observed information; None if it was given, not fitted."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value > 0):
            raise UsageError(
                f"temperature {self.value!r} is not a positive, finite number", hint="T = 1 leaves a model as it is"
            )

    def steps(self) -> tuple[Step, ...]:
        """What this does to logits, as data that `graph.plan` turns into nodes."""
        return (Divide(self.value),)


def fit_temperature(logits: Logits, labels: Labels) -> Temperature:
    """Find the T that minimises the mean negative log-likelihood of `labels`.

    With β = 1/T the NLL is convex. Its slope is Σ_n ⟨z_n⟩_β − z_n,y and its curvature Σ_n Var_β(z_n), where ⟨·⟩_β and
    Var_β are taken under softmax(β z_n); a binary logit s counts as the pair (0, s). The standard error of T is
    T² / √curvature (observed information, delta method).

    Parameters
    ----------
    logits : Logits of shape (N, K) or (N,), float16, float32 or float64; worked on in float64, a chunk at a time.
    labels : Labels of the same samples: class indices, or soft labels of the logits' shape.

    Raises
    ------
    WorseThanChance
        The slope at β = 0 is positive: T would be negative.
    UselessLogits
        The slope at β = 0 is zero: T would be infinite. Or the logits are constant: any T will do.
    NoFiniteOptimum
        Every label is the arg max of its row: the likelihood grows as T → 0.
    """
    logits, exponent = _rescaled(logits)
    ends = _ends(logits, labels)
    _check_finite_optimum(ends, logits)
    start = ends.first_guess
    if logits.n_samples > 2 * SUBSAMPLE_ROWS:
        start = _start_from_subsample(logits, labels) or start
    root = _solve(logits, labels, start)
    temperature = 1.0 / root.beta
    stderr = temperature**2 / math.sqrt(root.curvature)
    return Temperature(math.ldexp(temperature, exponent), stderr=math.ldexp(stderr, exponent))


def _rescaled(logits: Logits) -> tuple[Logits, int]:
    """Logits / 2^exponent, where their squares would leave the range of float64; T scales with them."""
    largest = max(float(np.abs(z, where=np.isfinite(z), out=np.zeros(z.shape)).max()) for z in value_chunks(logits))
    exponent = math.frexp(largest)[1]
    if abs(exponent) < SAFE_EXPONENT:
        return logits, 0
    return Logits(np.ldexp(logits.values.astype(np.float64), -exponent), logits.task), exponent


@dataclass(frozen=True)
class _Ends:
    """What decides whether a finite optimum exists: the slope of the NLL at both ends of 0 < β < ∞."""

    at_zero: float
    """Σ_n mean(z_n) − z_n,y, which is exactly 0 only where the logits hold no information on the labels."""
    noise: float
    """What rounding alone can make of `at_zero`."""
    at_infinity: float
    """Σ_n max(z_n) − z_n,y ≥ 0; 0 if every label is the arg max."""
    curvature: float
    """Σ_n Var(z_n) at β = 0."""
    spread: float
    """The largest max − min of a row."""

    @property
    def first_guess(self) -> float:
        """One Newton step from β = 0."""
        return -self.at_zero / self.curvature


def _ends(logits: Logits, labels: Labels) -> _Ends:
    at_zero, magnitudes, at_infinity, curvature, spread = [], [], [], [], 0.0
    for z, y in _shifted_chunks(logits, labels):
        weight = np.isfinite(z).astype(np.float64)
        weight /= weight.sum(axis=1, keepdims=True)
        z = np.where(weight > 0, z, 0.0)
        mean = (weight * z).sum(axis=1)
        at_zero.append(math.fsum(mean - y))
        magnitudes.append(float(np.abs(mean).sum() + np.abs(y).sum()))
        at_infinity.append(float(-y.sum()))
        curvature.append(float((weight * (z - mean[:, None]) ** 2).sum()))
        spread = max(spread, float(-z.min()))
    noise = 4 * float(np.finfo(np.float64).eps) * math.fsum(magnitudes)
    return _Ends(math.fsum(at_zero), noise, math.fsum(at_infinity), math.fsum(curvature), spread)


def _check_finite_optimum(ends: _Ends, logits: Logits) -> None:
    n = f"{logits.n_samples:,} samples"
    if ends.spread == 0:
        raise UselessLogits(
            f"every row of logits is constant over its classes ({n}): all temperatures give the same probabilities",
            hint="check that the head and the class axis are the right ones",
        )
    if ends.at_infinity == 0:
        raise NoFiniteOptimum(
            f"every label is the arg max of its row ({n}): the likelihood grows as T goes to 0, so none is best",
            hint="fit on samples that the model has not learned by heart, or on more: some must be misclassified",
        )
    if abs(ends.at_zero) <= ends.noise:
        raise UselessLogits(
            f"the logits say nothing about the labels ({n}): the best temperature is infinite",
            hint="check that labels and inputs are in the same order, and that the head is the right one",
        )
    if ends.at_zero > 0:
        raise WorseThanChance(
            f"the logits rank the labels worse than chance ({n}): the best temperature would be negative",
            hint="check that labels and inputs are in the same order, and that class indices mean what the model means",
        )


def _start_from_subsample(logits: Logits, labels: Labels) -> float | None:
    """The optimum of evenly spaced rows, or None where they have none."""
    rows = np.arange(0, logits.n_samples, logits.n_samples // SUBSAMPLE_ROWS, dtype=np.int64)
    some, truth = logits.take(rows), labels.take(rows)
    ends = _ends(some, truth)
    if ends.at_infinity <= 0 or ends.at_zero >= -ends.noise:
        return None
    return _solve(some, truth, ends.first_guess).beta


def _solve(logits: Logits, labels: Labels, start: float) -> Root:
    has_masked_classes = not all_finite(logits.values)

    def derivatives(beta: float) -> Derivatives:
        slope, curvature = [], []
        for z, y in _shifted_chunks(logits, labels):
            weight = np.exp(beta * z)
            if has_masked_classes:
                z = np.where(np.isfinite(z), z, 0.0)
            total = weight.sum(axis=1)
            mean = np.einsum("nk,nk->n", weight, z) / total
            z -= mean[:, None]
            z *= z
            slope.append(float((mean - y).sum()))
            curvature.append(float((np.einsum("nk,nk->n", weight, z) / total).sum()))
        return Derivatives(math.fsum(slope), math.fsum(curvature))

    return find_root(derivatives, start)


def _shifted_chunks(logits: Logits, labels: Labels) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Rows less their maximum (softmax is blind to a shift), and the (expected) shifted logit of the label."""
    for z, y in chunks(logits, labels):
        if logits.task == "multiclass":
            z -= z.max(axis=1, keepdims=True)
            yield z, _label_logit(z, y)
        else:
            s, flag = z.reshape(-1), y.reshape(-1)
            pairs = np.stack([np.minimum(-s, 0.0), np.minimum(s, 0.0)], axis=1)  # (0, s) less max(0, s)
            yield pairs, (1 - flag) * pairs[:, 0] + flag * pairs[:, 1]


def _label_logit(z: NDArray[np.float64], labels: LabelArray) -> NDArray[np.float64]:
    if labels.ndim == 1:
        return z[np.arange(len(z)), labels.astype(np.int64)]
    expected: NDArray[np.float64] = np.where(labels > 0, labels * np.where(labels > 0, z, 0.0), 0.0).sum(axis=1)
    return expected
