"""The bridge for those who hold a `torch.nn.Module` and a `DataLoader`, and want a calibrated, verified ONNX file.

::

    from onnxcal.torch import ModelWithTemperature, export_calibrated

    result = export_calibrated(model, val_loader, "model.onnx")  # T from onnxruntime's logits, checked against torch
    scaled = ModelWithTemperature(model).set_temperature(val_loader)  # T from torch's own logits, for use in torch

Needs torch: ``pip install 'onnxcal[torch]'``. `batches.py` says what a loader may yield, `modes.py` what a module must
be to be calibrated, `export.py` runs torch's exporters, `comparison.py` holds the file against the module, `bridge.py`
is the road, `wrapper.py` the class that everyone knows.
"""

from __future__ import annotations

try:
    import torch  # noqa: F401
except ImportError as error:
    raise ImportError("onnxcal.torch needs torch: pip install 'onnxcal[torch]'", name="torch") from error

from onnxcal.torch.bridge import export_calibrated
from onnxcal.torch.wrapper import ModelWithTemperature, read_temperature

__all__ = ["ModelWithTemperature", "export_calibrated", "read_temperature"]
