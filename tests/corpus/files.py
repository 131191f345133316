"""Files that mean the same as an ordinary model, but are written as no `SerializeToString` would: `FILES`."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.builders import classifier, softmax
from tests.corpus.form import Form
from tests.corpus.wire import number, record, records

FILES: list[Form] = []


def file(function: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Add the file that a function makes of an ordinary one to `FILES`: with a Softmax, and with raw logits."""
    name = function.__name__.replace("_", " ")
    with_softmax = classifier([softmax()], output="probs", ir_version=10)
    raw = classifier(ir_version=10)
    for model in (with_softmax, raw):
        model.metadata_props.add(key="author", value="somebody")
        model.doc_string = "about"
    FILES.append(Form(name, function(with_softmax.SerializeToString())))
    FILES.append(Form(f"{name}, raw logits", function(raw.SerializeToString()), output="logits", activation="none"))
    return function


def in_graph(model: bytes, change: Callable[[bytes], bytes], *, width: int = 0) -> bytes:
    """The model with its graph changed."""
    return b"".join(
        record(7, change(payload), width=width) if field == 7 else whole for field, whole, payload in records(model)
    )


@file
def padded_length_of_the_graph(model: bytes) -> bytes:
    return in_graph(model, lambda graph: graph, width=5)


@file
def padded_lengths_everywhere(model: bytes) -> bytes:
    def padded(message: bytes, depth: int) -> bytes:
        return b"".join(
            record(field, padded(payload, depth - 1) if depth and nested(field, depth) else payload, width=3)
            if whole[0] & 7 == 2
            else whole
            for field, whole, payload in records(message)
        )

    def nested(field: int, depth: int) -> bool:
        return field == 7 if depth == 2 else field in (1, 11, 12)

    return padded(model, 2)


@file
def padded_tags_and_numbers(model: bytes) -> bytes:
    """Every top-level tag and number takes one byte more than it needs."""
    out = b""
    for field, whole, payload in records(model):
        kind = whole[0] & 7
        out += number(field << 3 | kind, width=2)
        out += number(len(payload), width=4) + payload if kind == 2 else payload[:-1] + bytes([payload[-1] | 0x80, 0])
    return out


@file
def graph_in_two_parts(model: bytes) -> bytes:
    def split(graph: bytes) -> tuple[bytes, bytes]:
        parts = [whole for _, whole, _ in records(graph)]
        return b"".join(parts[: len(parts) // 2]), b"".join(parts[len(parts) // 2 :])

    out = b""
    for field, whole, payload in records(model):
        if field == 7:
            first, second = split(payload)
            out += record(7, first) + record(99, b"between the parts") + record(7, second, width=4)
        else:
            out += whole
    return out


@file
def graph_in_many_parts_some_empty(model: bytes) -> bytes:
    out = b""
    for field, whole, payload in records(model):
        if field == 7:
            out += record(7, b"") + b"".join(record(7, part) + record(7, b"") for _, part, _ in records(payload))
        else:
            out += whole
    return out


@file
def fields_in_another_order(model: bytes) -> bytes:
    def shuffled(message: bytes) -> bytes:
        groups: dict[int, list[bytes]] = {}
        for field, whole, _ in records(message):
            groups.setdefault(field, []).append(whole)
        order = sorted(groups)
        random.Random(3).shuffle(order)
        return b"".join(b"".join(groups[field]) for field in order)

    return shuffled(in_graph(model, shuffled))


@file
def fields_interleaved(model: bytes) -> bytes:
    """Repeated fields are not contiguous: weights stand between nodes, outputs between weights."""

    def interleaved(graph: bytes) -> bytes:
        groups: dict[int, list[bytes]] = {}
        for field, whole, _ in records(graph):
            groups.setdefault(field, []).append(whole)
        out = b""
        while any(groups.values()):
            for wholes in groups.values():
                out += wholes.pop(0) if wholes else b""
        return out

    return in_graph(model, interleaved)


@file
def unknown_fields(model: bytes) -> bytes:
    unknown = record(900, b"\x00\xffpayload") + number(901 << 3) + number(7) + number(902 << 3 | 5) + b"four"
    unknown += number(903 << 3 | 1) + b"eight___"
    inside = in_graph(model, lambda graph: unknown + graph + unknown)
    nodes = in_graph(
        inside,
        lambda graph: b"".join(
            record(1, payload + unknown) if field == 1 else whole for field, whole, payload in records(graph)
        ),
    )
    return unknown + nodes + unknown


@file
def unknown_fields_between_nodes(model: bytes) -> bytes:
    return in_graph(model, lambda graph: b"".join(record(700, b"x") + whole for _, whole, _ in records(graph)))


@file
def names_written_twice(model: bytes) -> bytes:
    """Of a field that is not repeated the last one counts (protobuf encoding, "Last One Wins")."""

    def twice(graph: bytes) -> bytes:
        out = b""
        for field, whole, payload in records(graph):
            if field == 1:
                own = next((p for f, _, p in records(payload) if f == 3), b"")
                payload = record(3, b"first name") + payload + record(3, own + b" at last")
                whole = record(1, payload)
            elif field == 12:
                whole = record(12, record(1, b"not the name") + payload)
            out += whole
        return out

    return in_graph(model, twice)


@file
def metadata_before_the_graph(model: bytes) -> bytes:
    parts = list(records(model))
    return b"".join(whole for field, whole, _ in parts if field == 14) + b"".join(
        whole for field, whole, _ in parts if field != 14
    )


@file
def numbers_where_records_should_be(model: bytes) -> bytes:
    """A field of the right number and the wrong wire type is unknown to protobuf, and is no element of the list."""
    stray = b"".join(number(field << 3) + number(5) for field in (1, 5, 12, 13))
    return in_graph(model, lambda graph: stray + graph) + number(14 << 3) + number(5)


@file
def names_that_are_not_utf8(model: bytes) -> bytes:
    assert model.count(b"logits") >= 1
    return in_graph(model, lambda graph: graph.replace(b"\x02fc", b"\x02\xff\xfe"))
