"""Dependency files in the syntax of Make, which Ninja reads too: what was read to write an output."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from onnxcal.atomic import check_writable, write_file
from onnxcal.errors import UsageError


def check_depfile(path: str | os.PathLike[str], model: Path | None, output: Path | None) -> None:
    """Raise UsageError, before any long work, if there can be no such file or nothing to write into it."""
    if model is None or output is None:
        raise UsageError("--depfile needs a model and an output that are files", hint="leave it out")
    if os.path.realpath(model) == os.path.realpath(output):
        raise UsageError(f"--depfile cannot say that '{output}' is made from itself", hint="write to another -o")
    _escaped(str(model) + str(output))
    check_writable(Path(path), force=True)


def write_depfile(path: str | os.PathLike[str], rules: Mapping[str, Iterable[str]]) -> None:
    """Write one rule an output; a file that is there is replaced.

    Each input is also given an empty rule of its own, so that an input that was removed or renamed makes Make run the
    command again instead of stopping at it (as GCC's `-MP` does), unless such a rule would mean something else.

    Parameters
    ----------
    path : of the dependency file.
    rules : for each output, the files that were read for it; paths are written as they are.

    Raises
    ------
    UsageError
        A name holds what the syntax cannot express: a line break, a semicolon, a backslash at its end, or in an
        output a percent sign; or the file cannot be written.
    """
    lines = []
    inputs = dict[str, None]()
    for output, read in rules.items():
        if "%" in output:
            raise UsageError(
                f"{output!r} cannot stand in a --depfile: Make would take it for a pattern", hint="rename it"
            )
        unique = dict.fromkeys(read)
        inputs.update(unique)
        lines.append(f"{_escaped(output)}:" + "".join(f" \\\n  {_escaped(one)}" for one in unique))
    lines += [f"{_escaped(one)}:" for one in inputs if one not in rules and not set(one) & set("=%")]
    text = "\n".join(lines) + "\n"

    def write(file: BinaryIO) -> None:
        file.write(text.encode("utf-8", "surrogateescape"))

    write_file(path, write, force=True)


def files_below(folder: Path) -> list[Path]:
    """Every file in a folder and those in it, in an order that does not depend on the file system.

    Links to folders are followed, as readers of data follow them; what is hidden, or Python's cache, is passed over.
    """
    return sorted(_files_below(folder, ()))


def _files_below(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder that it lies in
        return
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name == "__pycache__":
            continue
        if path.is_dir():
            yield from _files_below(path, (*above, real))
        elif path.is_file():
            yield path


def _escaped(name: str) -> str:
    """A file name as GNU Make and Ninja read it (GNU Make manual, "What Makefiles Look Like"; GCC's mkdeps.cc).

    Backslashes that stand before a blank, a `#` or a colon are doubled, and so is `$`.
    """
    if re.search(r"[\r\n;]|\\$", name):
        raise UsageError(f"{name!r} cannot stand in a --depfile", hint="rename the file")
    name = re.sub(r"(\\*)([ \t#:])", lambda found: f"{found[1]}{found[1]}\\{found[2]}", name)
    return name.replace("$", "$$")


def files_of(path: str) -> list[str]:
    """The files behind what names data or labels: all in a folder, of `file.py:callable` the Python file."""
    if Path(path).is_dir():
        return [str(file) for file in files_below(Path(path))]
    if Path(path).is_file():
        return [path]
    where, colon, _ = path.rpartition(":")
    return [where] if colon and where.endswith(".py") and Path(where).is_file() else []
