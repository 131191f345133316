"""`FileRecord`: a file that was read or written, by path and digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from onnxcal.graph.modelfile import ModelFile


@dataclass(frozen=True)
class FileRecord:
    """A file, and what was in it at the time."""

    path: str | None
    """As it was given; None for a model in memory."""
    digest: Callable[[], str] = field(repr=False, compare=False)
    """Makes the digest, which of a large file takes as long as reading it."""

    @cached_property
    def sha256(self) -> str:
        """Digest of the file, without external data; taken when it is first asked for."""
        return self.digest()

    @classmethod
    def of(cls, file: ModelFile, path: object = None) -> FileRecord:
        """A model that was opened, at its own path or at the one it went to since."""
        path = file.path if path is None else path
        return cls(None if path is None else str(path), lambda: file.sha256)

    def as_json(self) -> dict[str, Any]:
        """Path and digest."""
        return {"path": self.path, "sha256": self.sha256}


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file as it is now."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 21):
            digest.update(block)
    return digest.hexdigest()
