"""A patch as an edit of byte ranges, and the undo that takes it out again.

An edit is recorded by field and position in its repeated field (node 17, output 0), not by byte offset: so it can be
taken out even after another tool has written the file anew, as long as the graph is the same.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from onnxcal.errors import ModelError
from onnxcal.graph import wire
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.plan import PatchPlan, Rename
from onnxcal.graph.skeleton import (
    ATTRIBUTE_GRAPHS,
    GRAPH_INITIALIZER,
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
from onnxcal.graph.write import Piece

_RECORDS: dict[int, type[onnx.NodeProto] | type[onnx.TensorProto] | type[onnx.ValueInfoProto]] = {
    GRAPH_NODE: onnx.NodeProto,
    GRAPH_INITIALIZER: onnx.TensorProto,
    GRAPH_OUTPUT: onnx.ValueInfoProto,
    GRAPH_VALUE_INFO: onnx.ValueInfoProto,
}
_RENAMED_FIELD = {"input": NODE_INPUT, "output": NODE_OUTPUT}


@dataclass(frozen=True)
class FieldEdit:
    """What changes in one repeated field of the graph; positions are those before the edit."""

    inserted: tuple[tuple[int, bytes], ...] = ()
    """(position to insert before, whole record); records with one position stand in this order."""
    replaced: tuple[tuple[int, bytes], ...] = ()
    """(position, whole new record)."""
    removed: tuple[int, ...] = ()
    """Positions to leave out."""


@dataclass(frozen=True)
class GraphEdit:
    """What changes in the main graph: one `FieldEdit` by field number."""

    fields: Mapping[int, FieldEdit]
    """By field number of GraphProto."""

    def pieces(self, model: ModelFile, *, lengths: Sequence[int] | None = None) -> list[Piece]:
        """The edited file as new bytes and ranges of the old one.

        `lengths` are the bytes that the length of each graph field takes where it stands; None keeps what it takes now,
        if it is padded, else as few as it needs.
        """
        splices = sorted(self._splices(model), key=lambda splice: (splice[0], splice[1]))
        pieces: list[Piece] = []
        position = 0
        for number, graph in enumerate(model.graphs):
            inside = [s for s in splices if graph.payload <= s[0] <= graph.end]
            grown = sum(len(new) - (stop - start) for start, stop, new in inside)
            width = lengths[number] if lengths is not None else padding(model, graph)
            header = _tag_bytes(model, graph) + wire.padded_varint(graph.end - graph.payload + grown, width)
            pieces += [(position, graph.start), header]
            position = graph.payload
            for start, stop, new in inside:
                pieces += [(position, start), new]
                position = stop
        pieces.append((position, model.size))
        return [piece for piece in pieces if isinstance(piece, bytes) or piece[0] < piece[1]]

    def undo(self, model: ModelFile) -> dict[str, Any]:
        """What takes the edit out of the edited model, as JSON: positions there, and the old records."""
        changed: dict[str, Any] = {}
        for number, edit in self.fields.items():
            records = model.graph_records(number)
            added, old = [], []
            for shift, (position, record) in enumerate(sorted(edit.inserted, key=lambda entry: entry[0])):
                added.append([position + shift, _fingerprint(number, record)])
            for index, record in edit.replaced:
                moved = index + sum(1 for position, _ in edit.inserted if position <= index)
                before = model.buffer[records[index].start : records[index].end]
                old.append([moved, _fingerprint(number, record), base64.b64encode(before).decode()])
            if added or old:
                changed[str(number)] = {"added": added, "old": old}
        return {"graph": changed, "lengths": [padding(model, graph) for graph in model.graphs]}

    def _splices(self, model: ModelFile) -> list[tuple[int, int, bytes]]:
        """(start, stop, new bytes) for each change; insertions at one place are joined."""
        splices: list[tuple[int, int, bytes]] = []
        insertions: dict[int, list[bytes]] = {}
        for number in (GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_OUTPUT, GRAPH_VALUE_INFO):
            edit = self.fields.get(number, FieldEdit())
            records = model.graph_records(number)
            changed = [*edit.replaced, *((index, b"") for index in edit.removed)]
            splices += [(records[index].start, records[index].end, new) for index, new in changed]
            for index, new in sorted(edit.inserted, key=lambda entry: entry[0]):
                insertions.setdefault(_place(model, records, index), []).append(new)
        return splices + [(place, place, b"".join(new)) for place, new in insertions.items()]


def edit_for(model: ModelFile, plan: PatchPlan) -> GraphEdit:
    """The byte-level form of a plan."""
    renames: dict[int, list[Rename]] = {}
    for rename in plan.renames:
        renames.setdefault(rename.node, []).append(rename)
    plain = {transform.node for transform in plan.transforms}
    nodes = model.graph_records(GRAPH_NODE)
    outputs = model.graph_records(GRAPH_OUTPUT)
    value_infos = len(model.graph_records(GRAPH_VALUE_INFO))
    initializers = len(model.graph_records(GRAPH_INITIALIZER))
    return GraphEdit(
        {
            GRAPH_NODE: FieldEdit(
                inserted=tuple(
                    (i.before, wire.bytes_field(GRAPH_NODE, i.node.SerializeToString())) for i in plan.insertions
                ),
                replaced=tuple(
                    (i, _changed_node(model, nodes[i], renames.get(i, ()), plain=i in plain))
                    for i in sorted({*renames, *plain})
                ),
            ),
            GRAPH_INITIALIZER: FieldEdit(
                inserted=tuple(
                    (initializers, wire.bytes_field(GRAPH_INITIALIZER, tensor.SerializeToString()))
                    for tensor in plan.initializers
                )
            ),
            GRAPH_OUTPUT: FieldEdit(
                inserted=tuple(
                    (len(outputs), wire.bytes_field(GRAPH_OUTPUT, value.SerializeToString()))
                    for value in plan.new_outputs
                ),
                replaced=tuple((i, _renamed_value(model, outputs[i], new)) for i, new in plan.renamed_outputs),
            ),
            GRAPH_VALUE_INFO: FieldEdit(
                inserted=tuple(
                    (value_infos, wire.bytes_field(GRAPH_VALUE_INFO, value.SerializeToString()))
                    for value in plan.value_infos
                )
            ),
        }
    )


def undo_edit(model: ModelFile, undo: Mapping[str, Any]) -> tuple[GraphEdit, list[int]]:
    """The edit that takes a patch out of a patched model, and the lengths' widths of the original.

    Raises
    ------
    ModelError
        The record is not whole, or does not fit the graph: it was changed after it was patched.
    """
    try:
        fields = {}
        for number, change in undo["graph"].items():
            added = [(int(i), str(mark)) for i, mark in change["added"]]
            old = [(int(i), str(mark), base64.b64decode(record)) for i, mark, record in change["old"]]
            _check_unmoved(model, int(number), [*added, *((i, mark) for i, mark, _ in old)])
            fields[int(number)] = FieldEdit(
                replaced=tuple((i, record) for i, _, record in old), removed=tuple(i for i, _ in added)
            )
        return GraphEdit(fields), [int(width) for width in undo["lengths"]]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ModelError(
            f"{model.name} was patched by onnxcal, but its graph was changed since: the patch cannot be taken out",
            hint="use the model it was made from",
        ) from None


def _check_unmoved(model: ModelFile, number: int, marks: Sequence[tuple[int, str]]) -> None:
    """Raise ValueError unless the records that the patch wrote still stand where it put them."""
    records = model.graph_records(number)
    for index, mark in marks:
        if not 0 <= index < len(records):
            raise ValueError(f"no record {index}")
        if _fingerprint(number, model.buffer[records[index].start : records[index].end]) != mark:
            raise ValueError(f"record {index} is another one")


def _fingerprint(number: int, record: bytes) -> str:
    """Of a graph record's content, however it is encoded; large tensors inside do not count."""
    kind = _RECORDS[number]
    field = next(wire.fields(record, 0, len(record)))
    content = skeleton(record, field.payload, field.end, kind.DESCRIPTOR.name)
    return hashlib.sha256(kind.FromString(content).SerializeToString(deterministic=True)).hexdigest()[:16]


def padding(model: ModelFile, field: Field) -> int:
    """Bytes that the length of a field takes where it is padded; 0 where it takes as few as it needs."""
    width = field.payload - field.start - len(_tag_bytes(model, field))
    return width if width > len(wire.varint(field.end - field.payload)) else 0


def _tag_bytes(model: ModelFile, field: Field) -> bytes:
    _, behind = wire.read_varint(model.buffer, field.start, field.end)
    return model.buffer[field.start : behind]


def _place(model: ModelFile, records: list[Field], index: int) -> int:
    """Where a new record goes: before the record at `index`, or behind the last one, or at the end of the graph."""
    if index < len(records):
        return records[index].start
    return records[-1].end if records else model.graphs[-1].end


def _changed_node(model: ModelFile, record: Field, renames: Sequence[Rename], *, plain: bool) -> bytes:
    payload = model.buffer[record.payload : record.end]
    if plain:
        payload = _without_post_transform(payload)
    for rename in renames:
        payload = _rename_in_node(payload, _RENAMED_FIELD[rename.side], rename.old.encode(), rename.new.encode())
    return wire.bytes_field(GRAPH_NODE, payload)


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
