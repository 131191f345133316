"""`build`: make what a file declares and what is out of date."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxcal.atomic import check_apart, check_writable
from onnxcal.builds.beside import external_clashes
from onnxcal.builds.config import Project, called, find_config, read_config
from onnxcal.builds.digests import DigestCache
from onnxcal.builds.recipe import Recipe, recipe_of, why_out_of_date
from onnxcal.builds.results import BuildResult, Status, TargetResult
from onnxcal.builds.runner import Outcome, run_jobs
from onnxcal.builds.target import Target
from onnxcal.cores import available_cores
from onnxcal.depfile import write_depfile
from onnxcal.errors import OnnxcalError, UsageError

_STATUS: Mapping[int, Status] = {0: "made", 1: "refused", 2: "failed"}


def build(
    targets: Sequence[str] = (),
    *,
    config: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    check: bool = False,
    force: bool = False,
    depfile: str | os.PathLike[str] | None = None,
    done: Callable[[TargetResult], None] | None = None,
) -> BuildResult:
    """Make the calibrated models that an `onnxcal.toml` declares, where something changed since they were made.

    One target that cannot be made does not stop the others.

    Parameters
    ----------
    targets : names of those to make, default all.
    config : the file, default the nearest `onnxcal.toml` (or `pyproject.toml` with `[tool.onnxcal]`), here or above.
    jobs : how many to make at once, each in a process of its own.
    check : make nothing, only say what is out of date.
    force : make those that are up to date too, and replace a file at `output` that is no calibrated model.
    depfile : write which files each target is made from, as rules for Make or Ninja, if all were made.
    done : called with each target as soon as it is known what became of it.

    Returns
    -------
    BuildResult
        One result a target; errors of single targets stand there, and are not raised.

    Raises
    ------
    UsageError
        The file cannot be found or read, says something that is not known, or declares no such target.
    """
    if jobs < 1:
        raise UsageError(f"--jobs {jobs} is less than 1", hint="pass a number of processes")
    if check and force:
        raise UsageError("--check says what is out of date, and --force makes everything", hint="pass one of them")
    if check and depfile is not None:
        raise UsageError("--check writes nothing, so it takes no --depfile", hint="pass one of them")
    project = read_config(find_config(Path.cwd()) if config is None else config)
    chosen = project.chosen(targets)
    if depfile is not None:
        check_writable(Path(depfile), force=True)
        check_apart([Path(depfile)], [project.path, *(project.folder / target.output for target in chosen)])
    found: dict[str, TargetResult] = {}

    def tell(result: TargetResult) -> None:
        found[result.name] = result
        if done is not None:
            done(result)

    recipes = _look(project, chosen, force=force, check=check, tell=tell)
    to_make = [target for target in chosen if target.name not in found]
    threads = max(1, available_cores() // min(jobs, len(to_make))) if min(jobs, len(to_make)) > 1 else None

    def finished(number: int, outcome: Outcome) -> None:
        target = to_make[number]
        recipe, reason = recipes[target.name]
        said = {"error": outcome.error, "hint": outcome.hint, "result": outcome.result}
        tell(_result(project, target, _STATUS[outcome.code], reason, recipe, **said))

    run_jobs(
        [_arguments(target, recipes[target.name][0], threads) for target in to_make],
        project.folder, at_once=jobs, done=finished,
    )  # fmt: skip
    results = tuple(found[target.name] for target in chosen)
    result = BuildResult(called(project.path), results, _warnings(results))
    if depfile is not None and result.exit_code == 0:
        write_depfile(depfile, {one.output: [*one.inputs, result.config] for one in results})
    return result


def _look(
    project: Project, chosen: Sequence[Target], *, force: bool, check: bool, tell: Callable[[TargetResult], None]
) -> dict[str, tuple[Recipe, str]]:
    """The recipe of each target that is to be made, and why; what is to be told of the others."""
    digests = DigestCache()
    clashes = external_clashes(project)
    recipes: dict[str, tuple[Recipe, str]] = {}
    for target in chosen:
        try:
            if target.name in clashes:
                raise clashes[target.name]
            recipe = recipe_of(project, target, digests)
            why = "--force" if force else why_out_of_date(project, target, recipe, digests)
            if why is not None:
                check_writable(project.folder / target.output, force=True)
        except OnnxcalError as error:
            tell(_result(project, target, "failed", None, None, error=error.message, hint=error.hint))
            continue
        if why is None or check:
            tell(_result(project, target, "up to date" if why is None else "out of date", why, recipe))
        else:
            recipes[target.name] = (recipe, why)
    digests.save()
    return recipes


def _arguments(target: Target, recipe: Recipe, threads: int | None) -> dict[str, Any]:
    """Of `calibrate`, in the project's folder."""
    options = {key.replace("-", "_"): value for key, value in target.options.items() if key != "depends"}
    return {
        "model": target.model,
        "output": target.output,
        "force": True,
        "threads": threads,
        "recipe": recipe.document,
        **options,
    }


def _result(
    project: Project, target: Target, status: Status, reason: str | None, recipe: Recipe | None, **said: Any
) -> TargetResult:
    inputs = () if recipe is None else tuple(called(project.folder / file) for file in recipe.files)
    return TargetResult(target.name, status, reason, called(project.folder / target.output), inputs=inputs, **said)


def _warnings(results: Sequence[TargetResult]) -> tuple[str, ...]:
    found = ((one.name, one.result.get("warnings", ())) for one in results if one.result is not None)
    return tuple(f"{name}: {warning}" for name, warnings in found for warning in warnings)
