"""Rows that are gathered piece by piece: in memory, and in a temporary file once they are many."""

from __future__ import annotations

import tempfile
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

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

    def __init__(self, expected: int = 0, most_bytes: int | None = None) -> None:
        """`expected` rows, if that is known; up to `most_bytes` stay in memory, default `SPOOL_BYTES`."""
        self._expected = expected
        self._most = SPOOL_BYTES if most_bytes is None else most_bytes
        self._rows = Column()
        self._empty: NDArray[Any] | None = None  # of the rows' shape and type
        self._bytes = 0
        self._file: IO[bytes] | None = None

    def append(self, rows: NDArray[Any]) -> None:
        """Take in a copy of some rows: what the session returned may be much larger than they are."""
        if self._empty is None and len(rows) and self._expected * (rows.nbytes // len(rows)) <= self._most:
            self._rows = Column(self._expected)
        self._bytes += rows.nbytes
        self._empty = rows[:0]
        if self._file is None and self._bytes > self._most:
            self._file = tempfile.TemporaryFile(prefix="onnxcal-")  # noqa: SIM115  the memory map keeps it
            for earlier in self._rows.take():
                self._file.write(np.ascontiguousarray(earlier).data)
        if self._file is None:
            self._rows.append(rows)
        else:
            self._file.write(np.ascontiguousarray(rows).data)

    def array(self) -> NDArray[Any]:
        """All rows, memory-mapped if they are on disk."""
        if self._file is None or self._empty is None:
            return joined(self._rows.take())
        self._file.flush()
        shape, dtype = self._empty.shape[1:], self._empty.dtype
        row_bytes = int(np.prod(shape)) * dtype.itemsize
        with self._file:  # the map outlives it
            return np.memmap(self._file, dtype, "r", shape=(self._bytes // row_bytes, *shape))
