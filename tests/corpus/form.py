"""`Form`: one way a classifier can be built, with the truth about it; and `build`, which makes a model of nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxcal.errors import OnnxcalError
from tests.builders import ELEM_TYPES
from tests.builders import model as make_model

IR_OF_OPSET = {7: 3, 8: 3, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9}
IR_OF_OPSET |= {21: 10, 22: 10, 23: 11, 24: 12, 25: 13, 26: 13}
"""The IR version that came out together with each operator set."""
OPSETS = tuple(IR_OF_OPSET)
INTEGERS = {"int64": TensorProto.INT64, "int32": TensorProto.INT32, "bool": TensorProto.BOOL}

Shape = Sequence["int | str | None"] | None
After = Callable[[np.ndarray], np.ndarray]
Tap = Callable[[str], np.ndarray]
"""Gives an input, or any tensor that the unpatched model makes of the inputs, by its name."""


def as_it_is(values: np.ndarray) -> np.ndarray:
    return values


@dataclass(frozen=True)
class Form:
    """A model, and what is true of the head that is to be calibrated."""

    name: str
    """What is odd about it."""
    model: onnx.ModelProto | bytes
    """The model, or its file byte for byte."""
    output: str = "probs"
    logits: str = "logits"
    task: str = "multiclass"
    activation: str = "softmax"
    axis: int = 1
    classes: int | None = 4
    dtype: str = "float32"
    """Of the logits."""
    over: tuple[int, ...] | None = None
    """Axes of the logits that a softmax normalises over; None for the class axis alone."""
    after: After = as_it_is
    """What the graph does to the probabilities, laid out as the logits are, on the way to the output."""
    z: Callable[[Tap], np.ndarray] | None = None
    """The logits, where they are not simply the tensor `logits`: inside an operator, quantised, one of two columns, or
    logarithms of probabilities."""
    fed: bool = False
    """Whether it is the tensor `logits` as a whole that is divided, although `z` is only a part of it."""
    rounding: float = 0.0
    """How far logits that are computed here may be from the model's own."""
    steps: float = 0.0
    """Distance of the 8-bit numbers that the probabilities go through on the way to the output."""
    own_error: float = 0.0
    """How far the unpatched output is from the activation of the logits, where that works on 8-bit numbers."""
    keys: tuple[str | int, ...] | None = None
    """Class labels, where the output is a sequence of maps."""
    place: str | None = None
    """The tensor that calibrated probabilities stand in for, where it is neither `output` nor `logits`."""
    also: Mapping[str, After] = field(default_factory=dict)
    """Other outputs with the same probabilities, and what the graph does to those on the way there."""
    moved: frozenset[str] = frozenset()
    """Other outputs that are computed from the probabilities, and may move."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the user has to say, as keyword arguments of `onnxcal.patch`."""
    samples: int = 7
    """How many are fed; axis 0 of every input."""

    def data(self) -> bytes:
        """The file."""
        return self.model if isinstance(self.model, bytes) else self.model.SerializeToString()

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Refusal:
    """A model that cannot be patched, and words that the message must contain."""

    name: str
    model: onnx.ModelProto | bytes
    says: str
    """A regular expression."""
    options: Sequence[str] = ()
    """Command-line options."""

    def data(self) -> bytes:
        """The file."""
        return self.model if isinstance(self.model, bytes) else self.model.SerializeToString()

    def __str__(self) -> str:
        return self.name


def attempt(call: Callable[[], Any]) -> tuple[Any, OnnxcalError | None]:
    """What a call returns, and how it was refused: one of them is None. Any other exception is a failure."""
    try:
        return call(), None
    except OnnxcalError as error:
        return None, error


def node(op: str, inputs: Sequence[str] | str, outputs: Sequence[str] | str, **attributes: Any) -> onnx.NodeProto:
    """A node; one input or output needs no list."""
    as_list = [names.split() if isinstance(names, str) else list(names) for names in (inputs, outputs)]
    return helper.make_node(op, *as_list, **attributes)


def value(name: str, shape: Shape, dtype: str = "float32") -> onnx.ValueInfoProto:
    """The declaration of a tensor."""
    return helper.make_tensor_value_info(name, (ELEM_TYPES | INTEGERS)[dtype], shape)


def weights(*shape: int, seed: int = 0, scale: float = 1.5, dtype: str = "float32") -> np.ndarray:
    """Seeded normal numbers."""
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype(dtype)


def ints(*numbers: int) -> np.ndarray:
    """Constant shapes and axes."""
    return np.array(numbers, np.int64)


def build(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = 17,
    ir_version: int | None = None,
) -> onnx.ModelProto:
    """A model of nodes; below IR 4 its constants are inputs as well."""
    ir_version = ir_version or IR_OF_OPSET[opset]
    tensors = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    declared = list(inputs)
    if ir_version < 4:
        declared += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in tensors]
    return make_model(
        helper.make_graph(list(nodes), "odd", declared, list(outputs), tensors), opset=opset, ir_version=ir_version
    )


def squeeze(source: str, target: str, axis: int, opset: int) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
    """A Squeeze, with its axis where the opset wants it."""
    return _axes_node("Squeeze", source, target, axis, opset)


def unsqueeze(source: str, target: str, axis: int, opset: int) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
    """An Unsqueeze, with its axis where the opset wants it."""
    return _axes_node("Unsqueeze", source, target, axis, opset)


def _axes_node(
    op: str, source: str, target: str, axis: int, opset: int
) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
    if opset < 13:
        return node(op, source, target, axes=[axis]), {}
    return node(op, [source, f"{target}_axes"], target), {f"{target}_axes": ints(axis)}
