"""A pass for Olive that calibrates the ONNX model it is given; onnxcal itself knows nothing of Olive.

With this folder on the PYTHONPATH, and a package configuration that names `onnxcal_olive.OnnxcalCalibration`, it is a
pass like any other; a gate or a verification that says no fails the pass, and no model comes out of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from olive.hardware import AcceleratorSpec
from olive.model import ONNXModelHandler
from olive.model.utils import resolve_onnx_path
from olive.passes import Pass
from olive.passes.pass_config import BasePassConfig, PassConfigParam

import onnxcal

TYPES: dict[str, type] = {
    "labels": str,
    "eval_data": str,
    "eval_labels": str,
    "head": str,
    "task": str,
    "axis": int,
    "activation": str,
    "batch_size": int,
    "max_ece": float,
    "max_nll": float,
    "min_accuracy": float,
    "require_improvement": bool,
}
"""Options of `onnxcal.calibrate` beside its data, with their types."""


class OnnxcalCalibration(Pass):
    """Fit a temperature on a model's logits over labelled data, put it into the model, and verify it by a run."""

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, PassConfigParam]:
        options = {
            name: PassConfigParam(type_=kind, default_value=None, description=f"{name} of onnxcal.calibrate")
            for name, kind in TYPES.items()
        }
        data = PassConfigParam(
            type_=str, required=True, description="Labelled samples: x.npz, x.npy with labels, file.py:callable"
        )
        return {"data": data, **options}

    def _run_for_config(self, model: Any, config: type[BasePassConfig], output_model_path: str) -> ONNXModelHandler:
        if not isinstance(model, ONNXModelHandler):
            raise NotImplementedError("OnnxcalCalibration takes an ONNX model: put a conversion before it")
        output = resolve_onnx_path(output_model_path, Path(model.model_path).name)
        options = {name: value for name in TYPES if (value := getattr(config, name)) is not None}
        onnxcal.calibrate(model.model_path, config.data, output=output, force=True, **options)
        return ONNXModelHandler(model_path=output)
