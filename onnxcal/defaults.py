"""How models are run unless told otherwise; apart from what runs them, so that it takes nothing to know."""

from __future__ import annotations

from typing import Literal, TypeAlias

BatchSize: TypeAlias = int | Literal["auto"]
"""Samples a run, or `auto` for as many as run fastest."""

DEFAULT_BATCH_SIZE = 64
