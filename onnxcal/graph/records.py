"""The records that a patch writes: a `PatchPlan` as new and changed protobuf messages, ready to be spliced in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from google.protobuf.message import Message

from onnxcal.graph import wire
from onnxcal.graph.draft import IR_WITH_INITIALIZERS_APART, constant_node
from onnxcal.graph.edit import FieldEdit, GraphEdit
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.plan import PatchPlan, Rename, Scaling
from onnxcal.graph.skeleton import (
    ATTRIBUTE_GRAPHS,
    GRAPH_INITIALIZER,
    GRAPH_INPUT,
    GRAPH_NODE,
    GRAPH_OUTPUT,
    GRAPH_VALUE_INFO,
    NODE_ATTRIBUTE,
    NODE_INPUT,
    NODE_OUTPUT,
    VALUE_INFO_NAME,
    skeleton,
)
from onnxcal.graph.view import defined_in
from onnxcal.graph.wire import BYTES, Field

_RENAMED_FIELD = {"input": NODE_INPUT, "output": NODE_OUTPUT}


def edit_for(model: ModelFile, plan: PatchPlan) -> GraphEdit:
    """The byte-level form of a plan.

    Raises
    ------
    ModelError
        Weights cannot be divided by T in their element type.
    """
    renames: dict[int, list[Rename]] = {}
    for rename in plan.renames:
        renames.setdefault(rename.node, []).append(rename)
    plain = {transform.node for transform in plan.transforms}
    nodes = model.graph_records(GRAPH_NODE)
    outputs = model.graph_records(GRAPH_OUTPUT)
    scaled = _scaled(model, plan.scalings)
    changed = {i: _changed_node(model, nodes[i], renames.get(i, ()), plain=i in plain) for i in {*renames, *plain}}
    changed |= scaled.nodes
    return GraphEdit(
        {
            GRAPH_NODE: FieldEdit(
                inserted=(
                    *((before, _record(GRAPH_NODE, node)) for before, node in scaled.constants),
                    *((i.before, _record(GRAPH_NODE, i.node)) for i in plan.insertions),
                ),
                replaced=tuple((i, wire.bytes_field(GRAPH_NODE, changed[i])) for i in sorted(changed)),
                folded=frozenset(scaled.nodes),
            ),
            GRAPH_INITIALIZER: FieldEdit(
                inserted=_behind(model, GRAPH_INITIALIZER, [*scaled.copies, *plan.initializers]),
                replaced=tuple(
                    (i, wire.bytes_field(GRAPH_INITIALIZER, payload))
                    for i, payload in sorted(scaled.initializers.items())
                ),
                folded=frozenset(scaled.initializers),
            ),
            GRAPH_INPUT: FieldEdit(inserted=_behind(model, GRAPH_INPUT, plan.inputs)),
            GRAPH_OUTPUT: FieldEdit(
                inserted=_behind(model, GRAPH_OUTPUT, plan.new_outputs),
                replaced=tuple((i, _renamed_value(model, outputs[i], new)) for i, new in plan.renamed_outputs),
            ),
            GRAPH_VALUE_INFO: FieldEdit(inserted=_behind(model, GRAPH_VALUE_INFO, plan.value_infos)),
        }
    )


@dataclass(frozen=True)
class _Scaled:
    """Records that weights were divided in, by position, and new ones that hold divided copies."""

    initializers: dict[int, bytes]
    nodes: dict[int, bytes]
    copies: list[onnx.TensorProto]
    constants: list[tuple[int, onnx.NodeProto]]


def _scaled(model: ModelFile, scalings: Sequence[Scaling]) -> _Scaled:
    scaled = _Scaled({}, {}, [], [])
    if not scalings:
        return scaled
    from onnxcal.graph.payload import copied, scaled_constant, scaled_initializer, scaled_values  # NumPy

    initializers = {tensor.name: index for index, tensor in enumerate(model.graph.initializer)}
    nodes = {name: index for index, node in enumerate(model.graph.node) for name in node.output}
    for scaling in scalings:
        tensor, raw = scaled_values(model, scaling)
        if scaling.copy is not None:
            copy = copied(tensor, scaling.copy, raw)
            if model.skeleton.ir_version >= IR_WITH_INITIALIZERS_APART:
                scaled.copies.append(copy)
            else:
                scaled.constants.append((scaling.before, constant_node(copy, scaling.copy)))
        elif scaling.tensor in initializers:
            index = initializers[scaling.tensor]
            scaled.initializers[index] = scaled_initializer(_payload(model, GRAPH_INITIALIZER, index), raw)
        else:
            index = nodes[scaling.tensor]
            scaled.nodes[index] = scaled_constant(_payload(model, GRAPH_NODE, index), raw)
    return scaled


def _payload(model: ModelFile, number: int, index: int) -> bytes:
    record = model.graph_records(number)[index]
    return model.buffer[record.payload : record.end]


def _record(number: int, message: Message) -> bytes:
    return wire.bytes_field(number, message.SerializeToString())


def _behind(model: ModelFile, number: int, messages: Sequence[Message]) -> tuple[tuple[int, bytes], ...]:
    """New records behind all that there are."""
    end = len(model.graph_records(number))
    return tuple((end, _record(number, message)) for message in messages)


def _changed_node(model: ModelFile, record: Field, renames: Sequence[Rename], *, plain: bool) -> bytes:
    payload = model.buffer[record.payload : record.end]
    if plain:
        payload = _without_post_transform(payload)
    for rename in renames:
        payload = _rename_in_node(payload, _RENAMED_FIELD[rename.side], rename.old.encode(), rename.new.encode())
    return payload


def _without_post_transform(node: bytes) -> bytes:
    """A NodeProto whose post_transform is NONE, which is the default."""
    out = []
    for field in wire.fields(node, 0, len(node)):
        if field.number == NODE_ATTRIBUTE:
            parts = wire.fields(node, field.payload, field.end)
            if any(part.number == 1 and node[part.payload : part.end] == b"post_transform" for part in parts):
                continue
        out.append(node[field.start : field.end])
    return b"".join(out)


def _rename_in_node(node: bytes, number: int, old: bytes, new: bytes) -> bytes:
    """A NodeProto with a tensor renamed among its inputs (subgraphs included) or outputs; all else as it stands."""
    out = []
    for field in wire.fields(node, 0, len(node)):
        payload = node[field.payload : field.end]
        if field.number == number and payload == old:
            out.append(wire.bytes_field(number, new))
        elif field.number == NODE_ATTRIBUTE and number == NODE_INPUT and old in payload:
            out.append(wire.bytes_field(NODE_ATTRIBUTE, _rename_in_attribute(payload, old, new)))
        else:
            out.append(node[field.start : field.end])
    return b"".join(out)


def _rename_in_attribute(attribute: bytes, old: bytes, new: bytes) -> bytes:
    out = []
    for field in wire.fields(attribute, 0, len(attribute)):
        if field.number in ATTRIBUTE_GRAPHS and field.wire_type == BYTES:
            graph = _rename_in_graph(attribute[field.payload : field.end], old, new)
            out.append(wire.bytes_field(field.number, graph))
        else:
            out.append(attribute[field.start : field.end])
    return b"".join(out)


def _rename_in_graph(graph: bytes, old: bytes, new: bytes) -> bytes:
    if old.decode() in defined_in(onnx.GraphProto.FromString(skeleton(graph, 0, len(graph), "GraphProto"))):
        return graph
    out = []
    for field in wire.fields(graph, 0, len(graph)):
        if field.number == GRAPH_NODE and field.wire_type == BYTES:
            node = _rename_in_node(graph[field.payload : field.end], NODE_INPUT, old, new)
            out.append(wire.bytes_field(GRAPH_NODE, node))
        else:
            out.append(graph[field.start : field.end])
    return b"".join(out)


def _renamed_value(model: ModelFile, record: Field, new: str) -> bytes:
    value = model.buffer[record.payload : record.end]
    out = []
    for field in wire.fields(value, 0, len(value)):
        name = field.number == VALUE_INFO_NAME
        out.append(wire.bytes_field(VALUE_INFO_NAME, new.encode()) if name else value[field.start : field.end])
    return wire.bytes_field(GRAPH_OUTPUT, b"".join(out))
