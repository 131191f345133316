"""Maps from logits to calibrated logits, one a file, and how they are fitted. No ONNX here."""

from onnxcal.calibrators.calibration import Calibration
from onnxcal.calibrators.fit import fit, fit_sample
from onnxcal.calibrators.grid import NLLGrid
from onnxcal.calibrators.steps import Divide, Step
from onnxcal.calibrators.temperature import Temperature, fit_temperature

__all__ = ["Calibration", "Divide", "NLLGrid", "Step", "Temperature", "fit", "fit_sample", "fit_temperature"]
