"""The optional input for T: whether another temperature, fed to it, is honoured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx import helper

from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.view import GraphView
from onnxcal.verification.checks import Check
from onnxcal.verification.head import HeadComparison


class TemperatureInput:
    """One head's input for T, to be fed something else than the default.

    Parameters
    ----------
    original, patched : the two models.
    comparison : of that head, at the default.
    """

    def __init__(self, original: ModelFile, patched: ModelFile, comparison: HeadComparison) -> None:
        self.of = comparison
        self.name = comparison.entry.temperature_input or ""
        self.is_there = any(value.name == self.name for value in patched.graph.input)
        default = comparison.temperature
        self.temperature = default / 2 if default >= 1 else 2 * default
        elem_type = GraphView(patched).type_of(self.name).elem_type
        self.value = np.full(
            1, self.temperature, helper.tensor_dtype_to_np_dtype(elem_type) if self.is_there else np.float32
        )
        entry = replace(comparison.entry, calibration={**comparison.entry.calibration, "temperature": self.temperature})
        self.comparison = HeadComparison(original, patched, entry, comparison.head, tolerance=comparison.given)

    def check(self) -> Check:
        """The finding."""
        name = f"input '{self.name}'"
        if not self.is_there:
            lenient = self.of.given is not None  # whoever feeds it is told so by onnxruntime
            return Check(name, lenient, None, None, "is no input of the graph any more: T is the default, always")
        values, flips = self.comparison.checks()[:2]
        return Check(
            name,
            values.passed and flips.passed,
            values.value,
            values.limit,
            f"fed T = {self.temperature:.4g} on the first batch in onnxruntime: {values.detail}",
        )
