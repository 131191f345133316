"""How far another runtime may be from the float64 reference, and why.

The reference is computed from the logits that onnxruntime finds. Another runtime adds up the same sums in another
order, so its logits differ by rounding, and these tolerances are wider than those of the calibrated tail alone
(`head.TOLERANCE`).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from onnx import TensorProto

from onnxcal.graph.modelfile import ModelFile

Precision: TypeAlias = Literal["8-bit", "float16", "bfloat16", "float32", "float64"]

RUNTIME_TOLERANCE: dict[str, float] = {
    # Sums in another order, with or without fused multiply-add: some 1e-6 of logits up to 50. Measured: 2e-7 to 6e-6.
    "float32": 1e-4,
    # What is served on small devices computes float64 models in float32.
    "float64": 1e-4,
    # Half precision is accumulated in half or in single, as the runtime likes. Measured: up to 2e-3.
    "float16": 1e-2,
    # Three bits less than half precision.
    "bfloat16": 8e-2,
    # A value between two of 255 steps is rounded either way: of logits from -10 to 10 a step is 0.08, and a
    # probability moves by at most a quarter of that. Measured: up to 4e-3.
    "8-bit": 2e-2,
}
"""Largest error of a probability, by the coarsest precision of the model; relative for log-probabilities below −1."""

_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")


def body_precision(model: ModelFile) -> Precision:
    """The coarsest precision that a model computes in: that of its weights, or 8 bits where it quantises."""
    graph = model.graph
    if any(node.op_type in _QUANTISED or node.op_type.startswith("QLinear") for node in graph.node):
        return "8-bit"
    kinds = {tensor.data_type for tensor in graph.initializer}
    kinds |= {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info)}
    coarse: tuple[tuple[Precision, int], ...] = (
        ("bfloat16", TensorProto.BFLOAT16),
        ("float16", TensorProto.FLOAT16),
        ("float32", TensorProto.FLOAT),
        ("float64", TensorProto.DOUBLE),
    )
    return next((name for name, kind in coarse if kind in kinds), "float32")


def runtime_tolerances(precision: Precision) -> dict[str, float]:
    """The tolerance for a head of each element type, in a model of some precision."""
    return {dtype: max(RUNTIME_TOLERANCE[precision], value) for dtype, value in RUNTIME_TOLERANCE.items()}
