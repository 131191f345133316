"""A second, smaller reader and writer of the wire format, so that tests need not believe onnxcal's."""

from __future__ import annotations

from collections.abc import Iterator


def number(value: int, *, width: int = 0) -> bytes:
    """A varint; padded with empty groups to `width` bytes."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F)
    groups += [0] * (width - len(groups))
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])


def record(field: int, payload: bytes, *, width: int = 0) -> bytes:
    """A length-delimited field."""
    return number(field << 3 | 2) + number(len(payload), width=width) + payload


def records(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(field number, the whole field, its payload) of each field."""
    at = 0
    while at < len(message):
        start = at
        tag, at = _read(message, at)
        kind = tag & 7
        begin = at
        if kind == 0:
            _, at = _read(message, at)
        elif kind == 2:
            length, begin = _read(message, at)
            at = begin + length
        else:
            at += {1: 8, 5: 4}[kind]
        yield tag >> 3, message[start:at], message[begin:at]


def graph_records(model: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """The fields of the main graph, through all its parts."""
    for field, _, payload in records(model):
        if field == 7:
            yield from records(payload)


def _read(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
