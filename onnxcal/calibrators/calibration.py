"""`Calibration`: a fitted calibrator with where it came from, and the CAL.json that it is kept in."""

from __future__ import annotations

import json
import math
import os
import struct
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxcal.calibrators.evidence import Comparison, FittedOn, believed, enough_samples, interval
from onnxcal.calibrators.steps import Step
from onnxcal.calibrators.temperature import Temperature
from onnxcal.errors import DataError, UsageError
from onnxcal.logits import TASKS, Probabilities, Task, as_array
from onnxcal.metrics import Metrics
from onnxcal.metrics.recorded import RecordedMetrics
from onnxcal.rows import default_axis, logit_rows, task_of_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA = "onnxcal/1"
METHODS = ("temperature",)
DIGITS = 5
"""Significant digits of what a model file keeps beside T; see `Calibration.as_record`."""
_TYPES: dict[str, tuple[type, ...]] = {
    "stderr": (int, float),
    "robust_stderr": (int, float),
    "p_value": (int, float),
    "precision": (int, float),
    "gradient": (int, float),
    "prior": (int, float),
    "smoothing": (int, float),
    "replaced": (int, float),
    "objective": (str,),
    "n_samples": (int,),
    "converged": (bool,),
    "task": (str,),
    "output": (str,),
    "data_sha256": (str,),
}


