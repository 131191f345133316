"""External data of several targets: a file goes beside OUT under its own name, where another's may lie already."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from onnxcal.builds.config import Project
from onnxcal.errors import ModelError, UsageError
from onnxcal.graph.external import external_locations
from onnxcal.graph.modelfile import open_model


def external_clashes(project: Project) -> Mapping[str, UsageError]:
    """What is wrong with each target whose external data would take the place of another's; most have none.

    All targets of the file count, also those that are not asked for: what was made of them would be destroyed.
    """
    lies: dict[str, tuple[str, str]] = {}
    wrong: dict[str, UsageError] = {}
    for target in project.targets:
        with suppress(ModelError, ValueError):  # which making it will tell
            model = open_model(project.folder / target.model)
            for location in external_locations(model):
                source, copy = (
                    os.path.realpath(os.path.join(folder, location))
                    for folder in (model.folder or "", (project.folder / target.output).parent)
                )
                for place in (source, copy):
                    first, other = lies.setdefault(place, (source, target.name))
                    if first != source:
                        wrong[target.name], wrong[other] = (
                            _clash(location, *names) for names in ((target.name, other), (other, target.name))
                        )
    return wrong


def _clash(location: str, name: str, other: str) -> UsageError:
    return UsageError(
        f"external data '{location}' of [targets.{name}] and of [targets.{other}] are different files for one place",
        hint="give the outputs folders of their own",
    )
