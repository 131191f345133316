"""Two model files held against each other: element by element, and byte range by byte range.

Everything in a file is an element: each node, weight and entry, each other field, and the header of the graph itself
(its tag and length). Elements are paired by their bytes, then by name; what is equal and stands in one order in both
files is unchanged. Knows nothing of patches.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import onnx
from google.protobuf.message import DecodeError

from onnxcal.graph import wire
from onnxcal.graph.described import Element, described, differing
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.skeleton import (
    GRAPH_INITIALIZER,
    GRAPH_NODE,
    GRAPH_OUTPUT,
    GRAPH_VALUE_INFO,
    MODEL_GRAPH,
    MODEL_METADATA,
    MODEL_OPSET_IMPORT,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message

How: TypeAlias = Literal["added", "removed", "changed", "moved", "rewritten"]

_BLOCK = 1 << 22
_LONGEST_NAME = 60
_PARSED = 1 << 26
"""Bytes of the largest element that is parsed to see whether the same content is only written in another way."""
_IN_GRAPH: dict[int, tuple[str, type[Message]]] = {
    GRAPH_NODE: ("node", onnx.NodeProto),
    GRAPH_INITIALIZER: ("initializer", onnx.TensorProto),
    11: ("input", onnx.ValueInfoProto),
    GRAPH_OUTPUT: ("output", onnx.ValueInfoProto),
    GRAPH_VALUE_INFO: ("value_info", onnx.ValueInfoProto),
}
_IN_MODEL: dict[int, tuple[str, type[Message]]] = {
    MODEL_OPSET_IMPORT: ("opset_import", onnx.OperatorSetIdProto),
    MODEL_METADATA: ("metadata", onnx.StringStringEntryProto),
    25: ("function", onnx.FunctionProto),
}
_HEADER = "header"


@dataclass(frozen=True)
class Change:
    """One element that is not the same in both files."""

    kind: str
    """node, initializer, value_info, input, output, metadata, opset_import, function; or another field of the model
    (`model.producer_name`) or the graph (`graph.doc_string`)."""
    name: str
    """Its name, key or domain; empty for what has none."""
    how: How
    """`moved`: elsewhere among the others; `rewritten`: the same content in other bytes."""
    before: str | None = None
    """What it was, in a line; None where it was not, or where there is nothing to read."""
    after: str | None = None
    """What it is."""
    fields: tuple[str, ...] = ()
    """Which parts of it are others, where it was changed: `input 0`, `attribute 'axis'`."""

    @property
    def label(self) -> str:
        """What it is, in a word or two."""
        return _label(self.kind, self.name)


@dataclass(frozen=True)
class ByteChange:
    """A range of bytes that stands in place of another."""

    before: tuple[int, int]
    """[start, stop) in the first file; empty where something was added."""
    after: tuple[int, int]
    """[start, stop) in the second; empty where something was removed."""
    what: tuple[str, ...]
    """The elements there: `node 'fc'`, `the length of the graph`."""


@dataclass(frozen=True)
class Comparison:
    """What is not the same in two files."""

    changes: tuple[Change, ...]
    """By element, in the order of the second file, removed ones last."""
    byte_changes: tuple[ByteChange, ...]
    """By byte range, in order."""
    unchanged_ranges: int
    """Number of ranges, as long as they go, that are the same in both."""
    unchanged_bytes: int
    """Bytes in them."""


def compare(a: ModelFile, b: ModelFile) -> Comparison:
    """Hold two files against each other; memory stays at a few hundred bytes an element."""
    ours, theirs = list(_elements(a)), list(_elements(b))
    pairs = _pair(a, ours, b, theirs)
    equal = [(i, j) for i, j in pairs if _same(a, ours[i], b, theirs[j])]
    kept = _in_order(equal)
    changes = list(_changes(a, ours, b, theirs, pairs, set(equal), set(kept)))
    ranges, byte_changes = _ranges(a, ours, b, theirs, kept)
    return Comparison(tuple(changes), tuple(byte_changes), ranges, sum(ours[i].size for i, _ in kept))


@dataclass(frozen=True)
class _Piece:
    """An element where it lies: its field with tag and length."""

    kind: str
    start: int
    payload: int
    end: int
    proto: Element | None = None
    message: type[Message] | None = None

    @property
    def size(self) -> int:
        return self.end - self.start

    @property
    def name(self) -> str:
        value = getattr(self.proto, "name", None) or getattr(self.proto, "key", None)
        if isinstance(self.proto, onnx.OperatorSetIdProto):
            value = self.proto.domain or "ai.onnx"
        elif isinstance(self.proto, onnx.NodeProto):
            value = value or next(iter(self.proto.output), self.proto.op_type)
        return value.decode(errors="replace") if isinstance(value, bytes) else value or ""

    @property
    def label(self) -> str:
        if self.kind == _HEADER:
            return "the length of the graph"
        return _label(self.kind, self.name)


def _label(kind: str, name: str) -> str:
    shown = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
    return f"{kind} '{shown}'" if name else kind


def _elements(model: ModelFile) -> Iterator[_Piece]:
    """Everything in a file, from its first byte to its last."""
    in_model, in_graph = _protos(model.skeleton, _IN_MODEL), _protos(model.skeleton.graph, _IN_GRAPH)
    for field in model.top:
        if field.number == MODEL_GRAPH and field.wire_type == wire.BYTES:
            yield _Piece(_HEADER, field.start, field.payload, field.payload)
            for inner in wire.fields(model.buffer, field.payload, field.end):
                yield _piece(inner, "graph", _IN_GRAPH, in_graph, onnx.GraphProto)
        else:
            yield _piece(field, "model", _IN_MODEL, in_model, onnx.ModelProto)


def _protos(holder: Message, named: Mapping[int, tuple[str, type[Message]]]) -> dict[int, Iterator[Element]]:
    """What the skeleton holds of each repeated field, in the order in which the file has it."""
    names = holder.DESCRIPTOR.fields_by_number
    return {number: iter(getattr(holder, names[number].name)) for number in named}


def _piece(
    field: wire.Field,
    place: str,
    named: Mapping[int, tuple[str, type[Message]]],
    protos: dict[int, Iterator[Element]],
    holder: type[Message],
) -> _Piece:
    if field.number in named and field.wire_type == wire.BYTES:
        kind, message = named[field.number]
        return _Piece(kind, field.start, field.payload, field.end, next(protos[field.number]), message)
    known = holder.DESCRIPTOR.fields_by_number.get(field.number)
    name = f"field {field.number}" if known is None else known.name
    return _Piece(f"{place}.{name}", field.start, field.payload, field.end)


def _pair(a: ModelFile, ours: Sequence[_Piece], b: ModelFile, theirs: Sequence[_Piece]) -> list[tuple[int, int]]:
    """Positions of elements that are each other's counterpart: first by bytes, then by name, then by what they make."""

    def by_bytes(model: ModelFile, piece: _Piece) -> Hashable:
        return bytes(model.buffer[piece.start : piece.end]) if piece.size <= 4096 else None

    def by_name(model: ModelFile, piece: _Piece) -> Hashable:
        return getattr(piece.proto, "name", None) or (piece.name if piece.kind != "node" else None)

    def by_outputs(model: ModelFile, piece: _Piece) -> Hashable:
        return tuple(getattr(piece.proto, "output", ())) if piece.kind == "node" else None

    def by_inputs(model: ModelFile, piece: _Piece) -> Hashable:
        return (piece.proto.op_type, *piece.proto.input) if isinstance(piece.proto, onnx.NodeProto) else None

    def by_kind(model: ModelFile, piece: _Piece) -> Hashable:
        return "" if piece.proto is None else None

    keys: tuple[Callable[[ModelFile, _Piece], Hashable], ...] = (by_bytes, by_name, by_outputs, by_inputs, by_kind)
    pairs: list[tuple[int, int]] = []
    left, right = range(len(ours)), range(len(theirs))
    for key in keys:
        waiting: dict[Hashable, deque[int]] = {}
        for i in left:
            if (value := key(a, ours[i])) is not None:
                waiting.setdefault((ours[i].kind, value), deque()).append(i)
        unpaired = []
        for j in right:
            value = key(b, theirs[j])
            partners = None if value is None else waiting.get((theirs[j].kind, value))
            if partners:
                pairs.append((partners.popleft(), j))
            else:
                unpaired.append(j)
        paired = {i for i, _ in pairs}
        left, right = [i for i in left if i not in paired], unpaired  # type: ignore[assignment]
    return sorted(pairs, key=lambda pair: pair[1])


