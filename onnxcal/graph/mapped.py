"""The bytes of a model, memory-mapped, and their digest; light, so that a digest can be on its way before onnx is."""

from __future__ import annotations

import hashlib
import mmap
import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from onnxcal.errors import ModelError
from onnxcal.graph.background import Job
from onnxcal.graph.wire import Buffer

_READ_BYTES = 1 << 21
_MAP_BYTES = 1 << 24


@dataclass(frozen=True)
class ModelBytes:
    """The bytes of a model, which are never all in memory unless they came so."""

    name: str
    """How messages call the model."""
    buffer: Buffer = field(repr=False)
    """Its bytes, usually memory-mapped."""
    path: Path | None = None
    """The file that holds exactly these bytes; None if there is none."""
    folder: Path | None = None
    """Where its external data lie; None if it has no place on disk."""

    descriptor: int | None = field(default=None, repr=False)
    """The file, open for `os.preadv`; None where there is none."""

    def read(self, start: int, stop: int) -> Iterator[memoryview]:
        """The bytes of `[start, stop)` in pieces, each valid until the next; nothing stays in mapped memory.

        Raises
        ------
        ModelError
            The file cannot be read any more, or became shorter.
        """
        if self.descriptor is None:
            yield memoryview(self.buffer)[start:stop]
            return
        block = memoryview(bytearray(min(_READ_BYTES, stop - start)))
        while start < stop:
            try:
                count = os.preadv(self.descriptor, [block[: stop - start]], start)
            except OSError as error:
                raise ModelError(f"cannot read model {self.name}: {error.strerror}", hint="check the disk") from None
            if count == 0:
                raise ModelError(f"{self.name} became shorter while it was read", hint="leave it alone meanwhile")
            yield block[:count]
            start += count

    def _mapped(self) -> Iterator[memoryview]:
        """All bytes in pieces large enough that a busy interpreter does not slow down who works through them."""
        view = memoryview(self.buffer)
        for start in range(0, len(view), _MAP_BYTES):
            yield view[start : start + _MAP_BYTES]
            if isinstance(self.buffer, mmap.mmap) and hasattr(self.buffer, "madvise"):
                self.buffer.madvise(mmap.MADV_DONTNEED, start, min(_MAP_BYTES, len(view) - start))

    @property
    def sha256(self) -> str:
        """Digest of the bytes that were opened, whatever stands at the path by now; without external data."""
        return self._digest.result()

    def start_digest(self) -> None:
        """Take the digest on another core while other work is done; a process that ends does not wait for it."""
        _ = self._digest

    @cached_property
    def _digest(self) -> Job[str]:
        def take() -> str:
            digest = hashlib.sha256()
            for piece in self._mapped():
                digest.update(piece)
            return digest.hexdigest()

        return Job(take)


def map_file(path: str | os.PathLike[str]) -> ModelBytes:
    """Map a file.

    Raises
    ------
    ModelError
        It is empty, or cannot be read.
    """
    try:
        path = Path(path)
    except TypeError:
        raise ModelError(
            f"a model of type {type(path).__name__} cannot be read", hint="pass a path, or an onnx.ModelProto"
        ) from None
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise ModelError(f"'{path}' is empty", hint="pass an .onnx file, complete")
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            descriptor = os.dup(file.fileno()) if hasattr(os, "preadv") else None
    except IsADirectoryError:
        raise ModelError(f"'{path}' is a folder, expected an .onnx file", hint="pass the file inside it") from None
    except OSError as error:
        raise ModelError(f"cannot read model '{path}': {error.strerror}", hint="check the path") from None
    data = ModelBytes(f"'{path}'", buffer, path, path.parent, descriptor)
    if descriptor is not None:
        weakref.finalize(data, os.close, descriptor)
    return data
