"""The numbers of one tensor: read from a model or its external data, divided, and put back into the tensor's record.

Which tensors these are is decided in `folding.py`. Whatever else a record says, the name and the shape, stays as it is.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Collection
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from onnxcal.errors import ModelError
from onnxcal.graph import wire
from onnxcal.graph.external import external_file
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.plan import Scaling
from onnxcal.graph.skeleton import GRAPH_INITIALIZER, GRAPH_NODE, NODE_ATTRIBUTE
from onnxcal.graph.types import FLOAT_NAMES
from onnxcal.graph.view import GraphView
from onnxcal.graph.wire import BYTES

_PAYLOADS = frozenset({4, 5, 6, 7, 9, 10, 11, 13, 14})  # TensorProto: float_data … uint64_data, and external data
_RAW_DATA = 9
_ATTRIBUTE_NAME, _ATTRIBUTE_FLOAT, _ATTRIBUTE_TENSOR, _ATTRIBUTE_FLOATS = 1, 2, 5, 7
_STORED: dict[int, str] = {
    TensorProto.BFLOAT16: "<u2",
    TensorProto.FLOAT16: "<f2",
    TensorProto.FLOAT: "<f4",
    TensorProto.DOUBLE: "<f8",
}
_DIGITS = {"bfloat16": 8, "float16": 11, "float32": 24, "float64": 53}
_SMALLEST = {"bfloat16": 2.0**-126, "float16": 2.0**-14, "float32": 2.0**-126, "float64": 2.0**-1022}
"""The least number with all its digits."""
_PROPORTIONAL = 2.0**-7
"""Relative difference that rounding to half precision explains."""
_HINT = "leave out --fold: a division costs next to nothing"


def tensor_values(model: ModelFile, name: str) -> NDArray[np.float64]:
    """The numbers of a float initializer or Constant, wherever they lie.

    Raises
    ------
    ModelError
        The external data are missing, unsafe or too short.
    """
    return _values(model, _tensor(model, name))


def scaled_values(model: ModelFile, scaling: Scaling) -> tuple[TensorProto, bytes]:
    """The tensor of a scaling as it is, and the bytes of its numbers divided: in float64, and rounded once.

    Raises
    ------
    ModelError
        They cannot be held in the tensor's element type as well as they were.
    """
    tensor = _tensor(model, scaling.tensor)
    before = _values(model, tensor)
    dtype = FLOAT_NAMES[tensor.data_type]
    with np.errstate(all="ignore"):
        after = before / scaling.divisor
    raw = rounded(after, tensor.data_type)
    kept = values_in(raw, tensor)
    largest = float(np.abs(after[np.isfinite(after)]).max(initial=0.0))
    if (np.isfinite(before) & ~np.isfinite(kept)).any() or 0 < largest < _SMALLEST[dtype]:
        raise ModelError(
            f"'{scaling.tensor}' of {model.name}, divided by {scaling.divisor:g}, cannot be held in {dtype}", hint=_HINT
        )
    coarse = _DIGITS[dtype] < _DIGITS[scaling.precision]
    if coarse and not np.array_equal(kept, after, equal_nan=True):
        raise ModelError(
            f"'{scaling.tensor}' of {model.name} is {dtype}, too coarse to be divided for logits in "
            f"{scaling.precision}",
            hint=_HINT,
        )
    return tensor, raw


def is_scaled(original: ModelFile, patched: ModelFile, scaling: Scaling) -> bool:
    """Whether a patched file holds exactly what a scaling makes of the original's numbers."""
    tensor, raw = scaled_values(original, scaling)
    found = tensor_values(patched, scaling.copy or scaling.tensor)
    return np.array_equal(found, values_in(raw, tensor), equal_nan=True)


