"""What a target is made from, by content, and whether OUT was made from just that.

The recipe is kept in OUT's metadata. It holds digests, options and the format of a patch, but neither paths nor times.
"""

from __future__ import annotations

import glob
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxcal.builds.config import Project
from onnxcal.builds.digests import DigestCache
from onnxcal.builds.keys import BESIDES, GATES, OPTIONS
from onnxcal.builds.target import Target
from onnxcal.depfile import files_below
from onnxcal.errors import DataError, ModelError, UsageError
from onnxcal.graph.external import external_file, external_files, external_locations
from onnxcal.graph.metadata import PATCH_FORMAT, RECIPE, calibrated_heads
from onnxcal.graph.modelfile import open_model
from onnxcal.graph.patch import unpatched
from onnxcal.graph.remade import is_remade

_DIGESTED = ("data", "labels", "preprocess", "eval-data", "eval-labels", "depends")


@dataclass(frozen=True)
class Recipe:
    """What a target is made from."""

    document: Mapping[str, Any]
    """JSON data for the metadata."""
    files: tuple[str, ...]
    """Every file that was digested, relative to the project's folder."""


def recipe_of(project: Project, target: Target, digests: DigestCache) -> Recipe:
    """The recipe of a target as things are now.

    Data that are a callable are known by the source file of the callable alone, and by `depends`: what else the code
    imports or reads cannot be seen from here.

    Raises
    ------
    ModelError, DataError
        A file cannot be read.
    """
    model = open_model(project.folder / target.model)
    digest = digests.sha256(project.folder / target.model)
    external = external_files(model)
    files = [target.model, *(str(Path(target.model).parent / _below(path, model.folder)) for path in external)]
    document: dict[str, Any] = {"patch_format": PATCH_FORMAT, "model": digest}
    if external:
        document["external_data"] = _joined(digests.sha256(path) for path in external)
    digested = [key for key in _DIGESTED if key in target.options]
    if "preprocess" in digested and not (project.folder / target.options["preprocess"]).is_file():
        digested.remove("preprocess")  # it is the name of a preset
    for key in digested:
        read = [found for one in _several(target.options[key]) for found in _read(project.folder, one)]
        document[key] = _joined(digests.sha256(project.folder / path) + suffix for path, suffix in read)
        files += (path for path, _ in read)
    document["options"] = {
        key: target.options[key]
        for key in (*OPTIONS, *GATES)
        if key in target.options and key not in digested and (key in GATES or OPTIONS[key].is_result)
    }
    return Recipe(document, tuple(dict.fromkeys(files)))


def why_out_of_date(project: Project, target: Target, recipe: Recipe, digests: DigestCache) -> str | None:
    """What makes it necessary to make a target, in words; None if OUT was made from this recipe.

    Raises
    ------
    UsageError
        What stands at OUT is no calibrated model, and so nothing that a build may replace.
    """
    output = project.folder / target.output
    if not output.exists():
        return f"there is no {target.output}"
    if not output.is_file():  # opening a pipe would wait for ever
        raise UsageError(f"'{target.output}' is there, and is no ordinary file", hint=_REMOVE)
    try:
        patched = open_model(output)
        entries = calibrated_heads(patched)
    except ModelError as error:
        raise UsageError(f"what stands at OUT is no calibrated model: {error.message}", hint=_REMOVE) from None
    if not entries:
        raise UsageError(f"'{target.output}' is there, and is no calibrated model", hint=_REMOVE)
    made_from = [one for entry in entries if isinstance(one := entry.calibration.get(RECIPE), dict)]
    if not made_from:
        return f"{target.output} was not made by onnxcal build"
    for one in made_from:
        if one != recipe.document:
            return _difference(one, recipe.document)
    model = open_model(project.folder / target.model)
    if not digests.is_made_from(output, recipe.document["model"], lambda: is_remade(unpatched(model), patched)):
        return f"{target.output} was changed since it was made"
    try:
        for location in external_locations(patched):  # fewer than the model's where T was folded into some
            beside, original = external_file(patched, location), external_file(model, location)
            if digests.sha256(beside) != digests.sha256(original):
                return f"the external data beside {target.output} are not the model's"
    except ModelError as error:
        return error.message
    for key in BESIDES:
        if key in target.options and not (project.folder / target.options[key]).exists():
            return f"there is no {target.options[key]}"
    return None


_REMOVE = "remove it, pass --force, or name another output"


def _difference(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first thing that is not as it was."""
    if was.get("patch_format") != now["patch_format"]:
        return "onnxcal writes another form of patch now"
    for key in dict.fromkeys((*now, *was)):
        if key != "options" and was.get(key) != now.get(key):
            return f"{key.replace('_', ' ').replace('-', ' ')} changed"
    before, after = was.get("options") or {}, now["options"]
    changed = [key for key in dict.fromkeys((*after, *before)) if before.get(key) != after.get(key)]
    return f"option {', '.join(changed)} changed"


def _read(folder: Path, data: str) -> list[tuple[str, str]]:
    """The files to digest, relative to the folder, and what the digest has to say besides: a name, or the callable."""
    if (folder / data).is_file():
        return [(data, "")]
    if (folder / data).is_dir():
        inside = [file.relative_to(folder / data) for file in files_below(folder / data)]
        return [(str(Path(data) / file), f":{file.as_posix()}") for file in inside]
    found = sorted(path for path in glob.glob(data, root_dir=folder) if (folder / path).is_file())
    if found:  # it is a pattern
        return [(path, f":{Path(path).name}") for path in found]
    where, colon, name = data.rpartition(":")
    if not colon:
        raise DataError(f"cannot read '{data}': no such file", hint="paths are relative to the TOML file")
    if where.endswith(".py"):
        if not (folder / where).is_file():
            raise DataError(f"cannot read '{where}': no such file", hint="check the path before the colon")
        return [(where, f":{name}")]
    return [(_source_of(folder, where), f":{name}")]


def _source_of(folder: Path, module: str) -> str:
    folder = folder.absolute()
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.find_spec(module)
    except (Exception, SystemExit) as error:  # what imports the packages above it runs their code
        raise DataError(
            f"cannot import the module '{module}': {type(error).__name__}: {error}",
            hint="run it with python on its own first",
        ) from error
    finally:
        sys.path.remove(str(folder))
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise DataError(
            f"cannot find the module '{module}'", hint="it is looked for beside the TOML file, and as usual"
        )
    return _below(Path(spec.origin), folder)


def _below(path: Path, folder: Path | None) -> str:
    """A path relative to a folder where it lies in it."""
    return str(path.relative_to(folder)) if folder is not None and path.is_relative_to(folder) else str(path)


def _several(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _joined(digests: Iterable[str]) -> str:
    """One digest of several: itself if there is one."""
    several = list(digests)
    if len(several) == 1 and ":" not in several[0]:
        return several[0]
    return hashlib.sha256("\n".join(several).encode()).hexdigest()
