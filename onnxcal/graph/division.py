"""The division by T in a patched file, as it reads back: whether it is by the T that the file names."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from onnx.onnx_ml_pb2 import TensorProto

from onnxcal.errors import ModelError
from onnxcal.graph.messages import clamped, held, numbers_of
from onnxcal.graph.metadata import calibrated_heads
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.plan import DIVIDE, role_of
from onnxcal.graph.types import FLOAT_NAMES
from onnxcal.graph.view import GraphView

if TYPE_CHECKING:
    import onnx


def divides(patched: ModelFile, output: str, temperature: float) -> bool:
    """Whether an output comes of a division by T, in a file that was just written."""
    view = GraphView(patched)
    for node, divisor in _divisions(view):
        numbers = numbers_of(divisor)
        if not numbers or output not in view.depend_on(node.output):
            continue
        if all(_is_converted(number, temperature, divisor.data_type) for number in numbers):
            return True
    return False


def other_temperature(patched: ModelFile, output: str, temperature: float) -> float | None:
    """What a file divides an output by, if that is not T to within the rounding of a conversion.

    Raises
    ------
    ModelError
        No division by float numbers that are in the file, or in its external data, is left.
    """
    from onnxcal.graph.payload import tensor_values  # NumPy, which a division needs not wait for

    view = GraphView(patched)
    read = False
    for node, divisor in _divisions(view):
        if divisor.data_type in FLOAT_NAMES and output in view.depend_on(node.output):
            read = True
            for number in tensor_values(patched, node.input[1]).flat:
                if not _is_converted(float(number), temperature, divisor.data_type):
                    return float(number)
    if not read:
        raise ModelError(
            f"{patched.name} does not divide '{output}' by a number any more", hint="use the model it was made from"
        )
    return None


def other_temperatures(model: ModelFile) -> Iterator[str]:
    """What to say of outputs that a patched file divides by something else than its metadata tell."""
    for entry in calibrated_heads(model):
        output, temperature = entry.output_name or str(entry.head["output"]), float(entry.calibration["temperature"])
        try:
            found = None if entry.form == "folded" else other_temperature(model, output, temperature)
        except ModelError:
            continue
        if found is not None:
            yield not_as_recorded(output, found, temperature)


def not_as_recorded(output: str, found: float, temperature: float) -> str:
    """What to say of an `other_temperature`."""
    said = f"and its calibration says {temperature:.6g}"
    return f"'{output}' is divided by {found:.6g}, {said}: no conversion rounds T so far"


def _is_converted(number: float, temperature: float, elem_type: int) -> bool:
    """Whether a number is what a conversion makes of T; those to float16 bring it into a range first."""
    if elem_type not in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
        return math.isclose(number, temperature, rel_tol=1e-6)
    if math.isclose(number, temperature, rel_tol=2.0**-8):
        return True
    return elem_type == TensorProto.FLOAT16 and number == held(elem_type, clamped(temperature))


def _divisions(view: GraphView) -> Iterator[tuple[onnx.NodeProto, onnx.TensorProto]]:
    """The inserted divisions, and the constants that they divide by."""
    for node in view.graph.node:
        if node.op_type == "Div" and len(node.input) == 2 and role_of(node) == DIVIDE:
            divisor = view.constant_tensor(node.input[1])
            if divisor is not None:
                yield node, divisor
