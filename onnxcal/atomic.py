"""Files that appear whole or not at all: a temporary file in the same folder, fsync, and a rename."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from onnxcal.errors import UsageError


def write_file(target: str | os.PathLike[str], write: Callable[[BinaryIO], None], *, force: bool = False) -> None:
    """Let `write` fill a new file, which then appears at `target`.

    Raises
    ------
    UsageError
        `target` exists and `force` is False, or cannot be written.
    """
    path = Path(target)
    check_writable(path, force=force)
    temporary = None
    try:
        temporary, file = open_beside(path)
        with file:
            write(file)
            sync(file)
        place(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_writable(target: Path, *, force: bool) -> None:
    """Raise UsageError if a file at `target` cannot be made, or may not be replaced."""
    try:
        real = Path(os.path.realpath(target))
        exists = real.exists()
    except OSError as error:  # a name that is too long, or a circle of links
        raise cannot_write(target, error) from None
    if not real.parent.is_dir():
        raise UsageError(f"cannot write '{target}': folder '{real.parent}' does not exist", hint="create it first")
    if real.is_dir():
        raise UsageError(f"cannot write '{target}': it is a folder", hint="pass a file name")
    if exists and not real.is_file():
        raise UsageError(f"cannot write '{target}': it is no ordinary file", hint="pass another -o")
    if exists and not force:
        raise UsageError(f"'{target}' exists", hint="pass --force to replace it, or another -o")
    if not os.access(real.parent, os.W_OK):
        raise UsageError(
            f"cannot write '{target}': folder '{real.parent}' is read-only",
            hint="make it writable, or choose another folder",
        )


def check_apart(outputs: Iterable[Path | None], inputs: Iterable[object]) -> None:
    """Raise UsageError if an output is one of the inputs' files, or another output; None is left out."""
    taken = {os.path.realpath(path) for path in inputs if isinstance(path, (str, os.PathLike))}
    for output in outputs:
        if output is None:
            continue
        real = os.path.realpath(output)
        if real in taken:
            raise UsageError(f"'{output}' is read or written by this command already", hint="choose another output")
        taken.add(real)


def open_beside(target: Path) -> tuple[Path, BinaryIO]:
    """A new, hidden file in the folder of `target` (through links)."""
    real = Path(os.path.realpath(target))
    descriptor, name = tempfile.mkstemp(prefix=".onnxcal-", suffix=".tmp", dir=real.parent)
    return Path(name), os.fdopen(descriptor, "wb")


def sync(file: BinaryIO) -> None:
    """Bring what was written to disk."""
    file.flush()
    os.fsync(file.fileno())


def place(temporary: Path, target: Path) -> None:
    """Rename a finished file to its target, with the permissions that a file there has or gets; links stay links."""
    real = Path(os.path.realpath(target))
    os.chmod(temporary, _mode_for(real))
    os.replace(temporary, real)


def place_all(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Rename several finished files to their targets; if one fails, all is as it was before."""
    placed: list[tuple[Path, Path | None]] = []
    target = pairs[0][1]
    try:
        for temporary, _ in pairs:
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        for temporary, target in pairs:
            kept = temporary.with_name(f"{temporary.name}.kept") if target.exists() else None
            if kept is not None:
                shutil.copyfile(target, kept)
            placed.append((target, kept))
            place(temporary, target)
    except BaseException as error:
        for place_of, kept in reversed(placed):
            if kept is not None:
                os.replace(kept, os.path.realpath(place_of))
            else:
                place_of.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(target, error) from None
        raise


def cannot_write(target: Path, error: OSError) -> UsageError:
    """What to say when the operating system refuses."""
    return UsageError(f"cannot write '{target}': {error.strerror}", hint="check the folder, its permissions and space")


def _mode_for(target: Path) -> int:
    try:
        return target.stat().st_mode & 0o7777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
