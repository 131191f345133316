"""Temperature scaling, and the exact maximum-likelihood temperature."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np

from onnxcal.calibrators.cumulants import in_float64, slopes_of_rows
from onnxcal.calibrators.ends import check_finite_optimum, ends_of
from onnxcal.calibrators.fast import Optimum, fast_optimum
from onnxcal.calibrators.margins import Margins
from onnxcal.calibrators.newton import Derivatives, find_root
from onnxcal.calibrators.prior import most_probable
from onnxcal.calibrators.steps import Divide, Step
from onnxcal.errors import UsageError
from onnxcal.logits import Logits, Sample, value_chunks

SAFE_EXPONENT = 60
"""Float64 logits between 2^-60 and 2^60 have margins that float32 holds."""
FEW_ELEMENTS = 1 << 14
"""Up to here a float64 fit costs next to nothing."""
LARGE_ERROR = 0.05
"""Standard error of log T above which float32 rounding, 10⁻⁶ of it, could move T by more than 10⁻⁷."""
DIFFERENT_ROWS, DIFFERENT_VALUES = 24, 24
"""Of 32 rows, and of the logits in them: with fewer, rounding errors are equal and add up instead of averaging out."""


class OneNumber(Protocol):
    """An array or tensor that holds one number, as another library's fitted parameter does."""

    def item(self) -> Any:
        """That number."""


TemperatureLike: TypeAlias = "float | OneNumber"


