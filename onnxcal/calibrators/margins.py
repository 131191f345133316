"""Logits less their label's logit, a cache-sized piece at a time: what a likelihood of labels depends on.

softmax is blind to a shift of a row, so z − z_y says all that z does, and neither an offset of 1000 nor rows that have
levels of their own cost digits. Logits of sigmoids stay as they are: there the label's sign does the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnxcal.logits import FloatArray, IndexArray, Sample, all_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEW_CLASSES = 32
"""Below this, sums over classes are far cheaper along the first axis, (K, n), than along the last, (n, K)."""
SMALL_PIECE, LARGE_PIECE = 1 << 16, 1 << 18
"""Elements of a piece: 256 KB in float32 for one thread; 1 MB where threads share the interpreter lock."""
MANY_ELEMENTS = 1 << 20
"""From here on the pieces are large, and more than one thread works on them."""
COMPILED_ELEMENTS = 1 << 21
"""From here on compiled loops, where they are installed, earn the half second that it takes to import them."""
PREPARED_ELEMENTS = 1 << 18
"""Up to here the float32 margins of all rows are kept from pass to pass: 1 MB."""

Rows: TypeAlias = "NDArray[np.float64]"


@dataclass(frozen=True, eq=False)
class Margins:
    """z − z_y of every `stride`-th sample, made piece by piece from the user's own array."""

    values: FloatArray
    """(N, K) logits; or (N,) of binary or (N, K) of multilabel ones, which count one by one."""
    labels: NDArray[Any]
    """(N,) class indices, or (N, K) soft labels; for independent logits flags of their shape."""
    independent: bool
    """Whether each logit has a sigmoid of its own (binary, multilabel)."""
    weight: Rows | None
    """(N,), how much each sample counts; None if all count 1."""
    masked: bool
    """Whether some logits are −inf."""
    smoothing: float = 0.0
    """Share of each label that is spread evenly over all classes."""
    many: bool = False
    """Whether the whole set has `COMPILED_ELEMENTS` logits, of which these may be some."""
    prepared: FloatArray | None = None
    """float32 margins of all samples, of a small set."""
    scratch: dict[tuple[int, type], tuple[FloatArray, FloatArray]] = field(default_factory=dict, repr=False)
    """Two buffers for a piece, by thread and element type: fresh memory costs as much as a sum over it."""

    @classmethod
    def of(cls, sample: Sample, smoothing: float = 0.0) -> Margins:
        """The margins of all rows."""
        values, labels = sample.logits.values, sample.labels.values
        if sample.logits.task != "multiclass":
            flags = labels * (1 - smoothing) + smoothing / 2 if smoothing else labels
            return cls(values, flags, True, sample.weight, False, smoothing)
        many = values.size >= COMPILED_ELEMENTS
        made = cls(values, labels, False, sample.weight, not all_finite(values), smoothing, many)
        if values.size > PREPARED_ELEMENTS:
            return made
        with np.errstate(over="ignore"):  # an infinite margin is done again in float64
            return replace(made, prepared=made._made(0, len(made), np.float32))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def class_axis(self) -> int:
        """Of a piece of margins: 0 where there are few classes, else 1."""
        return 0 if self.values.ndim == 2 and self.values.shape[1] < FEW_CLASSES else 1

    def every(self, stride: int, first: int = 0) -> Margins:
        """Evenly spaced samples, as views."""
        rows, prepared = slice(first, None, stride), self.prepared
        if prepared is not None:
            prepared = np.ascontiguousarray(prepared[:, rows] if self.class_axis == 0 else prepared[rows])
        weight = None if self.weight is None else self.weight[rows]
        return replace(self, values=self.values[rows], labels=self.labels[rows], weight=weight, prepared=prepared)

    def bounds(self) -> list[tuple[int, int]]:
        """First and last row of each piece. It depends on the sizes only, so sums do not depend on the machine."""
        width = math.prod(self.values.shape[1:])
        size = SMALL_PIECE if self.values.size < MANY_ELEMENTS else LARGE_PIECE
        step = max(1, size // max(1, width))
        return [(start, min(start + step, len(self))) for start in range(0, len(self), step)]

    def buffers(self, thread: int, dtype: type[np.floating[Any]], size: int) -> tuple[FloatArray, FloatArray]:
        """Two arrays of at least `size`, kept from pass to pass."""
        kept = self.scratch.get((thread, dtype))
        if kept is None or kept[0].size < size:
            kept = self.scratch[thread, dtype] = np.empty(size, dtype), np.empty(size, dtype)
        return kept

    def weights(self, start: int, stop: int) -> Rows | None:
        """The weight of some samples."""
        return None if self.weight is None else self.weight[start:stop]

    def piece(self, start: int, stop: int, dtype: type[np.floating[Any]], out: FloatArray | None = None) -> FloatArray:
        """Margins of some samples: (n, K), or (K, n) where there are few classes. Not to be written to."""
        if self.prepared is not None and dtype is np.float32:
            return self.prepared[:, start:stop] if self.class_axis == 0 else self.prepared[start:stop]
        return self._made(start, stop, dtype, out)

    def rows(self, start: int, rows: IndexArray) -> Rows:
        """Float64 margins of single samples: (n, K)."""
        at = start + rows
        z = self.values[at].astype(np.float64)
        return np.asarray(z - label_logit(z, self.labels[at], self.smoothing)[:, None], np.float64)

    def _made(self, start: int, stop: int, dtype: type[np.floating[Any]], out: FloatArray | None = None) -> FloatArray:
        z, y = self.values[start:stop], self.labels[start:stop]
        label = label_logit(z, y, self.smoothing)
        if self.class_axis == 0:
            z = z.T
        else:
            label = label[:, None]
        # In the order of the axes, which NumPy would not choose for z transposed.
        out = np.empty(z.shape, dtype) if out is None else out[: z.size].reshape(z.shape)
        # A float64 difference is rounded to float32; float16 values are subtracted in float32.
        wide = np.result_type(dtype, z.dtype)
        return np.subtract(z, label, out=out, dtype=wide, casting="same_kind")


def label_logit(z: FloatArray, y: NDArray[Any], smoothing: float = 0.0) -> FloatArray:
    """z_y; for soft labels its expectation Σ y z; with smoothing ε, (1 − ε) z_y + ε mean(z) over classes not masked."""
    if smoothing:
        here = np.isfinite(z)
        mean = np.where(here, z, 0.0).sum(axis=1, dtype=np.float64) / here.sum(axis=1)
        return np.asarray((1 - smoothing) * label_logit(z, y) + smoothing * mean, np.float64)
    if y.ndim == 1:
        if z.flags.c_contiguous:
            label: FloatArray = z.reshape(-1).take(np.arange(0, z.size, z.shape[1]) + y)
        else:
            label = z[np.arange(len(z)), y]
        return label
    weighted: Rows = np.where(y > 0, y * np.where(y > 0, z, 0.0), 0.0).sum(axis=1)
    return weighted
