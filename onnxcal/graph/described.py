"""The elements of a model in words, for those who compare two models: one line each, of whatever is in a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

import onnx
from onnx.onnx_ml_pb2 import TensorProto

from onnxcal.graph.types import DTYPE_NAMES

if TYPE_CHECKING:
    from google.protobuf.message import Message

Element: TypeAlias = (
    "onnx.NodeProto | onnx.TensorProto | onnx.ValueInfoProto | onnx.StringStringEntryProto | onnx.OperatorSetIdProto"
    " | onnx.FunctionProto"
)
"""What a repeated field of a model or a graph holds, where it can be told apart by name."""

_LONGEST = 120
_MOST_VALUES = 8


def described(element: Element) -> str:
    """One line: `Div(logits, t) → calibrated`, `float32 [1] = 1.7`, `float32 (N, 10)`, a value, a version."""
    if isinstance(element, onnx.NodeProto):
        return _shortened(_node(element))
    if isinstance(element, onnx.TensorProto):
        return _shortened(_tensor(element))
    if isinstance(element, onnx.ValueInfoProto):
        return _shortened(_value(element))
    if isinstance(element, onnx.StringStringEntryProto):
        return _shortened(_text(element.value))
    if isinstance(element, onnx.OperatorSetIdProto):
        return f"version {element.version}"
    return _shortened(f"{_call(element.name, element.domain, element.input)}, {len(element.node):,} nodes")


def differing(before: Element, after: Element) -> tuple[str, ...]:
    """The fields in which two elements of one kind differ: `input 0`, `attribute 'axis'`, `dims`."""
    names: dict[str, None] = {}
    for field in before.DESCRIPTOR.fields:
        ours, theirs = getattr(before, field.name), getattr(after, field.name)
        if ours == theirs:
            continue
        if field.name in ("input", "output") and len(ours) == len(theirs):
            names.update((f"{field.name} {i}", None) for i in range(len(ours)) if ours[i] != theirs[i])
        elif field.name == "attribute":
            names.update((f"attribute '{_text(name)}'", None) for name in _differing_attributes(before, after))
        else:
            names[field.name] = None
    return tuple(names)


def _differing_attributes(before: Message, after: Message) -> Iterator[str]:
    ours, theirs = ({a.name: a for a in node.attribute} for node in (before, after))  # type: ignore[attr-defined]
    yield from (name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name))


def _node(node: onnx.NodeProto) -> str:
    attributes = [f"{_text(a.name)}={_attribute(a)}" for a in node.attribute]
    outputs = ", ".join(_text(name) for name in node.output)
    return f"{_call(node.op_type, node.domain, [*node.input, *attributes])} → {outputs}"


def _call(name: str, domain: str, arguments: object) -> str:
    prefix = f"{_text(domain)}." if domain not in ("", "ai.onnx") else ""
    return f"{prefix}{_text(name)}({', '.join(_text(a) for a in arguments)})"  # type: ignore[attr-defined]


def _attribute(attribute: onnx.AttributeProto) -> str:
    kind = onnx.AttributeProto
    if attribute.type in (kind.INT, kind.FLOAT):
        return f"{attribute.i if attribute.type == kind.INT else attribute.f:g}"
    if attribute.type == kind.STRING:
        return _shortened(_text(attribute.s), 24)
    if attribute.type in (kind.INTS, kind.FLOATS) and len(attribute.ints) + len(attribute.floats) <= _MOST_VALUES:
        return f"[{', '.join(f'{v:g}' for v in (*attribute.ints, *attribute.floats))}]"
    return "…"


def _tensor(tensor: onnx.TensorProto) -> str:
    text = f"{DTYPE_NAMES.get(tensor.data_type, f'type {tensor.data_type}')} [{', '.join(map(str, tensor.dims))}]"
    if tensor.data_location == TensorProto.EXTERNAL:
        entries = ", ".join(f"{_text(e.key)} {_text(e.value)}" for e in tensor.external_data)
        return f"{text} in external data ({entries})"
    from onnx import numpy_helper

    try:
        values = numpy_helper.to_array(tensor).reshape(-1)
    except (ValueError, TypeError):  # its payload was left out of the skeleton
        return text
    if not 0 < len(values) <= _MOST_VALUES:
        return text
    shown = ", ".join(f"{v:.9g}" if isinstance(v, float) else _text(v) for v in values.tolist())
    return f"{text} = {shown}"


def _value(value: onnx.ValueInfoProto) -> str:
    kind = value.type.WhichOneof("value") or "of no type"
    if kind != "tensor_type":
        return kind.removesuffix("_type")
    tensor = value.type.tensor_type
    name = DTYPE_NAMES.get(tensor.elem_type, f"type {tensor.elem_type}")
    if not tensor.HasField("shape"):
        return f"{name} of unknown shape"
    sizes = [str(d.dim_value) if d.HasField("dim_value") else _text(d.dim_param) or "?" for d in tensor.shape.dim]
    return f"{name} ({', '.join(sizes)})"


def _text(value: object) -> str:
    """Text; protobuf hands out bytes where it is not UTF-8."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _shortened(text: str, longest: int = _LONGEST) -> str:
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"