def other_divisor(original: ModelFile, patched: ModelFile, scaling: Scaling) -> float | None:
    """What the weights of a changed file were divided by, if no conversion makes that of the scaling's divisor.

    None too for weights that were quantised or merged with others: what is no multiple of the original's tells nothing.
    """
    name = scaling.copy or scaling.tensor
    tensor = GraphView(patched).constant_tensor(name)
    if tensor is None or tensor.data_type not in FLOAT_NAMES:
        return None
    before, after = tensor_values(original, scaling.tensor).ravel(), tensor_values(patched, name).ravel()
    if before.size != after.size:
        return None
    finite = np.isfinite(before) & np.isfinite(after)
    before, after = before[finite], after[finite]
    product = float(before @ after)
    if product <= 0:
        return None
    divisor = float(before @ before) / product
    if np.linalg.norm(divisor * after - before) > _PROPORTIONAL * np.linalg.norm(before):
        return None
    rounding = 1e-5 if _DIGITS[FLOAT_NAMES[tensor.data_type]] >= _DIGITS["float32"] else _PROPORTIONAL
    return None if math.isclose(divisor, scaling.divisor, rel_tol=rounding) else divisor


def held(values: NDArray[np.float64], elem_type: int) -> bytes | None:
    """Positive numbers in an element type, as little-endian bytes; None if it does not hold all their digits."""
    raw = rounded(values, elem_type)
    tensor = TensorProto(data_type=elem_type, dims=values.shape)
    kept = values_in(raw, tensor)
    return raw if np.isfinite(kept).all() and kept.min() >= _SMALLEST[FLOAT_NAMES[elem_type]] else None


def values_in(raw: bytes, tensor: TensorProto) -> NDArray[np.float64]:
    """The numbers in little-endian bytes, in the shape and type of a tensor."""
    if tensor.data_type == TensorProto.BFLOAT16:  # the upper half of a float32
        halves: NDArray[Any] = np.frombuffer(raw, "<u2").astype(np.uint32) << np.uint32(16)
        return halves.view(np.float32).astype(np.float64).reshape(tuple(tensor.dims))
    return np.frombuffer(raw, _STORED[tensor.data_type]).astype(np.float64).reshape(tuple(tensor.dims))


def rounded(values: NDArray[np.float64], elem_type: int) -> bytes:
    """To the nearest number of an element type, ties to even, as little-endian bytes."""
    with np.errstate(over="ignore", under="ignore"):
        if elem_type != TensorProto.BFLOAT16:
            return bytes(values.astype(_STORED[elem_type]).tobytes())
        bits: NDArray[Any] = values.astype(np.float32).view(np.uint32)
    up = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    halves = np.where(np.isnan(values), bits | np.uint32(1 << 22), up) >> np.uint32(16)
    return bytes(halves.astype("<u2").tobytes())


def scaled_initializer(record: bytes, raw: bytes) -> bytes:
    """The payload of a TensorProto with other numbers, which are in it even if they were external."""
    return _replaced(record, _PAYLOADS, wire.bytes_field(_RAW_DATA, raw))


def scaled_constant(node: bytes, raw: bytes) -> bytes:
    """The payload of a Constant node with other numbers, in the attribute in which they were."""
    out = []
    for field in wire.fields(node, 0, len(node)):
        if field.number == NODE_ATTRIBUTE and field.wire_type == BYTES:
            attribute = _scaled_attribute(node[field.payload : field.end], raw)
            out.append(wire.bytes_field(NODE_ATTRIBUTE, attribute))
        else:
            out.append(node[field.start : field.end])
    return b"".join(out)


def copied(tensor: TensorProto, name: str, raw: bytes) -> TensorProto:
    """A tensor of the same kind with another name and other numbers."""
    return helper.make_tensor(name, tensor.data_type, list(tensor.dims), raw, raw=True)


