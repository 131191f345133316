"""`Declared`: what a model says of an input that data are for. All of it may be unknown."""

from __future__ import annotations

from typing import Protocol


class Declared(Protocol):
    """What a model says of one of its inputs."""

    @property
    def dtype(self) -> str:
        """NumPy name of the element type, `str` for strings."""

    @property
    def shape(self) -> tuple[int | str | None, ...] | None:
        """Sizes or symbols, samples first; None where the rank is not declared."""
