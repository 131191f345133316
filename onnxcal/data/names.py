"""Names of classes: a text file with one a line, or a sequence. Not labels, which are one a sample."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from onnxcal.errors import DataError


def class_names_of(names: Sequence[str] | str | os.PathLike[str], num_classes: int) -> tuple[str, ...]:
    """The names of all classes, in the order of their indices.

    Parameters
    ----------
    names : the names, or the path of a UTF-8 text file with one a line.
    num_classes : K, how many there must be.

    Raises
    ------
    DataError
        The file cannot be read, or there are not K names.
    """
    where = "the class names"
    if isinstance(names, (str, os.PathLike)):
        where, names = f"'{os.fspath(names)}'", _lines(Path(names))
    if len(names) != num_classes:
        raise DataError(
            f"{where}: {len(names):,} names for {num_classes:,} classes",
            hint="one name for each class, in the order of their indices; in a file, one a line",
        )
    return tuple(map(str, names))


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read class names '{path}': {error.strerror}", hint="check the path") from None
    except UnicodeError:
        raise DataError(f"class names '{path}' are not UTF-8 text", hint="write one name a line, in UTF-8") from None
    return [line.strip() for line in text.strip().split("\n")]
