"""What lies in a folder of class folders: which classes there are, and which files are their images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from onnxcal.data.picture import SUFFIXES
from onnxcal.errors import DataError

SPLITS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing", "dev"))
JUNK = frozenset(("__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini"))
"""What operating systems leave behind, beside names with a dot in front."""


@dataclass(frozen=True)
class ClassFolder:
    """One class: a folder, and what is below it."""

    name: str
    """Of the folder, hence of the class."""
    images: tuple[str, ...]
    """Paths, sorted by folder and then by name."""
    others: tuple[str, ...]
    """Paths of files that are no images, by their suffix."""


def class_folders(root: Path) -> list[ClassFolder]:
    """The class folders in `root`, sorted by name; links are followed, what is hidden is passed over.

    Raises
    ------
    DataError
        There are none, images lie beside them, a link leads nowhere or in a circle, or a folder cannot be read.
    """
    found = []
    for entry in _entries(root):
        if entry.is_dir():
            found.append(_class_folder(entry.name, Path(entry.path)))
        elif _is_image(entry.name):
            raise DataError(
                f"'{entry.path}' lies in no class folder: '{root}' must have one sub-folder a class",
                hint="move the images into folders named as their classes",
            )
    if not found:
        raise DataError(
            f"'{root}' is a folder without class folders", hint="it must have one sub-folder of images a class"
        )
    names = [folder.name for folder in found]
    if {name.lower() for name in names} <= SPLITS:
        raise DataError(
            f"the folders in '{root}' are splits, not classes: {', '.join(names)}",
            hint=f"pass one of them: {root / names[-1]}",
        )
    return found


def _class_folder(name: str, path: Path) -> ClassFolder:
    images: list[str] = []
    others: list[str] = []
    for file in _files(path, (os.path.realpath(path),)):
        (images if _is_image(file) else others).append(file)
    return ClassFolder(name, tuple(images), tuple(others))


def _files(folder: Path, above: tuple[str, ...]) -> Iterator[str]:
    """Files of a folder by name, then those of the folders in it."""
    inner = []
    for entry in _entries(folder):
        if entry.is_dir():
            inner.append(Path(entry.path))
        else:
            yield entry.path
    for path in inner:
        real = os.path.realpath(path)
        if real in above:
            raise DataError(f"'{path}' is a link to a folder that it lies in", hint="remove the link")
        yield from _files(path, (*above, real))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            kept = sorted((e for e in entries if e.name[0] != "." and e.name not in JUNK), key=lambda e: e.name)
    except OSError as error:
        raise DataError(f"cannot read the folder '{folder}': {error.strerror}", hint="check its permissions") from None
    for entry in kept:
        if entry.is_symlink() and not os.path.exists(entry.path):
            raise DataError(f"'{entry.path}' is a link to nothing", hint="mend or remove the link")
    return kept


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES
