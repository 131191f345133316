"""The protobuf wire format: varints, fields, and lengths. Knows nothing of ONNX.

Source: the encoding page of the protocol buffers documentation (https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple, TypeAlias

Buffer: TypeAlias = bytes | mmap

VARINT, FIXED64, BYTES, GROUP_START, GROUP_END, FIXED32 = range(6)
_FIXED_SIZES = {FIXED64: 8, FIXED32: 4}


class WireError(ValueError):
    """The bytes are no protobuf message."""


class Field(NamedTuple):
    """Where one field of a message lies; all positions are offsets into the buffer."""

    number: int
    """Field number, ≥ 1."""
    wire_type: int
    """`VARINT`, `FIXED64`, `BYTES`, `GROUP_START` (the whole group) or `FIXED32`."""
    start: int
    """Where the tag begins."""
    payload: int
    """Where the value begins: behind the tag, and behind the length of `BYTES`."""
    end: int
    """One past the last byte."""


def read_varint(buffer: Buffer, position: int, limit: int) -> tuple[int, int]:
    """The unsigned varint at `position`, and the position behind it.

    Raises
    ------
    WireError
        It runs past `limit`, or is longer than ten bytes.
    """
    value = 0
    for shift in range(0, 70, 7):
        if position >= limit:
            raise WireError(f"a number at byte {position} is cut off")
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise WireError(f"a number at byte {position} is too long")


def varint(value: int) -> bytes:
    """`value` ≥ 0 as a varint of the least length."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def padded_varint(value: int, width: int) -> bytes:
    """`value` as a varint of at least `width` bytes, as streaming writers that fill in lengths later write them."""
    short = varint(value)
    if len(short) >= width:
        return short
    return short[:-1] + bytes([short[-1] | 0x80]) + b"\x80" * (width - len(short) - 1) + b"\x00"


def fields(buffer: Buffer, start: int, end: int) -> Iterator[Field]:
    """The fields of the message in `buffer[start:end]`, in the order in which they stand.

    Raises
    ------
    WireError
        A field runs past the end, or has a tag that protobuf does not know.
    """
    position = start
    while position < end:
        tag, value = read_varint(buffer, position, end)
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise WireError(f"field number 0 at byte {position}")
        payload = value
        if wire_type == BYTES:
            length, payload = read_varint(buffer, value, end)
            stop = payload + length
        elif wire_type == VARINT:
            _, stop = read_varint(buffer, value, end)
        elif wire_type in _FIXED_SIZES:
            stop = value + _FIXED_SIZES[wire_type]
        elif wire_type == GROUP_START:
            stop = _end_of_group(buffer, value, end, number)
        else:
            raise WireError(f"wire type {wire_type} at byte {position}")
        if stop > end:
            raise WireError(f"field {number} at byte {position} runs past the end of its message")
        yield Field(number, wire_type, position, payload, stop)
        position = stop


def _end_of_group(buffer: Buffer, position: int, end: int, number: int) -> int:
    """One past the tag that closes group `number` (deprecated, but legal in unknown fields)."""
    depth = [number]
    while depth:
        key, position = read_varint(buffer, position, end)
        inner, wire_type = key >> 3, key & 7
        if wire_type == GROUP_START:
            depth.append(inner)
        elif wire_type == GROUP_END:
            if depth.pop() != inner:
                raise WireError(f"group {inner} at byte {position} is closed, but was not opened")
        elif wire_type == VARINT:
            _, position = read_varint(buffer, position, end)
        elif wire_type == BYTES:
            length, position = read_varint(buffer, position, end)
            position += length
        elif wire_type in _FIXED_SIZES:
            position += _FIXED_SIZES[wire_type]
        else:
            raise WireError(f"wire type {wire_type} at byte {position}")
        if position > end:
            raise WireError(f"group {number} runs past the end of its message")
    return position


def tag(number: int, wire_type: int) -> bytes:
    """The tag that opens a field."""
    return varint(number << 3 | wire_type)


def bytes_field(number: int, payload: bytes) -> bytes:
    """A whole field of wire type `BYTES`: a string, bytes, or an embedded message."""
    return tag(number, BYTES) + varint(len(payload)) + payload
