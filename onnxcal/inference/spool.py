"""What a pass over the data gathers: rows, in memory or on disk, and digests of what was fed."""

from __future__ import annotations

import hashlib
import tempfile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.inference.feeds import Feed
from onnxcal.logits import FloatArray

SPOOL_BYTES = 1 << 30
"""Logits beyond this size are kept in a temporary file."""
_PIECE_BYTES = 1 << 20


class Column:
    """Arrays one behind the other, copied into large pieces: what is small costs no more than its bytes.

    `expected` is how long the whole will be, if that is known: it is then one piece, whose memory is used as it fills.
    """

    def __init__(self, expected: int = 0) -> None:
        self.pieces: list[NDArray[Any]] = []
        self._expected = expected
        self._last = np.empty(0)
        self._used = 0

    def append(self, array: NDArray[Any]) -> None:
        """Take in a copy; what differs in type or in shape behind the first axis begins a piece of its own."""
        while len(array):
            last = self._last
            if self._used == len(last) or array.dtype != last.dtype or array.shape[1:] != last.shape[1:]:
                self._close()
                room = max(1, _PIECE_BYTES // max(1, array.nbytes // len(array)))
                last = self._last = np.empty((max(room, self._expected), *array.shape[1:]), array.dtype)
                self._expected = 0
            count = min(len(array), len(last) - self._used)
            last[self._used : self._used + count] = array[:count]
            self._used += count
            array = array[count:]

    def take(self) -> list[NDArray[Any]]:
        """All pieces, in order; they are no longer here."""
        self._close()
        pieces, self.pieces = self.pieces, []
        self._last = np.empty(0)
        return pieces

    def _close(self) -> None:
        if self._used:
            self.pieces.append(self._last[: self._used])
        self._used = 0


def joined(pieces: list[NDArray[Any]]) -> NDArray[Any]:
    """Pieces of one kind as one array: the piece itself, where it is the only one and not mostly empty."""
    if len(pieces) > 1:
        return np.concatenate(pieces)
    (piece,) = pieces
    return piece if piece.base is None or 2 * piece.nbytes > piece.base.nbytes else piece.copy()


class Spool:
    """Rows in memory, and in a temporary file once they are many."""

    def __init__(self, expected: int = 0) -> None:
        self._expected = expected
        self._rows = Column()
        self._empty: FloatArray | None = None  # of the rows' shape and type
        self._bytes = 0
        self._file: IO[bytes] | None = None

    def append(self, rows: FloatArray) -> None:
        """Take in a copy of some rows: what the session returned may be much larger than they are."""
        if self._empty is None and len(rows) and self._expected * (rows.nbytes // len(rows)) <= SPOOL_BYTES:
            self._rows = Column(self._expected)
        self._bytes += rows.nbytes
        self._empty = rows[:0]
        if self._file is None and self._bytes > SPOOL_BYTES:
            self._file = tempfile.TemporaryFile(prefix="onnxcal-")  # noqa: SIM115  the memory map keeps it
            for earlier in self._rows.take():
                self._file.write(np.ascontiguousarray(earlier).data)
        if self._file is None:
            self._rows.append(rows)
        else:
            self._file.write(np.ascontiguousarray(rows).data)

    def array(self) -> FloatArray:
        """All rows, memory-mapped if they are on disk."""
        if self._file is None or self._empty is None:
            return joined(self._rows.take())
        self._file.flush()
        shape, dtype = self._empty.shape[1:], self._empty.dtype
        row_bytes = int(np.prod(shape)) * dtype.itemsize
        with self._file:  # the map outlives it
            return np.memmap(self._file, dtype, "r", shape=(self._bytes // row_bytes, *shape))


class Digests:
    """SHA-256 of each input and of the labels, the same for any batch size."""

    def __init__(self) -> None:
        self._by_name: dict[str, Any] = {}

    def update(self, feed: Feed, labels: NDArray[Any]) -> None:
        """Take in those samples of some runs that count."""
        for name, array in {**feed.arrays, "": labels}.items():
            digest = self._by_name.setdefault(name, hashlib.sha256())
            part = np.ascontiguousarray(array[: feed.size])
            if part.dtype.kind in "USO":  # strings; a length before each keeps ("ab", "c") from being ("a", "bc")
                texts = [str(item).encode() for item in part.reshape(-1)]
                digest.update(b"".join(len(text).to_bytes(8, "little") + text for text in texts))
            else:
                digest.update(part.view(np.uint8).data)

    def hexdigest(self) -> str:
        """Of all inputs and labels."""
        whole = hashlib.sha256()
        for name in sorted(self._by_name):
            whole.update(name.encode() + b"\0" + self._by_name[name].digest())
        return whole.hexdigest()
