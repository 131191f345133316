"""The skeleton of a model: the same protobuf message without the payloads of large tensors.

Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

from onnxcal.graph import wire
from onnxcal.graph.wire import BYTES, Buffer

SMALL = 4096
"""Messages of up to this many bytes are copied whole: most of a graph, and the constants that shapes need."""

MODEL_METADATA, MODEL_GRAPH, MODEL_OPSET_IMPORT = 14, 7, 8
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT, GRAPH_VALUE_INFO = 1, 5, 11, 12, 13
NODE_INPUT, NODE_OUTPUT, NODE_ATTRIBUTE = 1, 2, 5
ATTRIBUTE_GRAPHS = (6, 11)
VALUE_INFO_NAME = 1

_PAYLOADS = frozenset({4, 5, 6, 7, 9, 10, 11})  # TensorProto: float_data … raw_data … uint64_data
_TENSOR = "TensorProto"
_INSIDE = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto"},
    "GraphProto": {1: "NodeProto", 5: _TENSOR, 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: _TENSOR,
        6: "GraphProto",
        10: _TENSOR,
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: _TENSOR, 2: _TENSOR},
}
_ATTRIBUTE_HEADER = frozenset({1, 13, 20, 21})  # name, doc_string, type, ref_attr_name


def skeleton(buffer: Buffer, start: int, end: int, message: str = "ModelProto") -> bytes:
    """The bytes of the message in `buffer[start:end]` without large tensor payloads.

    Raises
    ------
    WireError
        The bytes are no such message.
    """
    if message != "ModelProto" and end - start <= SMALL:
        return buffer[start:end]
    if message == "AttributeProto" and not _holds_tensors(buffer, start, end):
        return buffer[start:end]
    inside = _INSIDE.get(message, {})
    out = []
    for field in wire.fields(buffer, start, end):
        if message == _TENSOR and field.number in _PAYLOADS:
            continue
        if field.wire_type == BYTES and field.number in inside:
            out.append(wire.bytes_field(field.number, skeleton(buffer, field.payload, field.end, inside[field.number])))
        else:
            out.append(buffer[field.start : field.end])
    return b"".join(out)


def _holds_tensors(buffer: Buffer, start: int, end: int) -> bool:
    """Whether an attribute's value is a tensor or a graph, rather than a list of a million numbers."""
    for field in wire.fields(buffer, start, end):
        if field.number not in _ATTRIBUTE_HEADER:
            return field.number in _INSIDE["AttributeProto"]
    return False
