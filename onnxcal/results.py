"""What each command returns and prints: frozen dataclasses whose fields are the keys of the contract's JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from onnxcal.calibrators import Calibration
from onnxcal.calibrators.remarks import got_worse
from onnxcal.graph.filerecord import FileRecord
from onnxcal.graph.head import Head
from onnxcal.graph.targets import TargetFit

if TYPE_CHECKING:
    import onnx

    from onnxcal.metrics import Metrics, Scores
    from onnxcal.verification import Verification
    from onnxcal.verification.checks import Check


@dataclass(frozen=True)
class CalibratedHead:
    """One head of several."""

    head: Head
    """The head that was calibrated."""
    calibration: Calibration
    """The calibrator, and how it was found."""
    metrics: Metrics
    """Scores before and after."""


@dataclass(frozen=True)
class CalibrateResult:
    """What `calibrate` did."""

    model: FileRecord
    """The model that was calibrated."""
    output: FileRecord
    """The calibrated model."""
    head: Head
    """The head that was calibrated; the first, if several were."""
    calibration: Calibration
    """The calibrator, and how it was found."""
    metrics: Metrics
    """Scores before and after, by default on a held-out half."""
    heads: tuple[CalibratedHead, ...]
    """Every head that was calibrated, in the order in which they were named."""
    gates: tuple[Check, ...]
    """Every limit that was asked for, all of them kept: a model that breaks one is not written."""
    verification: Verification
    """The calibrated model, run for real, against the reference."""
    warnings: tuple[str, ...] = ()
    """What the user should know, one sentence each."""
    folded: tuple[str, ...] = ()
    """Names of the weights that T was folded into; empty without `fold`."""
    proto: onnx.ModelProto | None = field(default=None, repr=False, metadata={"json": False})
    """The calibrated model in memory, if no file was asked for."""


@dataclass(frozen=True)
class PatchResult:
    """What `patch` did."""

    model: FileRecord
    """The model that was patched."""
    output: FileRecord
    """The patched model."""
    head: Head
    """The head that was patched; the first, if several were."""
    heads: tuple[Head, ...]
    """Every head that was patched."""
    calibration: Calibration
    """The calibrator that was put in."""
    verification: Verification | None
    """None if the patched model was not run: only its structure was checked."""
    warnings: tuple[str, ...] = ()
    """What the user should know, one sentence each."""
    folded: tuple[str, ...] = ()
    """Names of the weights that T was folded into; empty without `fold`."""
    targets: tuple[TargetFit, ...] = ()
    """Every target that was asked for, all of which it fits."""
    proto: onnx.ModelProto | None = field(default=None, repr=False, metadata={"json": False})
    """The patched model in memory, if no file was asked for."""


@dataclass(frozen=True)
class EvaluateResult:
    """How good and how honest a model is as it stands."""

    model: FileRecord
    """The model."""
    head: Head
    """The head that was evaluated."""
    metrics: Scores
    """Its scores on all samples."""
    warnings: tuple[str, ...] = ()
    """Casts that were made, and the like."""


@dataclass(frozen=True)
class RevertResult:
    """What `revert` did."""

    model: FileRecord
    """The patched model."""
    output: FileRecord
    """The model without the patch."""
    byte_identical: bool
    """Whether it is the file that was patched, byte for byte; False if another tool wrote the patched file anew."""
    warnings: tuple[str, ...] = ()
    """Why it is not byte-identical."""


@dataclass(frozen=True)
class SetTemperatureResult:
    """What `set_temperature` did."""

    model: FileRecord
    """The file as it was."""
    output: FileRecord
    """The file as it is now."""
    head: str
    """The output whose temperature it is."""
    before: float
    """T until now."""
    calibration: Calibration
    """What the file says from now on."""
    warnings: tuple[str, ...] = ()
    """What the user should know, one sentence each."""


@dataclass(frozen=True)
class ExportResult:
    """What `export` wrote."""

    model: FileRecord
    """The calibrated model."""
    output: FileRecord
    """The main file of what it was converted to."""
    to: str
    """The format."""
    files: tuple[str, ...]
    """Every file that was written, the main one first."""
    temperatures: Mapping[str, float]
    """T by the output that it calibrates."""
    verification: Verification | None
    """The calibrated model in onnxruntime, and the files in their own runtime; None of a recipe."""
    operators_added: tuple[str, ...] = ()
    """Of .ort: what a minimal build needs that it did not need for the unpatched model."""
    warnings: tuple[str, ...] = ()
    """What the user should know, one sentence each."""


@dataclass(frozen=True)
class LogitsResult:
    """What the command `logits` wrote."""

    output: FileRecord
    """The LOGITS.npz."""
    head: Head
    """Where the logits were taken from."""
    n_samples: int
    """Rows of logits."""
    data_sha256: str
    """Digest of the inputs and labels."""
    warnings: tuple[str, ...] = ()
    """Casts that were made, and the like."""


@dataclass(frozen=True)
class PlotResult:
    """What `plot` drew."""

    kind: str
    """Which plot."""
    output: FileRecord
    """The picture."""
    temperature: float
    """T of "after"."""
    n_samples: int
    """Rows of logits that are shown."""
    split: str
    """What kind of samples these are, see `Metrics`."""
    data: Any
    """The numbers that are drawn: the dataclass that the kind is made from."""
    warnings: tuple[str, ...] = ()
    """Casts that were made, and what the user should know about the fit."""


@dataclass(frozen=True)
class FitResult:
    """A calibration as the command `fit` shows it, and as CAL.json keeps it."""

    calibration: Calibration
    """The calibrator, and how it was found."""
    metrics: Metrics | None
    """Scores before and after."""
    warnings: tuple[str, ...]
    """What the user should know, one sentence each."""

    @classmethod
    def of(cls, calibration: Calibration) -> FitResult:
        """What there is to say of a calibration."""
        metrics = calibration.metrics
        worse = () if metrics is None else got_worse(metrics)
        return cls(calibration, metrics, tuple(dict.fromkeys((*calibration.warnings, *worse))))
