"""onnxcal: temperature scaling for ONNX classifiers, from validation logits to a verified model file."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from onnxcal.errors import (
    DataError,
    FitError,
    GateError,
    ModelError,
    NoFiniteOptimum,
    OnnxcalError,
    UsageError,
    UselessLogits,
    VerificationError,
    WorseThanChance,
)
from onnxcal.version import __version__

if TYPE_CHECKING:
    from onnxcal import plots as plots
    from onnxcal import sklearn as sklearn
    from onnxcal import torch as torch
    from onnxcal.builds.build import build
    from onnxcal.calibrators import Calibration, fit
    from onnxcal.exports.export import export
    from onnxcal.graph.diff import diff
    from onnxcal.graph.exclude import nodes_to_exclude
    from onnxcal.graph.head import Head
    from onnxcal.graph.inspect import inspect
    from onnxcal.inference import collect_logits
    from onnxcal.patched import revert, set_temperature
    from onnxcal.patching import patch
    from onnxcal.pipeline import calibrate, evaluate
    from onnxcal.verification import verify

_LAZY = {  # so that `import onnxcal` and `onnxcal --help` import neither numpy nor onnx nor onnxruntime
    "Calibration": "onnxcal.calibrators",
    "Head": "onnxcal.graph.head",
    "build": "onnxcal.builds.build",
    "calibrate": "onnxcal.pipeline",
    "collect_logits": "onnxcal.inference",
    "diff": "onnxcal.graph.diff",
    "evaluate": "onnxcal.pipeline",
    "export": "onnxcal.exports.export",
    "fit": "onnxcal.calibrators",
    "inspect": "onnxcal.graph.inspect",
    "nodes_to_exclude": "onnxcal.graph.exclude",
    "patch": "onnxcal.patching",
    "revert": "onnxcal.patched",
    "set_temperature": "onnxcal.patched",
    "verify": "onnxcal.verification",
}
_MODULES = ("plots", "sklearn", "torch")  # imported by those who use them; the last only where torch is installed

__all__ = [
    "Calibration",
    "DataError",
    "FitError",
    "GateError",
    "Head",
    "ModelError",
    "NoFiniteOptimum",
    "OnnxcalError",
    "UsageError",
    "UselessLogits",
    "VerificationError",
    "WorseThanChance",
    "__version__",
    "build",
    "calibrate",
    "collect_logits",
    "diff",
    "evaluate",
    "export",
    "fit",
    "inspect",
    "nodes_to_exclude",
    "patch",
    "revert",
    "set_temperature",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"onnxcal.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module 'onnxcal' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "plots", "sklearn"]
