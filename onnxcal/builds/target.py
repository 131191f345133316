"""`Target`: one calibrated model that is to be made; and the targets of one file that cannot go together."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxcal.builds.keys import BESIDES, OPTIONS
from onnxcal.errors import UsageError


@dataclass(frozen=True)
class Target:
    """One calibrated model that is to be made."""

    name: str
    """What it is called in the file."""
    model: str
    """The model, relative to the file."""
    output: str
    """The calibrated model, relative to the file."""
    options: Mapping[str, Any]
    """Everything else that the file says of it, gates too, with defaults filled in; keys as in the file."""

    def written(self) -> tuple[str, ...]:
        """The files that it writes."""
        return (self.output, *(self.options[key] for key in BESIDES if key in self.options))

    def read(self) -> Iterator[tuple[str, str]]:
        """The key and path of each file or folder that it names to be read; of `file.py:callable` the file."""
        yield "model", self.model
        for key, value in self.options.items():
            if key in OPTIONS and OPTIONS[key].path:
                for path in [value] if isinstance(value, str) else value:
                    source, colon, _ = path.rpartition(":")
                    yield key, source if colon and source.endswith(".py") else path


def refuse_clashes(targets: Sequence[Target], where: str, folder: Path) -> None:
    """Refuse what depends on the order, destroys what is read, or is out of date as soon as it is made.

    That is: a file that two write, or that one writes and any reads, itself or with the folder that it lies in.

    Parameters
    ----------
    targets : of one file.
    where, folder : its name and folder; paths are relative to the folder, and links are followed.

    Raises
    ------
    UsageError
        There is such a file.
    """
    declares = os.path.realpath(folder / where)
    made: dict[str, str] = {}
    for target in targets:
        for path in target.written():
            real = os.path.realpath(folder / path)
            if real == declares or real in made:
                also = "is this file itself" if real == declares else f"by [targets.{made[real]}]"
                raise UsageError(
                    f"{where}: '{path}' is written by [targets.{target.name}] and {also}",
                    hint="give each its own output",
                )
            made[real] = target.name
    for target in targets:
        for key, path in target.read():
            real = os.path.realpath(folder / path)
            for clash in (one for one in made if one == real or one.startswith(os.path.join(real, ""))):
                inside = "" if clash == real else f" holds '{os.path.relpath(clash, real)}', which"
                in_turn = key == "model" and made[clash] != target.name
                raise UsageError(
                    f"{where}: '{path}', the {key} of [targets.{target.name}],{inside} is written by "
                    f"[targets.{made[clash]}]",
                    hint=_HEADS if in_turn else "write to where nothing is read from",
                )


_HEADS = 'calibrate several heads in one target: head = ["a", "b"]'