def _same(a: ModelFile, one: _Piece, b: ModelFile, other: _Piece) -> bool:
    if one.size != other.size:
        return False
    return all(
        a.buffer[one.start + at : min(one.start + at + _BLOCK, one.end)]
        == b.buffer[other.start + at : min(other.start + at + _BLOCK, other.end)]
        for at in range(0, one.size, _BLOCK)
    )


def _in_order(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """As many of these pairs as stand in one order in both files: the longest increasing subsequence."""
    ends: list[int] = []
    tails: list[int] = []
    before: list[int] = []
    for position, (i, _) in enumerate(pairs):
        length = bisect_left(ends, i)
        before.append(tails[length - 1] if length else -1)
        if length == len(ends):
            ends.append(i)
            tails.append(position)
        else:
            ends[length], tails[length] = i, position
    kept = []
    position = tails[-1] if tails else -1
    while position >= 0:
        kept.append(pairs[position])
        position = before[position]
    return kept[::-1]


def _changes(
    a: ModelFile,
    ours: Sequence[_Piece],
    b: ModelFile,
    theirs: Sequence[_Piece],
    pairs: Iterable[tuple[int, int]],
    equal: set[tuple[int, int]],
    kept: set[tuple[int, int]],
) -> Iterator[Change]:
    partner = {j: i for i, j in pairs}
    for j, piece in enumerate(theirs):
        if piece.kind == _HEADER:
            continue
        i = partner.get(j)
        if i is None:
            yield Change(piece.kind, piece.name, "added", after=_shown(b, piece))
        elif (i, j) not in equal:
            old = ours[i]
            before, after = _shown(a, old), _shown(b, piece)
            if _content(a, old) == _content(b, piece) is not None:
                yield Change(piece.kind, piece.name, "rewritten", before, after)
            else:
                fields = () if old.proto is None or piece.proto is None else differing(old.proto, piece.proto)
                yield Change(piece.kind, piece.name, "changed", before, after, fields or ("values",))
        elif (i, j) not in kept:
            yield Change(piece.kind, piece.name, "moved", _shown(a, ours[i]), _shown(b, piece))
    paired = set(partner.values())
    for i, piece in enumerate(ours):
        if i not in paired and piece.kind != _HEADER:
            yield Change(piece.kind, piece.name, "removed", before=_shown(a, piece))


def _content(model: ModelFile, piece: _Piece) -> bytes | None:
    """What an element says, however it is written; None where that is not known."""
    if piece.message is None or piece.size > _PARSED:
        return None
    try:
        parsed = piece.message.FromString(model.buffer[piece.payload : piece.end])
    except DecodeError:
        return None
    return parsed.SerializeToString(deterministic=True)


def _shown(model: ModelFile, piece: _Piece) -> str | None:
    if piece.proto is not None:
        return described(piece.proto)
    if wire.read_varint(model.buffer, piece.start, piece.end)[0] & 7 == wire.VARINT:
        return str(wire.read_varint(model.buffer, piece.payload, piece.end)[0])
    size = piece.end - piece.payload
    return bytes(model.buffer[piece.payload : piece.end]).decode(errors="replace") if size <= 64 else f"{size:,} bytes"


def _ranges(
    a: ModelFile, ours: Sequence[_Piece], b: ModelFile, theirs: Sequence[_Piece], kept: Sequence[tuple[int, int]]
) -> tuple[int, list[ByteChange]]:
    """How many unchanged ranges there are, and what stands between them."""
    changes: list[ByteChange] = []
    i = j = ranges = 0
    joined = False
    for next_i, next_j in [*kept, (len(ours), len(theirs))]:
        if next_i > i or next_j > j:
            labels = [piece.label for piece in theirs[j:next_j]]
            labels += [piece.label for piece in ours[i:next_i] if piece.label not in labels]
            changes.append(
                ByteChange(_span(a, ours, i, next_i), _span(b, theirs, j, next_j), tuple(dict.fromkeys(labels)))
            )
            joined = False
        if next_i < len(ours) and not joined:
            ranges, joined = ranges + 1, True
        i, j = next_i + 1, next_j + 1
    return ranges, changes


def _span(model: ModelFile, pieces: Sequence[_Piece], first: int, stop: int) -> tuple[int, int]:
    start = pieces[first].start if first < len(pieces) else model.size
    return start, pieces[stop - 1].end if stop > first else start
