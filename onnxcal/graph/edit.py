"""An edit of byte ranges, and the undo that takes it out again; `records.py` makes the edit of a patch.

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
from onnxcal.graph.skeleton import (
    GRAPH_INITIALIZER,
    GRAPH_INPUT,
    GRAPH_NODE,
    GRAPH_OUTPUT,
    GRAPH_VALUE_INFO,
    skeleton,
)
from onnxcal.graph.wire import Field
from onnxcal.graph.write import Piece

_RECORDS: dict[int, type[onnx.NodeProto] | type[onnx.TensorProto] | type[onnx.ValueInfoProto]] = {
    GRAPH_NODE: onnx.NodeProto,
    GRAPH_INITIALIZER: onnx.TensorProto,
    GRAPH_INPUT: onnx.ValueInfoProto,
    GRAPH_OUTPUT: onnx.ValueInfoProto,
    GRAPH_VALUE_INFO: onnx.ValueInfoProto,
}


@dataclass(frozen=True)
class FieldEdit:
    """What changes in one repeated field of the graph; positions are those before the edit."""

    inserted: tuple[tuple[int, bytes], ...] = ()
    """(position to insert before, whole record); records with one position stand in this order."""
    replaced: tuple[tuple[int, bytes], ...] = ()
    """(position, whole new record)."""
    removed: tuple[int, ...] = ()
    """Positions to leave out."""
    folded: frozenset[int] = frozenset()
    """Those of the replaced whose old record is not kept: numbers were divided, which cannot be undone exactly."""


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
                added.append([position + shift, fingerprint(number, record)])
            for index, record in edit.replaced:
                moved = index + sum(1 for position, _ in edit.inserted if position <= index)
                mark = fingerprint(number, record)
                before = base64.b64encode(model.buffer[records[index].start : records[index].end]).decode()
                old.append([moved, mark, None, index] if index in edit.folded else [moved, mark, before])
            if added or old:
                changed[str(number)] = {"added": added, "old": old}
        return {"graph": changed, "lengths": [padding(model, graph) for graph in model.graphs]}

    def _splices(self, model: ModelFile) -> list[tuple[int, int, bytes]]:
        """(start, stop, new bytes) for each change; insertions at one place are joined."""
        splices: list[tuple[int, int, bytes]] = []
        insertions: dict[int, list[bytes]] = {}
        for number in _RECORDS:
            edit = self.fields.get(number, FieldEdit())
            records = model.graph_records(number)
            changed = [*edit.replaced, *((index, b"") for index in edit.removed)]
            splices += [(records[index].start, records[index].end, new) for index, new in changed]
            for index, new in sorted(edit.inserted, key=lambda entry: entry[0]):
                insertions.setdefault(_place(model, records, index), []).append(new)
        return splices + [(place, place, b"".join(new)) for place, new in insertions.items()]


def undo_edit(
    model: ModelFile, undo: Mapping[str, Any], original: ModelFile | None = None
) -> tuple[GraphEdit, list[int]]:
    """The edit that takes a patch out of a patched model, and the lengths' widths of the original.

    Weights that T was folded into are taken from the original.

    Raises
    ------
    ModelError
        The record is not whole, or does not fit the graph: it was changed after it was patched. T was folded into
        weights, and there is no original.
    """
    try:
        fields = {}
        for number, change in undo["graph"].items():
            added = [(int(i), str(mark)) for i, mark in change["added"]]
            old = [
                (int(i), str(mark), _old_record(model, int(number), original, *kept))
                for i, mark, *kept in change["old"]
            ]
            _check_unmoved(model, int(number), [*added, *((i, mark) for i, mark, _ in old)])
            fields[int(number)] = FieldEdit(
                replaced=tuple((i, record) for i, _, record in old), removed=tuple(i for i, _ in added)
            )
        return GraphEdit(fields), [int(width) for width in undo["lengths"]]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        raise ModelError(
            f"{model.name} was patched by onnxcal, but its graph was changed since: the patch cannot be taken out",
            hint="use the model it was made from",
        ) from None


def is_folded(undo: Mapping[str, Any]) -> bool:
    """Whether an undo needs the original, for T was folded into weights."""
    try:
        return any(kept[0] is None for change in undo["graph"].values() for _, _, *kept in change["old"])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return False


def _old_record(
    model: ModelFile, number: int, original: ModelFile | None, record: str | None, index: int | None = None
) -> bytes:
    if record is not None:
        return base64.b64decode(record)
    if original is None:
        raise ModelError(
            f"T is folded into the weights of {model.name}, and cannot be taken out of them exactly",
            hint="start from the model it was made from; onnxcal revert takes it with --original MODEL",
        )
    if type(index) is not int or index < 0:
        raise ValueError(f"no position of a folded tensor: {index!r}")
    field = original.graph_records(number)[index]
    return original.buffer[field.start : field.end]


def _check_unmoved(model: ModelFile, number: int, marks: Sequence[tuple[int, str]]) -> None:
    """Raise ValueError unless the records that the patch wrote still stand where it put them."""
    records = model.graph_records(number)
    for index, mark in marks:
        if not 0 <= index < len(records):
            raise ValueError(f"no record {index}")
        if fingerprint(number, model.buffer[records[index].start : records[index].end]) != mark:
            raise ValueError(f"record {index} is another one")


def fingerprint(number: int, record: bytes) -> str:
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
