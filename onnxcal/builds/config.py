"""Reading an onnxcal.toml, or `[tool.onnxcal]` of a pyproject.toml: found, checked key by key, defaults filled in."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

from onnxcal.builds.keys import FILES, GATES, OPTIONS, REQUIRED, Key
from onnxcal.builds.target import Target, refuse_clashes
from onnxcal.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAME, PYPROJECT = "onnxcal.toml", "pyproject.toml"
_SECTIONS = ("defaults", "gates", "targets")


@dataclass(frozen=True)
class Project:
    """What one file declares."""

    path: Path
    """The file, absolute."""
    targets: tuple[Target, ...]
    """In the order of the file."""

    @property
    def folder(self) -> Path:
        """What paths are relative to, as it is called from the current folder."""
        return Path(called(self.path.parent))

    def chosen(self, names: Iterable[str]) -> tuple[Target, ...]:
        """The targets of some names, all if there are none; each once, in the order of the file.

        Raises
        ------
        UsageError
            One is not declared.
        """
        known = [target.name for target in self.targets]
        wanted = list(names)
        for name in wanted:
            if name not in known:
                raise UsageError(
                    f"'{self.path.name}' declares no target '{name}'", hint=_nearest(name, known, "it declares")
                )
        return tuple(target for target in self.targets if not wanted or target.name in wanted)


def called(path: Path) -> str:
    """A path as it is called from the current folder; as it is where that lies on another drive."""
    try:
        return os.path.relpath(path)
    except ValueError:
        return str(path)


def find_config(folder: Path) -> Path:
    """The nearest file that declares targets, in a folder or above it.

    Raises
    ------
    UsageError
        There is none.
    """
    for place in (folder, *folder.parents):
        if (place / NAME).is_file():
            return place / NAME
        if (place / PYPROJECT).is_file() and _tool_table(_toml(place / PYPROJECT)) is not None:
            return place / PYPROJECT
    raise UsageError(
        f"there is no {NAME} here or above, and no [tool.onnxcal] in a {PYPROJECT}",
        hint="write one, or pass --config FILE",
    )


def read_config(path: str | os.PathLike[str]) -> Project:
    """What a file declares.

    Raises
    ------
    UsageError
        It cannot be read, is no TOML, or says something that is not known; the message names the key.
    """
    path = Path(os.path.abspath(path))
    document: Any = _toml(path)
    if path.name == PYPROJECT:
        document = _tool_table(document)
        if document is None:
            raise UsageError(f"'{called(path)}' has no [tool.onnxcal]", hint=f"add it, or write an {NAME}")
    return Project(path, parse(document, path.name, path.parent))


def parse(document: Any, where: str, folder: Path | None = None) -> tuple[Target, ...]:
    """The targets that a TOML document declares.

    Parameters
    ----------
    document : what a TOML parser made of it.
    where : name of the file, by which messages call it.
    folder : in which it lies, default the current one.

    Raises
    ------
    UsageError
        Something in it is not known, missing, or of another type.
    """
    sections = _table(document, where, "the file")
    _refuse_unknown(sections, _SECTIONS, where, "the file")
    defaults = _checked(sections.get("defaults", {}), OPTIONS, where, "[defaults]")
    gates = _checked(sections.get("gates", {}), GATES, where, "[gates]")
    declared = _table(sections.get("targets", {}), where, "[targets]")
    if not declared:
        raise UsageError(f"{where} declares no target", hint='add [targets.NAME] with model = "…" and data = "…"')
    targets = []
    for name, content in declared.items():
        place = f"[targets.{name}]"
        own = dict(_table(content, where, place))
        own_gates = _checked(own.pop("gates", {}), GATES, where, f"[targets.{name}.gates]")
        own = _checked(own, {**FILES, **OPTIONS}, where, place, more=("gates",))
        targets.append(_target(name, {**defaults, **gates, **own, **own_gates}, where))
    refuse_clashes(targets, where, Path() if folder is None else folder)
    return tuple(targets)


def _target(name: str, said: dict[str, Any], where: str) -> Target:
    for key in REQUIRED:
        if key not in said:
            raise UsageError(f"{where}: [targets.{name}] has no '{key}'", hint=f'add {key} = "…"')
    model = said.pop("model")
    output = said.pop("output", None) or str(Path(model).with_name(f"{Path(model).stem}.calibrated.onnx"))
    return Target(name, model, output, MappingProxyType(said))


def _checked(content: Any, keys: Mapping[str, Key], where: str, place: str, more: Iterable[str] = ()) -> dict[str, Any]:
    table = _table(content, where, place)
    _refuse_unknown(table, (*keys, *more), where, place)
    return {key: _value(value, keys[key], f"{where}: {place} {key}") for key, value in table.items()}


def _value(value: Any, key: Key, what: str) -> Any:
    """A value of the key's type and range; a list of strings for `strings`."""
    kind = type(value)
    if key.word is not None and value == key.word:
        return value
    if key.kind == "integer" and kind is float and value.is_integer():  # which JSON cannot tell from a whole number
        value, kind = int(value), int
    fits = {
        "string": kind is str and _is_name(value),
        "integer": kind is int,
        "number": kind is int or (kind is float and math.isfinite(value)),
        "boolean": kind is bool,
        "strings": kind is str or (kind is list and value != [] and all(type(one) is str for one in value)),
    }[key.kind]
    if fits and key.choices:
        fits = value in key.choices
    if fits and key.minimum is not None:
        fits = value >= key.minimum
    if fits and key.maximum is not None:
        fits = value < key.maximum if key.open_maximum else value <= key.maximum
    if fits and key.kind == "strings":
        value = [value] if kind is str else value
        fits = all(map(_is_name, value)) and len(set(value)) == len(value)
    if not fits:
        hint = f"it takes {key.option}"
        if key.choices and type(value) is str:
            hint = _nearest(value, key.choices, "it takes")
        raise UsageError(f"{what} = {_shown(value)} is not allowed", hint=hint)
    return value


def _is_name(text: str) -> bool:
    """Whether a file, or anything else, can be called so."""
    return text != "" and "\0" not in text


def _refuse_unknown(table: Mapping[str, Any], keys: Iterable[str], where: str, place: str) -> None:
    known = list(keys)
    for key in table:
        if key not in known:
            raise UsageError(f"{where}: {place} has the unknown key '{key}'", hint=_nearest(key, known, "it knows"))


def _nearest(word: str, known: Iterable[str], otherwise: str) -> str:
    known = list(known)
    folded = {one.lower().replace("_", "-"): one for one in known}
    found = get_close_matches(word.lower().replace("_", "-"), list(folded), 1, 0.6)
    return f"did you mean '{folded[found[0]]}'?" if found else f"{otherwise} {', '.join(known)}"


def _table(content: Any, where: str, place: str) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise UsageError(f"{where}: {place} is no table", hint="write it as [table], then one key = value a line")
    return content


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _tool_table(document: Mapping[str, Any]) -> Any:
    """What `[tool.onnxcal]` holds; None if there is none."""
    tools = document.get("tool")
    return tools.get("onnxcal") if isinstance(tools, dict) else None


def _toml(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            read: dict[str, Any] = tomllib.load(file)
            return read
    except OSError as error:
        raise UsageError(f"cannot read '{called(path)}': {error.strerror}", hint="check the path") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is no TOMLDecodeError
        raise UsageError(f"'{called(path)}' is not TOML: {error}", hint="check the line that is named") from None
