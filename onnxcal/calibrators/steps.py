"""What a calibrator does to logits, as plain data that `graph.plan` turns into nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Divide:
    """z ↦ z / value."""

    value: float
    """Finite and > 0."""


Step: TypeAlias = Divide
"""One elementwise operation on logits."""
