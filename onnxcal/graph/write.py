"""Writing model files: whole or not at all, and untouched byte ranges without reading them."""

from __future__ import annotations

import filecmp
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from onnxcal import atomic
from onnxcal.errors import UsageError
from onnxcal.graph.background import Job
from onnxcal.graph.external import external_files, external_locations
from onnxcal.graph.modelfile import ModelFile

Piece: TypeAlias = "bytes | tuple[int, int]"
"""New bytes, or a range [start, stop) of the source model's."""

Trailer: TypeAlias = "Callable[[str], bytes]"
"""What comes last, given the source's digest."""

_WRITE_BACK_SECONDS = 0.05


class Draft:
    """A model file in the making, in the folder where it will stand; it appears there with `commit`, or never.

    Parameters
    ----------
    target : where the file is to stand.
    source : the model it is made from. Its external data stay where they are if `target` lies beside it, else they
        are copied.
    force : whether files that exist may be replaced.

    Raises
    ------
    UsageError
        `target` exists and `force` is False, or cannot be written.
    ModelError
        The source's external data are missing or unsafe.
    """

    def __init__(self, target: str | os.PathLike[str], source: ModelFile, *, force: bool = False) -> None:
        self.target = Path(target)
        self._home = Path(os.path.realpath(target)).parent
        self._external = _external_to_copy(source, self._home)
        check_target(target, source, force=force)
        self._folder: Path | None = None
        try:
            if self._external:  # a folder of its own, in which the external data have their names already
                self._folder = Path(tempfile.mkdtemp(prefix=".onnxcal-", dir=self._home))
                self.path, self._file = atomic.open_beside(self._folder / self.target.name)
            else:
                self.path, self._file = atomic.open_beside(self.target)
        except BaseException as error:
            self._remove_folder()
            if isinstance(error, OSError):
                raise atomic.cannot_write(self.target, error) from None
            raise

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, source: ModelFile, pieces: Sequence[Piece]) -> None:
        """Append new bytes and ranges of the source."""
        try:
            for piece in pieces:
                for block in [piece] if isinstance(piece, bytes) else source.data.read(*piece):
                    self._file.write(block)
        except OSError as error:
            raise atomic.cannot_write(self.target, error) from None

    @contextmanager
    def writing_back(self) -> Iterator[None]:
        """Keep the disk busy with what is written so far while more is being written."""
        done = threading.Event()

        def write_back() -> None:
            while hasattr(os, "fdatasync") and not done.wait(_WRITE_BACK_SECONDS):
                os.fdatasync(self._file.fileno())

        job = Job(write_back)
        try:
            yield
        finally:
            done.set()
            job.wait()
        try:
            job.result()  # an error that was reported once is not reported to the next fsync
        except OSError as error:
            raise atomic.cannot_write(self.target, error) from None

    def sync(self) -> None:
        """Bring what was written so far to disk."""
        try:
            atomic.sync(self._file)
        except OSError as error:
            raise atomic.cannot_write(self.target, error) from None

    def finish(self) -> None:
        """Bring everything to disk, so that the file can be opened at `path`."""
        try:
            atomic.sync(self._file)
            self._file.close()
            for path, location in self._external:
                copy = self.path.parent / location
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
        except OSError as error:
            raise atomic.cannot_write(self.target, error) from None

    def commit(self) -> None:
        """Let the finished file appear at its target, external data first; if that fails, all is as it was before."""
        placed: list[tuple[Path, Path | None]] = []
        try:
            for _, location in self._external:
                home = self._home / location
                home.parent.mkdir(parents=True, exist_ok=True)
                kept = self.path.parent / f"{len(placed)}.kept" if home.exists() else None
                if kept is not None:
                    os.replace(home, kept)
                placed.append((home, kept))
                atomic.place(self.path.parent / location, home)
            atomic.place(self.path, self.target)
        except BaseException as error:
            for home, kept in reversed(placed):
                if kept is not None:
                    os.replace(kept, home)
                else:
                    home.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise atomic.cannot_write(self.target, error) from None
            raise

    def discard(self) -> None:
        """Remove what was not committed."""
        with suppress(OSError):  # closing writes what is buffered, which a full disk refuses again
            self._file.close()
        self.path.unlink(missing_ok=True)
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def check_target(target: str | os.PathLike[str], source: ModelFile, *, force: bool) -> None:
    """Raise what keeps a model made from `source` from being written to `target`, before any long work is done."""
    path = Path(target)
    real = Path(os.path.realpath(path))
    for file, location in zip(external_files(source), external_locations(source), strict=True):
        if real in (Path(os.path.realpath(file)), real.parent / location):
            raise UsageError(f"'{path}' is where the model's external data goes", hint="choose another -o")
    atomic.check_writable(path, force=force)
    for file, location in _external_to_copy(source, real.parent):
        place = real.parent / location
        if not force and place.exists() and not filecmp.cmp(file, place, shallow=False):
            raise UsageError(
                f"'{place}' exists with other contents than the model's external data",
                hint="pass --force to replace it, or write to another folder",
            )


def write_with_digest(draft: Draft, source: ModelFile, pieces: Sequence[Piece], trailer: Trailer) -> None:
    """Write and finish a draft whose last bytes need the source's digest, which is taken while the rest is written."""
    source.data.start_digest()
    with draft.writing_back():
        draft.write(source, pieces)
    draft.sync()
    draft.write(source, [trailer(source.sha256)])
    draft.finish()


def write_taking_digest(draft: Draft, source: ModelFile, pieces: Sequence[Piece]) -> str:
    """Write and finish a draft; returns the digest of what was written, taken meanwhile."""
    digest = Job(lambda: _digest(source, pieces))
    try:
        draft.write(source, pieces)
        draft.finish()
    finally:
        digest.wait()
    return digest.result()


def join(source: ModelFile, pieces: Sequence[Piece]) -> bytes:
    """The pieces in memory."""
    return b"".join(piece if isinstance(piece, bytes) else source.buffer[piece[0] : piece[1]] for piece in pieces)


def _digest(source: ModelFile, pieces: Sequence[Piece]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        if isinstance(piece, bytes):
            digest.update(piece)
        else:
            for block in source.data.read(*piece):
                digest.update(block)
    return digest.hexdigest()


def _external_to_copy(source: ModelFile, folder: Path) -> tuple[tuple[Path, str], ...]:
    files = external_files(source)
    if source.folder is None or os.path.realpath(source.folder) == os.path.realpath(folder):
        return ()
    return tuple(zip(files, external_locations(source), strict=True))
