"""What `build` returns: one result a target, and the exit code of them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Status: TypeAlias = Literal["up to date", "out of date", "made", "refused", "failed"]
"""`out of date` if only looked at; `refused` if a check said no; `failed` if it could not be made at all."""

EXIT_CODES: Mapping[Status, int] = {"up to date": 0, "made": 0, "out of date": 1, "refused": 1, "failed": 2}


@dataclass(frozen=True)
class TargetResult:
    """What became of one target."""

    name: str
    """Its name in the file."""
    status: Status
    """What became of it."""
    reason: str | None
    """Why it was made, or is out of date; None if it is up to date, or if that could not be found out."""
    output: str
    """The calibrated model, relative to the current folder."""
    error: str | None = None
    """What went wrong, one sentence; OUT is then as it was before."""
    hint: str | None = None
    """What to do about it."""
    result: Mapping[str, Any] | None = None
    """What `calibrate --json` would have printed: the result, or what a check that said no had found; else None."""
    inputs: tuple[str, ...] = field(default=(), metadata={"json": False})
    """Files that it is made from, relative to the current folder."""


@dataclass(frozen=True)
class BuildResult:
    """What became of every target that was asked for."""

    config: str
    """The file that declares them, relative to the current folder."""
    targets: tuple[TargetResult, ...]
    """In the order of the file."""
    warnings: tuple[str, ...] = ()
    """What the user should know, one sentence each, with the target's name."""

    @property
    def exit_code(self) -> int:
        """The worst of the targets': 2 (could not be made) over 1 (a check said no, or out of date) over 0."""
        return max((EXIT_CODES[target.status] for target in self.targets), default=0)

    def as_json(self) -> dict[str, Any]:
        """The fields and the exit code."""
        return {
            "config": self.config,
            "exit_code": self.exit_code,
            "targets": self.targets,
            "warnings": self.warnings,
        }
