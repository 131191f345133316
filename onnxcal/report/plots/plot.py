"""What a kind of plot is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from onnxcal.metrics.subject import Subject


@dataclass(frozen=True)
class Plot:
    """One kind: which numbers it shows, and how they fill a figure."""

    data: Callable[[Subject], Any]
    """The numbers, from `metrics`: a frozen dataclass."""
    fill: Callable[[Figure, Any], None]
    """Draws that dataclass into an empty figure."""
    size: tuple[float, float]
    """Width and height of the figure, in inches."""
    note: str = ""
    """What the caption says besides."""
    fitted: bool = False
    """Whether it is of the samples that T was fitted on, also where others were held out to measure on."""
