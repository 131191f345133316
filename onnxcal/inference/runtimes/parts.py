"""What a runtime needs on the machine, and whether it is there: looked up, never imported or run."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Part(Protocol):
    """Something to be installed."""

    @property
    def name(self) -> str:
        """What it is called."""

    def version(self) -> str | None:
        """Its version, empty if it has none to be looked up; None if it is not there."""


@dataclass(frozen=True)
class Distribution:
    """A Python package, which may come under several names."""

    names: tuple[str, ...]
    """What it is called on the package index; the first is the usual one."""

    @property
    def name(self) -> str:
        """The usual one."""
        return self.names[0]

    def version(self) -> str | None:
        """That of the first that is installed."""
        return next(filter(None, map(_installed_version, self.names)), None)


@dataclass(frozen=True)
class Command:
    """A program on the PATH, which may come under several names."""

    names: tuple[str, ...]
    """What it is called; the first is the usual one."""

    @property
    def name(self) -> str:
        """The usual one."""
        return self.names[0]

    def path(self) -> str | None:
        """Where the first that is there is."""
        return next(filter(None, map(shutil.which, self.names)), None)

    def version(self) -> str | None:
        """Empty: it would have to be run to tell."""
        return None if self.path() is None else ""


@dataclass(frozen=True)
class NodePackage:
    """A package for Node.js: in `node_modules` here or in a folder above, in NODE_PATH, or installed globally."""

    name: str
    """What it is called in the npm registry."""

    def folder(self, start: Path | None = None) -> Path | None:
        """Where it is, seen from a folder, by default the current one."""
        return next(
            (place / self.name for place in _node_modules(start or Path.cwd()) if (place / self.name).is_dir()), None
        )

    def version(self) -> str | None:
        """What its `package.json` says."""
        folder = self.folder()
        if folder is None:
            return None
        try:
            return str(json.loads((folder / "package.json").read_text(encoding="utf-8"))["version"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""


def _installed_version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _node_modules(here: Path) -> Iterator[Path]:
    yield from (folder / "node_modules" for folder in (here, *here.parents))
    yield from (Path(place) for place in os.environ.get("NODE_PATH", "").split(os.pathsep) if place)
    node = shutil.which("node")
    if node is not None:
        yield Path(node).parent.parent / "lib" / "node_modules"
        yield Path(node).parent / "node_modules"
    yield Path("/usr/local/lib/node_modules")
    if "APPDATA" in os.environ:
        yield Path(os.environ["APPDATA"]) / "npm" / "node_modules"