@dataclass(frozen=True)
class Temperature:
    """Temperature scaling: one positive number divides every logit (Guo et al. 2017, eq. 9).

    Dividing by T leaves the arg max as it is, so accuracy does not change.
    """

    value: float
    """T, dimensionless, finite and > 0. T > 1 softens an overconfident model."""
    stderr: float | None = None
    """Standard error of T from the observed information; None if it was given, not fitted."""
    robust_stderr: float | None = None
    """Standard error of T from the sandwich of information and observed slopes, which holds as well where softmax(z/T)
    is not quite the truth; None if T was given."""
    gradient: float | None = None
    """d NLL / d log T at T, mean over samples, in nats: 0 at the optimum. None unless an exact fit was asked for."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value > 0):
            raise UsageError(
                f"temperature {self.value!r} is not a positive, finite number", hint="T = 1 leaves a model as it is"
            )

    def steps(self) -> tuple[Step, ...]:
        """What this does to logits, as data that `graph.plan` turns into nodes."""
        return (Divide(self.value),)


def as_temperature(value: TemperatureLike) -> float:
    """T as a float: of a number, or of an array or tensor that holds one.

    Raises
    ------
    UsageError
        It holds more or fewer numbers than one, or that is not positive and finite.
    """
    try:
        number = float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # NumPy and torch differ
        raise UsageError(
            f"temperature of type {type(value).__name__} is not one number", hint="T = 1 leaves a model as it is"
        ) from None
    return Temperature(number).value


def fit_temperature(
    sample: Sample, *, exact: bool = False, prior: float | None = None, smoothing: float = 0.0
) -> Temperature:
    """Find the T that minimises the mean negative log-likelihood of the labels.

    With β = 1/T the NLL is convex. Its slope is Σ_n ⟨z_n⟩_β − z_n,y and its curvature Σ_n Var_β(z_n), where ⟨·⟩_β and
    Var_β are taken under softmax(β z_n); a binary logit s counts as the pair (0, s). The standard error of T is
    T / √(β² curvature) (observed information, delta method); the robust one is T √(β² Σ_n slope_n²) / (β² curvature)
    (White 1982, the sandwich).

    A few float32 passes find T to about 10⁻⁶ of its standard error. Where that could be more than 10⁻⁷ of T, where
    float32 does not get there, and where `exact` is asked for, float64 ones go on from there.

    Parameters
    ----------
    sample : logits (N, K) or (N,), float16, float32 or float64, with their labels: class indices, or soft labels of
        the logits' shape. Rows of one group count as one for the robust standard error.
    exact : find T to 10⁻¹², and `gradient` with it.
    prior : standard deviation of log T under a log-normal prior with median 1; T is then the most probable one a
        posteriori, and finite whatever the labels are. None for the maximum of the likelihood.
    smoothing : ε, share of each label that is spread evenly over its K classes: with any ε > 0 no label is certain.

    Raises
    ------
    WorseThanChance
        The slope at β = 0 is positive: T would be negative.
    UselessLogits
        The slope at β = 0 is zero: T would be infinite. Or the logits are constant: any T will do.
    NoFiniteOptimum
        Every label is the arg max of its row: the likelihood grows as T → 0.
    """
    sample, exponent = _rescaled(sample)
    margins = Margins.of(sample, smoothing)
    found = _best(margins, exact=exact) if prior is None else most_probable(margins, prior, exponent)
    temperature = math.ldexp(1 / found.beta, exponent)
    squares = found.squares
    if sample.group is not None:
        slopes = np.bincount(sample.group, weights=slopes_of_rows(margins, found.beta))
        squares = float(slopes @ slopes)
    gradient = None
    if exact:
        total = len(margins) if sample.weight is None else float(sample.weight.sum())
        gradient = -in_float64(margins, found.beta, 1).slope / total
    return Temperature(
        temperature,
        stderr=temperature / math.sqrt(found.curvature),
        robust_stderr=temperature * math.sqrt(squares) / found.curvature,
        gradient=gradient,
    )


def _rescaled(sample: Sample) -> tuple[Sample, int]:
    """Logits / 2^exponent, where float32 margins would leave their range; T scales with them."""
    logits = sample.logits
    if logits.values.dtype.itemsize < np.dtype(np.float64).itemsize:
        return sample, 0
    largest = max(float(np.abs(z, where=np.isfinite(z), out=np.zeros(z.shape)).max()) for z in value_chunks(logits))
    if abs(math.frexp(largest)[1]) < SAFE_EXPONENT:
        return sample, 0
    exponent = math.frexp(_typical_margin(logits) or largest)[1]
    if abs(exponent) < SAFE_EXPONENT:  # but for a few, as of masked classes
        return sample, 0
    scaled = Logits(np.ldexp(logits.values.astype(np.float64), -exponent), logits.task)
    return replace(sample, logits=scaled), exponent


def _typical_margin(logits: Logits) -> float:
    """The median over rows of the largest logit less the next; 0 if there is none that is finite and not 0."""
    found = []
    for z in value_chunks(logits):
        pairs = np.abs(z).reshape(-1) if logits.task != "multiclass" else None
        with np.errstate(invalid="ignore", over="ignore"):
            gaps = np.diff(np.partition(z, -2, axis=1)[:, -2:], axis=1)[:, 0] if pairs is None else pairs
        found.append(gaps[np.isfinite(gaps) & (gaps > 0)])
    every = np.concatenate(found)
    return float(np.median(every)) if len(every) else 0.0


def _best(margins: Margins, *, exact: bool) -> Optimum:
    found = fast_optimum(margins)
    if exact or found is None or not _is_exact_enough(found, margins):
        return _exact_optimum(margins, None if found is None else found.beta)
    return found


def _is_exact_enough(found: Optimum, margins: Margins) -> bool:
    if margins.values.size <= FEW_ELEMENTS or found.curvature * LARGE_ERROR**2 < 1:
        return False
    some = margins.values[:: max(1, len(margins) // 32)][:32]
    if len({row.tobytes() for row in some}) < DIFFERENT_ROWS:
        return False
    return len(set(some.reshape(len(some), -1)[:, :16].ravel().tolist())) >= DIFFERENT_VALUES


def _exact_optimum(margins: Margins, start: float | None) -> Optimum:
    ends = ends_of(margins)
    check_finite_optimum(ends, len(margins))

    def derivatives(beta: float) -> Derivatives:
        at = in_float64(margins, beta, 2)
        return Derivatives(at.slope / beta, at.curvature / beta**2)

    root = find_root(derivatives, start or ends.first_guess)
    at = in_float64(margins, root.beta, 2)
    return Optimum(root.beta, at.curvature, at.squares)