def _scaled_attribute(attribute: bytes, raw: bytes) -> bytes:
    for field in wire.fields(attribute, 0, len(attribute)):
        if field.number == _ATTRIBUTE_TENSOR and field.wire_type == BYTES:
            tensor = scaled_initializer(attribute[field.payload : field.end], raw)
            return _replaced(attribute, {_ATTRIBUTE_TENSOR}, wire.bytes_field(_ATTRIBUTE_TENSOR, tensor))
    name = AttributeProto.FromString(attribute).name
    if name == "value_float":
        return _replaced(attribute, {_ATTRIBUTE_FLOAT}, wire.tag(_ATTRIBUTE_FLOAT, wire.FIXED32) + raw)
    if name == "value_floats" and raw:  # a field for each, as protobuf writes them
        tag = wire.tag(_ATTRIBUTE_FLOATS, wire.FIXED32)
        return _replaced(attribute, {_ATTRIBUTE_FLOATS}, b"".join(tag + raw[i : i + 4] for i in range(0, len(raw), 4)))
    return attribute


def _replaced(message: bytes, numbers: Collection[int], new: bytes) -> bytes:
    """A message with a new field, without some others: where one of its number was, else where protobuf writes it."""
    number = wire.read_varint(new, 0, len(new))[0] >> 3
    fields = list(wire.fields(message, 0, len(message)))
    place = next((i for i, field in enumerate(fields) if field.number == number), None)
    if place is None:
        place = next((i for i, field in enumerate(fields) if field.number > number), len(fields))
    records = [message[f.start : f.end] if f.number not in numbers else b"" for f in fields]
    return b"".join([*records[:place], new, *records[place:]])


def _tensor(model: ModelFile, name: str) -> TensorProto:
    """A constant with all its bytes, if they are in the file."""
    for index, initializer in enumerate(model.graph.initializer):
        if initializer.name == name:
            record = model.graph_records(GRAPH_INITIALIZER)[index]
            return TensorProto.FromString(model.buffer[record.payload : record.end])
    index = next(i for i, node in enumerate(model.graph.node) if name in node.output)
    record = model.graph_records(GRAPH_NODE)[index]
    node = onnx.NodeProto.FromString(model.buffer[record.payload : record.end])
    for attribute in node.attribute:
        if attribute.name == "value":
            return attribute.t
        if attribute.name == "value_float":
            return helper.make_tensor(name, TensorProto.FLOAT, [], struct.pack("<f", attribute.f), raw=True)
        if attribute.name == "value_floats":
            numbers = np.array(attribute.floats, "<f4")
            return helper.make_tensor(name, TensorProto.FLOAT, [len(numbers)], numbers.tobytes(), raw=True)
    raise ModelError(f"the Constant '{name}' of {model.name} holds no tensor", hint=_HINT)


def _values(model: ModelFile, tensor: TensorProto) -> NDArray[np.float64]:
    try:
        if tensor.data_location == TensorProto.EXTERNAL:
            return values_in(_external_bytes(model, tensor), tensor)
        if tensor.HasField("raw_data"):
            return values_in(tensor.raw_data, tensor)
        return np.asarray(numpy_helper.to_array(tensor)).astype(np.float64)
    except ValueError:
        raise ModelError(
            f"'{tensor.name}' of {model.name} holds more or fewer numbers than its shape {list(tensor.dims)} has",
            hint="get the file again",
        ) from None


def _external_bytes(model: ModelFile, tensor: TensorProto) -> bytes:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    path = external_file(model, entries.get("location", ""))
    offset = entries.get("offset", "0")
    size = math.prod(tensor.dims) * np.dtype(_STORED[tensor.data_type]).itemsize
    data = b""
    if offset.isdecimal() and int(offset) <= os.path.getsize(path):
        with open(path, "rb") as file:
            file.seek(int(offset))
            data = file.read(size)
    if len(data) < size:
        raise ModelError(
            f"external data '{os.fspath(path)}' of {model.name} do not hold all of '{tensor.name}', {size:,} bytes "
            f"from {offset} on",
            hint="get the file again",
        )
    return data
