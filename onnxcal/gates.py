"""Gates: limits that a calibration has to keep before its model is written. They judge; nothing is measured here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxcal.calibrators import Calibration
from onnxcal.errors import GateError, ModelError, UsageError
from onnxcal.graph.metadata import calibrated_heads
from onnxcal.graph.modelfile import open_model
from onnxcal.graph.targets import TargetFit
from onnxcal.metrics import Metrics
from onnxcal.verification.checks import Check


@dataclass(frozen=True)
class Gates:
    """The limits that were asked for; None is no limit.

    Raises
    ------
    UsageError
        A limit is out of range.
    """

    max_ece: float | None = None
    """Largest ECE after calibration, in [0, 1]."""
    max_nll: float | None = None
    """Largest mean negative log-likelihood after calibration, nats."""
    min_accuracy: float | None = None
    """Smallest accuracy, in [0, 1]."""
    max_temperature_change: float | None = None
    """Largest |T / T_last − 1|, where T_last is in the model file that would be replaced."""
    require_improvement: bool = False
    """Whether the paired interval of the change of held-out NLL must lie below 0."""

    def __post_init__(self) -> None:
        for option, value, hint in (
            ("max-ece", self.max_ece, "ECE is a share: 0.02 means 2 %"),
            ("min-accuracy", self.min_accuracy, "accuracy is a share: 0.9 means 90 %"),
        ):
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"--{option} {value} is not between 0 and 1", hint=hint)
        for option, value, hint in (
            ("max-nll", self.max_nll, "NLL is a mean in nats: guessing among K classes has log K"),
            ("max-temperature-change", self.max_temperature_change, "it is relative: 0.2 lets T = 2 become 1.6 to 2.4"),
        ):
            if value is not None and not 0 <= value < math.inf:
                raise UsageError(f"--{option} {value} is not a number from 0", hint=hint)

    def check_measurable(self, *, no_holdout: bool, resamples: int) -> None:
        """Raise UsageError if an improvement is required that the other options keep from being measured."""
        if self.require_improvement and (no_holdout or resamples == 0):
            other = "--no-holdout" if no_holdout else "--bootstrap 0"
            raise UsageError(
                f"--require-improvement needs held-out samples and an interval, which {other} leaves out",
                hint="pass one of them",
            )

    def judge(self, calibration: Calibration, metrics: Metrics, *, dtype: str, last: float | None) -> tuple[Check, ...]:
        """One check for each limit that was asked for.

        Parameters
        ----------
        calibration, metrics : of one head.
        dtype : NumPy name of its element type, in which T is written.
        last : T of that head in the last build; None if there is none.
        """
        after = metrics.after
        made = []
        if self.max_ece is not None:
            made.append(_at_most("max-ece", "ECE after calibration", after.ece, self.max_ece))
        if self.max_nll is not None:
            made.append(_at_most("max-nll", "NLL after calibration", after.nll, self.max_nll))
        if self.min_accuracy is not None:
            passed = after.accuracy >= self.min_accuracy
            said = f"accuracy is {after.accuracy:.4g}, {_than('less', not passed)} --min-accuracy {self.min_accuracy:g}"
            made.append(Check("min-accuracy", passed, after.accuracy, self.min_accuracy, said))
        if self.max_temperature_change is not None:
            made.append(_change(calibration.recorded_temperature(dtype), last, self.max_temperature_change))
        if self.require_improvement:
            made.append(_improvement(metrics))
        return tuple(made)


def raise_for_gates(
    judged: Sequence[tuple[str, Check]], *, calibration: Calibration, metrics: Metrics, several: bool
) -> None:
    """Raise GateError that names every check that did not hold, unless all did.

    Parameters
    ----------
    judged : the checks, each with the output of its head.
    calibration, metrics : of the first head, for those who read the error as JSON.
    several : whether the head has to be named.
    """
    failed = [
        f"'{output}': {check.detail}" if several else check.detail for output, check in judged if not check.passed
    ]
    if not failed:
        return
    advice = ["fit on more or better matching data, or set another limit"]
    if any(check.name == "max-temperature-change" and not check.passed for _, check in judged):
        advice.append("to accept the new temperature, remove the older output first")
    raise GateError(
        f"{'; '.join(failed)}; nothing was written",
        hint="; ".join(advice),
        known={"calibration": calibration, "metrics": metrics, "gates": [check for _, check in judged]},
    )


def as_checks(targets: Sequence[TargetFit]) -> tuple[Check, ...]:
    """Targets as checks, beside the gates."""
    return tuple(
        Check(f"target {one.target}", one.passed, None, None, f"{one.target}: {one.detail}") for one in targets
    )


def last_temperatures(path: Path | None) -> Mapping[str, float]:
    """T of each head in the model file that is about to be replaced, by its output in the unpatched model.

    None of a file that is not there, or that holds no calibration: then there was no last build.
    """
    if path is None or not path.is_file():
        return {}
    try:
        entries = calibrated_heads(open_model(path))
    except ModelError:
        return {}
    return {str(entry.head["output"]): float(entry.calibration["temperature"]) for entry in entries}


def _at_most(name: str, what: str, value: float, limit: float) -> Check:
    passed = value <= limit
    return Check(name, passed, value, limit, f"{what} is {value:.4g}, {_than('more', not passed)} --{name} {limit:g}")


def _than(word: str, exceeded: bool) -> str:
    return f"{word} than" if exceeded else f"not {word} than"


def _change(temperature: float, last: float | None, limit: float) -> Check:
    name = "max-temperature-change"
    if last is None:
        return Check(name, True, None, limit, "there is no last build whose temperature this one could be held against")
    change = abs(temperature / last - 1) if last != 0 else math.inf
    passed = change <= limit
    said = f"T went from {last:.4g} to {temperature:.4g}, by {change:.3g} of it, {_than('more', not passed)}"
    return Check(name, passed, change, limit, f"{said} --{name} {limit:g}")


def _improvement(metrics: Metrics) -> Check:
    """Of NLL, on samples that were not fitted on, beyond doubt."""
    name = "require-improvement"
    if metrics.split == "fit" or metrics.intervals is None:
        said = "there are no held-out samples on which --require-improvement could see an improvement"
        return Check(name, False, None, 0.0, said)
    low, high = metrics.intervals.difference.nll
    passed = high < 0
    said = f"held-out NLL changed by {low:+.4f} to {high:+.4f} (95 %), {'below' if passed else 'which is not below'} 0"
    return Check(name, passed, high, 0.0, said if passed else f"{said}, as --require-improvement wants it")
