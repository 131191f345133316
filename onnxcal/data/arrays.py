"""Arrays that are at hand: in memory, memory-mapped, or out of an `.npz`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnxcal.data.batch import Batch
from onnxcal.errors import DataError


@dataclass(frozen=True)
class ArraySource:
    """One batch with all samples in it, cut as it is read."""

    name: str
    """How messages call it."""
    everything: Batch
    """All samples; perhaps memory-mapped."""

    def __post_init__(self) -> None:
        if self.everything.size == 0:
            raise DataError(f"{self.name} holds no samples", hint="pass at least one labelled sample")

    @property
    def n_samples(self) -> int:
        """Samples in the arrays."""
        return self.everything.size

    def batches(self, size: int) -> Iterator[Batch]:
        """Slices of `size` samples; of a memory map, without reading the rest."""
        for start in range(0, self.n_samples, size):
            yield self.everything.slice(start, start + size)
