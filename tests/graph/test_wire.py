"""The wire format, held against google.protobuf's own reader and writer."""

from __future__ import annotations

import pytest
from google.protobuf.internal import decoder, encoder
from hypothesis import given
from hypothesis import strategies as st

from onnxcal.graph import wire
from tests.corpus.wire import number

NUMBERS = st.integers(0, 2**64 - 1)


@given(NUMBERS)
def test_varint_is_what_protobuf_writes(value: int) -> None:
    assert wire.varint(value) == encoder._VarintBytes(value)


@given(NUMBERS, st.binary(max_size=12), st.binary(max_size=12))
def test_read_varint_is_what_protobuf_reads(value: int, before: bytes, after: bytes) -> None:
    buffer = before + encoder._VarintBytes(value) + after
    assert wire.read_varint(buffer, len(before), len(buffer)) == decoder._DecodeVarint(buffer, len(before))


@given(NUMBERS, st.integers(0, 10))
def test_padded_varint_means_the_same_number_in_at_least_that_width(value: int, width: int) -> None:
    padded = wire.padded_varint(value, width)
    assert decoder._DecodeVarint(padded, 0) == (value, len(padded))
    assert len(padded) == max(width, len(encoder._VarintBytes(value)))
    assert wire.read_varint(padded, 0, len(padded)) == (value, len(padded))


@pytest.mark.parametrize("bad", [b"", b"\x80", b"\xff" * 9, b"\x80" * 10 + b"\x00", b"\xff" * 11])
def test_numbers_that_are_cut_off_or_too_long_are_errors(bad: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.read_varint(bad, 0, len(bad))


def test_a_number_does_not_run_past_its_message() -> None:
    with pytest.raises(wire.WireError):
        wire.read_varint(b"\x80\x01", 0, 1)


FIELD = st.one_of(
    st.tuples(st.just(0), NUMBERS.map(lambda n: number(n))),
    st.tuples(st.just(1), st.binary(min_size=8, max_size=8)),
    st.tuples(st.just(2), st.binary(max_size=300)),
    st.tuples(st.just(5), st.binary(min_size=4, max_size=4)),
)


@given(st.lists(st.tuples(st.integers(1, 2**29 - 1), FIELD), max_size=8), st.binary(max_size=5))
def test_fields_cover_a_message_and_find_each_value(message: list, before: bytes) -> None:
    whole = bytearray(before)
    for field, (kind, payload) in message:
        whole += number(field << 3 | kind) + (number(len(payload)) if kind == 2 else b"") + payload
    found = list(wire.fields(bytes(whole), len(before), len(whole)))
    assert [(f.number, f.wire_type, bytes(whole[f.payload : f.end])) for f in found] == [
        (field, kind, payload) for field, (kind, payload) in message
    ]
    edges = [len(before), *(f.end for f in found)]
    assert [f.start for f in found] == edges[:-1]
    assert edges[-1] == len(whole)


@pytest.mark.parametrize(
    "bad",
    [
        b"\x00\x01",  # field number 0
        b"\x0a\x05abc",  # length past the end
        b"\x0d\x00\x00",  # four bytes cut off
        b"\x09" + bytes(7),  # eight bytes cut off
        b"\x08",  # number missing
        b"\x0e\x00",  # wire type 6
        b"\x0f\x00",  # wire type 7
        b"\x0a" + b"\xff" * 9 + b"\x01",  # length of 2⁶⁴ − 1
    ],
)
def test_what_is_no_message_is_an_error(bad: bytes) -> None:
    with pytest.raises(wire.WireError):
        list(wire.fields(bad, 0, len(bad)))


@given(st.binary(max_size=60))
def test_any_bytes_are_fields_or_a_wire_error(data: bytes) -> None:
    try:
        found = list(wire.fields(data, 0, len(data)))
    except wire.WireError:
        return
    assert b"".join(data[f.start : f.end] for f in found) == data


@given(st.integers(1, 2**29 - 1), st.binary(max_size=300))
def test_bytes_field_reads_back(field: int, payload: bytes) -> None:
    made = wire.bytes_field(field, payload)
    [found] = wire.fields(made, 0, len(made))
    assert (found.number, made[found.payload : found.end]) == (field, payload)


def test_groups_are_fields_like_any_other() -> None:
    """Old, but legal: protobuf parsers skip unknown groups, nested ones too, and keep them."""
    inner = number(7 << 3 | 3) + number(1 << 3) + number(5) + number(7 << 3 | 4)
    group = number(9 << 3 | 3) + inner + number(9 << 3 | 4)
    message = number(1 << 3) + number(1) + group + number(2 << 3) + number(2)
    found = list(wire.fields(message, 0, len(message)))
    assert [field.number for field in found] == [1, 9, 2]
    assert message[found[1].start : found[1].end] == group
