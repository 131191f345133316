"""Nodes, small tensors and types as protobuf messages, made and read without NumPy and `onnx.helper`.

Those two take longer to import than all that a patch does; the messages are the ones that `onnx.helper` makes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from onnx.onnx_ml_pb2 import AttributeProto, NodeProto, TensorProto, ValueInfoProto

_FORMATS: dict[int, str] = {
    TensorProto.FLOAT: "f",
    TensorProto.DOUBLE: "d",
    TensorProto.FLOAT16: "e",
    TensorProto.INT64: "q",
}
SMALLEST_NORMAL: dict[int, float] = {
    TensorProto.FLOAT: 2.0**-126,
    TensorProto.DOUBLE: 2.0**-1022,
    TensorProto.FLOAT16: 2.0**-14,
}
"""The least number of a type that has all of its digits (IEEE 754)."""


def make_node(
    op_type: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    name: str,
    **attributes: int | list[int] | TensorProto,
) -> NodeProto:
    """A node of the default operator set, its attributes in the order of their names."""
    node = NodeProto(op_type=op_type, input=inputs, output=outputs, name=name)
    for key, value in sorted(attributes.items()):
        if isinstance(value, int):
            node.attribute.add(name=key, type=AttributeProto.INT, i=value)
        elif isinstance(value, list):
            node.attribute.add(name=key, type=AttributeProto.INTS, ints=value)
        else:
            node.attribute.add(name=key, type=AttributeProto.TENSOR, t=value)
    return node


def make_tensor(name: str, elem_type: int, dims: Sequence[int], value: float) -> TensorProto:
    """A tensor that holds one number everywhere.

    Parameters
    ----------
    name, dims : of the tensor.
    elem_type : float16, bfloat16, float32, float64 or int64, as `TensorProto.DataType`.
    value : which bfloat16 has to hold as it is.

    Raises
    ------
    OverflowError
        The type has no such large numbers.
    """
    count = 1
    for size in dims:
        count *= size
    return TensorProto(name=name, data_type=elem_type, dims=dims, raw_data=_packed(elem_type, value) * count)


def held(elem_type: int, value: float) -> float:
    """What a type makes of a number: itself, rounded.

    Raises
    ------
    OverflowError
        The type has no such large numbers.
    """
    found: float = struct.unpack(f"<{_FORMATS[elem_type]}", _packed(elem_type, value))[0]
    return found


def clamped(value: float) -> float:
    """What the float16 converters of onnxconverter-common and onnxruntime bring a constant into first, by default."""
    return min(max(value, 1e-7), 1e4)


def numbers_of(tensor: TensorProto) -> tuple[float, ...] | None:
    """The numbers in a tensor that was made here; None of another form, or where they are not in the skeleton."""
    form = _FORMATS.get(tensor.data_type)
    if form is None or not tensor.raw_data or len(tensor.raw_data) % struct.calcsize(form):
        return None
    return struct.unpack(f"<{len(tensor.raw_data) // struct.calcsize(form)}{form}", tensor.raw_data)


def make_value_info(name: str, elem_type: int, shape: Sequence[int | str | None] | None) -> ValueInfoProto:
    """The type of a tensor; None is a size, or a whole shape, that is not known."""
    value = ValueInfoProto(name=name)
    value.type.tensor_type.elem_type = elem_type
    if shape is None:
        return value
    value.type.tensor_type.shape.SetInParent()
    for size in shape:
        dim = value.type.tensor_type.shape.dim.add()
        if isinstance(size, str):
            dim.dim_param = size
        elif size is not None:
            dim.dim_value = size
    return value


def _packed(elem_type: int, value: float) -> bytes:
    if elem_type == TensorProto.BFLOAT16:  # the upper half of a float32
        return struct.pack("<f", value)[2:]
    return struct.pack(f"<{_FORMATS[elem_type]}", value)