@dataclass(frozen=True)
class Calibration:
    """A calibrator, how it was found, and for what."""

    temperature: float
    """T: logits are divided by it. Finite and > 0."""
    stderr: float | None = None
    """Standard error of T, from the observed information; None if T was given."""
    robust_stderr: float | None = None
    """Standard error of T from the sandwich, where the positions of one image are one sample; None if T was given."""
    precision: float | None = None
    """How far T may be from the optimum, relative to T, by a single pass's own estimate; None of other fits."""
    gradient: float | None = None
    """d NLL / d log T at T, mean over samples, in nats; None unless an exact fit was asked for."""
    objective: str | None = None
    """What was minimised: `nll`; `nll+prior`, of the posterior; None if T was given."""
    prior: float | None = None
    """Standard deviation of log T under the log-normal prior that was asked for; None without one."""
    smoothing: float | None = None
    """ε of the labels that were smoothed; None if they were not."""
    n_samples: int | None = None
    """Samples (rows of logits) that T was fitted on; None if T was given."""
    converged: bool | None = None
    """Whether the solver reached the optimum; None if T was given."""
    method: str = "temperature"
    """The kind of calibrator."""
    task: Task | None = None
    """The task it was fitted for; None if T was given."""
    output: str | None = None
    """The model output (head) it was fitted for; None if it was fitted on stored logits or given."""
    data_sha256: str | None = None
    """Digest of the inputs and labels it was fitted on; None if not known."""
    replaced: float | None = None
    """The T that was fitted or given before this one was set by hand in the file; None if it was not."""
    fitted_on: FittedOn | None = field(default=None, repr=False, compare=False, metadata={"json": False})
    """What it was fitted on; None if T was given or read back."""
    comparison: Comparison | None = field(default=None, repr=False, compare=False, metadata={"json": False})
    """What it is measured on; None if it is not."""
    tested: float | None = field(default=None, repr=False, metadata={"json": False})
    """The p-value that was read back with it."""
    recorded: RecordedMetrics | None = field(default=None, repr=False, compare=False, metadata={"json": False})
    """The scores that go into a file with it: those of `calibrate`, or read back from a CAL.json."""
    warnings: tuple[str, ...] = field(default=(), metadata={"json": False})
    """What the user should know about the fit, one sentence each."""

    def __post_init__(self) -> None:
        Temperature(self.temperature)  # refuses what is no temperature

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of T, symmetric in log T; None if T was given.

        From the robust standard error where that is more than a tenth larger than the other, and of rows that belong
        together; else from the observed information.
        """
        return None if self.stderr is None else interval(self.temperature, self.stderr, self.robust_stderr)

    @property
    def is_robust(self) -> bool:
        """Whether the interval is that of `robust_stderr`: the plain one does not hold for samples like these."""
        return self.stderr is not None and believed(self.stderr, self.robust_stderr) != self.stderr

    @property
    def enough_samples(self) -> int | None:
        """How many such samples would give T to ±5 % (95 %), counted as `n_samples` is; None if T was given, or if
        the samples say next to nothing of T."""
        if self.interval is None or self.n_samples is None:
            return None
        return enough_samples(self.n_samples, self.interval)

    @cached_property
    def p_value(self) -> float | None:
        """Of the likelihood-ratio test of T = 1; two passes over the logits, when it is first asked for.

        None if T was given.
        """
        if self.fitted_on is None or self.stderr is None:
            return self.tested
        return self.fitted_on.p_value(self.temperature, self.stderr, self.robust_stderr)

    @cached_property
    def metrics(self) -> Metrics | None:
        """Scores before and after, worked out when they are first asked for; None if there is nothing to measure on."""
        return None if self.comparison is None else self.comparison.metrics

    def steps(self) -> tuple[Step, ...]:
        """What this does to logits, as data that `graph.plan` turns into nodes."""
        return Temperature(self.temperature, self.stderr).steps()

    def apply(self, logits: Any, *, axis: int | None = None, task: Task | None = None) -> NDArray[np.float64]:
        """The calibrated probabilities, in float64: softmax(z / T) over the class axis, or σ(z / T).

        Parameters
        ----------
        logits : array_like (N, K) or (N, K, d1, …), or (N,) or (N, 1) for binary.
        axis : the class axis, default 1.
        task : default the one it was fitted for; if T was given, binary for (N,) and (N, 1), else multiclass.

        Returns
        -------
        ndarray of the logits' shape.

        Raises
        ------
        DataError
            Logits that are not floating point or have no such axis.
        """
        z = as_array(logits, "logits")
        task = task or self.task or task_of_shape(z.shape)
        axis = default_axis(z.ndim) if axis is None else axis
        if axis < 0:
            axis += z.ndim
        rows = logit_rows(z, task, axis).astype(np.float64)
        if task == "multiclass" and np.isneginf(rows).all(axis=1).any():
            raise DataError("a row of logits is -inf for all classes", hint="leave at least one class unmasked")
        p = Probabilities.from_logits(rows / self.temperature, task).values
        if task == "binary":
            return p.reshape(z.shape)
        moved = np.moveaxis(z, axis, -1).shape
        return np.moveaxis(p.reshape(moved), -1, axis)

    def as_json(self) -> dict[str, Any]:
        """The `calibration` object of `--json`, CAL.json and the metadata: without metrics and warnings."""
        keys = (
            "method",
            "temperature",
            "stderr",
            "robust_stderr",
            "interval",
            "p_value",
            "precision",
            "gradient",
            "objective",
            "prior",
            "smoothing",
            "n_samples",
            "enough_samples",
            "converged",
            "task",
            "output",
            "data_sha256",
        )
        values = {key: getattr(self, key) for key in keys}
        if self.replaced is not None:
            values["replaced"] = self.replaced
        if self.interval is not None and math.isinf(self.interval[1]):  # which JSON does not have
            values["interval"] = (self.interval[0], None)
        return values

    def as_record(self, dtype: str) -> dict[str, Any]:
        """What a model file keeps of it: `as_json` with no more digits than any machine agrees on.

        How wide a processor sums float32 numbers shows in the ninth digit of T and in the seventh of its standard
        error; threads, batch size, folder and day do not show at all. So T is written as the float32 number that the
        graph divides by, in full where that is float64, and what was worked out besides with `DIGITS`.

        Parameters
        ----------
        dtype : NumPy name of the head's element type.
        """
        record = {key: _shortened(value) for key, value in self.as_json().items()}
        given = {key: getattr(self, key) for key in ("prior", "smoothing", "replaced") if key in record}
        return record | given | {"temperature": self.recorded_temperature(dtype)}

    def recorded_temperature(self, dtype: str) -> float:
        """T as `as_record` has it."""
        return self.temperature if dtype == "float64" else _in_float32(self.temperature)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibration:
        """Read a CAL.json: what `fit` and `calibrate --save-calibration` write, or what `fit --json` prints.

        Raises
        ------
        DataError
            The file cannot be read or is not such a document.
        """
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"cannot read calibration '{path}': {error.strerror}", hint="check the path") from None
        except (ValueError, RecursionError):
            raise DataError(f"calibration '{path}' is not JSON", hint="pass what onnxcal fit -o wrote") from None
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise DataError(
                f"calibration '{path}' is not a document of schema {SCHEMA}", hint="pass what onnxcal fit -o wrote"
            )
        found = cls.from_dict(document.get("calibration"), where=f"calibration '{path}'")
        if not document.get("metrics"):
            return found
        try:
            return replace(found, recorded=RecordedMetrics.from_dict(document["metrics"]))
        except (KeyError, TypeError, ValueError, OverflowError):
            raise DataError(
                f"calibration '{path}': metrics are not what onnxcal wrote", hint="fit it again with onnxcal fit"
            ) from None

    @classmethod
    def from_dict(cls, values: Any, *, where: str) -> Calibration:
        """The calibration in a JSON object, without its metrics and warnings; unknown keys are left alone.

        Raises
        ------
        DataError
            A key is missing or has the wrong type; the message begins with `where`.
        """
        if not isinstance(values, dict) or type(values.get("temperature")) not in (int, float):
            raise DataError(f"{where} has no number calibration.temperature", hint="fit it again with onnxcal fit")
        for key, types in _TYPES.items():
            if values.get(key) is not None and type(values[key]) not in types:
                raise DataError(f"{where}: {key} has the wrong type", hint="fit it again with onnxcal fit")
        if values.get("task") not in (None, *TASKS):
            raise DataError(f"{where} has the unknown task {values['task']!r}", hint="fit it again with onnxcal fit")
        if values.get("method", "temperature") not in METHODS:
            raise DataError(
                f"{where} has method {values['method']!r}; this version knows {', '.join(METHODS)}",
                hint="update onnxcal, or fit again",
            )
        try:
            return cls(
                temperature=float(values["temperature"]),
                stderr=values.get("stderr"),
                robust_stderr=values.get("robust_stderr"),
                precision=values.get("precision"),
                gradient=values.get("gradient"),
                tested=values.get("p_value"),
                objective=values.get("objective"),
                prior=values.get("prior"),
                smoothing=values.get("smoothing"),
                n_samples=values.get("n_samples"),
                converged=values.get("converged"),
                task=values.get("task"),
                output=values.get("output"),
                data_sha256=values.get("data_sha256"),
                replaced=values.get("replaced"),
            )
        except OverflowError:
            raise DataError(f"{where}: the temperature is too large", hint="fit it again with onnxcal fit") from None
        except UsageError as error:
            raise DataError(f"{where}: {error.message}", hint=error.hint) from None


def _shortened(value: Any) -> Any:
    """Floats with `DIGITS`; anything else as it is."""
    if isinstance(value, tuple):
        return tuple(_shortened(one) for one in value)
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _in_float32(value: float) -> float:
    """The shortest decimal number that is the same in float32; the number itself beyond float32's normal range.

    Without NumPy, which a patch of a known temperature does not need.
    """
    if not 2.0**-126 <= value < 2.0**128 * (1 - 2.0**-25):
        return value
    single = struct.pack("<f", value)
    (exact,) = struct.unpack("<f", single)
    decimals = (float(f"{exact:.{digits}g}") for digits in range(1, 9))
    return next((one for one in decimals if struct.pack("<f", one) == single), float(f"{exact:.9g}"))
