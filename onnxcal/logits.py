"""The typed arrays that pass between rooms, one row a sample: `Logits`, `Probabilities`, `Labels`."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from onnxcal.errors import DataError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Task: TypeAlias = Literal["multiclass", "binary", "multilabel"]
TASKS: tuple[Task, ...] = get_args(Task)

FloatArray: TypeAlias = "NDArray[np.floating[Any]]"
LabelArray: TypeAlias = "NDArray[np.int64] | NDArray[np.float64]"
IndexArray: TypeAlias = "NDArray[np.int64]"

CHUNK_ELEMENTS = 1 << 16
"""Logits that are worked on at a time: 512 kB in float64, which stays in a core's cache."""


@dataclass(frozen=True)
class Logits:
    """Scores that enter the final softmax or sigmoid, one row a sample."""

    values: FloatArray
    """(N, K) for multiclass and multilabel, (N,) for binary; float16, float32 or float64. No NaN, no +inf;
    −inf only in multiclass, where it masks a class."""
    task: Task
    """What a row means."""

    @property
    def n_samples(self) -> int:
        """N, the number of rows."""
        return int(self.values.shape[0])

    @property
    def num_classes(self) -> int:
        """K; 2 for binary."""
        return int(self.values.shape[1]) if self.values.ndim == 2 else 2

    def take(self, rows: IndexArray) -> Logits:
        """The given rows; of a memory-mapped array, as another memory-mapped array."""
        return Logits(take_rows(self.values, rows), self.task)


@dataclass(frozen=True)
class Probabilities:
    """What a softmax or sigmoid makes of `Logits`, kept as logarithms so that nothing underflows."""

    log_values: NDArray[np.float64]
    """log p, (N, K); for binary (N,), the log probability of class 1."""
    log_complements: NDArray[np.float64] | None
    """log(1 − p) of the same shape for binary and multilabel; None for multiclass, which does not need it."""

    @property
    def values(self) -> NDArray[np.float64]:
        """p: rows that sum to 1 for multiclass, else each in [0, 1]."""
        p: NDArray[np.float64] = np.exp(self.log_values)
        return p

    @classmethod
    def from_logits(cls, z: NDArray[np.float64], task: Task) -> Probabilities:
        """softmax(z) over the last axis, or σ(z), for float64 rows of logits."""
        if task == "multiclass":
            shifted = z - z.max(axis=1, keepdims=True)
            return cls(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), None)
        return cls(-np.logaddexp(0.0, -z), -np.logaddexp(0.0, z))


@dataclass(frozen=True)
class Labels:
    """The truth, one row a sample."""

    values: LabelArray
    """int64 (N,) class indices; or float64, of the logits' shape: soft labels, 0/1 for binary and multilabel."""

    @property
    def are_indices(self) -> bool:
        """True for class indices, False for probabilities or 0/1 flags of the logits' shape."""
        return self.values.dtype == np.int64

    def take(self, rows: IndexArray) -> Labels:
        """The given rows."""
        return Labels(take_rows(self.values, rows))


@dataclass(frozen=True, eq=False)
class Sample:
    """Labelled logits, with what makes some of them count more, or belong together."""

    logits: Logits
    """N rows."""
    labels: Labels
    """Their labels."""
    weight: NDArray[np.float64] | None = None
    """(N,), ≥ 0, how much each row counts; None if all count 1."""
    group: IndexArray | None = None
    """(N,), which sample each row belongs to (positions of one image); None if each is a sample of its own."""

    @property
    def n_groups(self) -> int:
        """How many samples the rows belong to; N where each is a sample of its own."""
        return self.logits.n_samples if self.group is None else len(np.unique(self.group))

    def take(self, rows: IndexArray) -> Sample:
        """The given rows."""
        weight = None if self.weight is None else self.weight[rows]
        group = None if self.group is None else self.group[rows]
        return Sample(self.logits.take(rows), self.labels.take(rows), weight, group)


def as_array(values: Any, what: str) -> NDArray[Any]:
    """An array of numbers of what the user passed; torch tensors included, pickled objects not.

    Raises
    ------
    DataError
        The values are not numbers.
    """
    if hasattr(values, "detach"):  # a torch tensor, perhaps on a GPU or in need of a gradient
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":  # which NumPy does not have
            values = values.float()
    try:
        array: NDArray[Any] = values if isinstance(values, np.ndarray) else np.asarray(values)
    except (ValueError, TypeError):
        raise DataError(f"{what} cannot be made an array of numbers", hint="pass rows of one length") from None
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise DataError(f"{what} have dtype {array.dtype}, expected numbers", hint="convert them to a numeric array")
    return array


def as_rows(array: NDArray[Any], task: Task, axis: int, *, flatten: bool = False) -> NDArray[Any]:
    """An array of the logits' shape in the order of `logit_rows`, whatever it holds."""
    if task == "binary":
        return array.reshape(-1)
    if flatten:
        return array.reshape(int(np.prod(array.shape[:axis])), -1)
    return np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])


def all_finite(values: FloatArray) -> bool:
    """Whether no entry is NaN or infinite, without a mask as large as the array."""
    step = max(1, (1 << 22) // max(1, math.prod(values.shape[1:])))
    return all(_finite(values[i : i + step]) for i in range(0, len(values), step))


def _finite(part: FloatArray) -> bool:
    if part.flags.c_contiguous and part.dtype.itemsize >= np.dtype(np.float32).itemsize:
        flat = part.reshape(-1)
        with np.errstate(over="ignore", invalid="ignore"):
            if math.isfinite(np.einsum("n,n->", flat, flat)):  # at the speed of memory
                return True  # what overflows is looked at again
    return bool(np.isfinite(part).all())


def chunks(logits: Logits, labels: Labels) -> Iterator[tuple[NDArray[np.float64], LabelArray]]:
    """Logits in float64 with their labels, a cache-sized piece at a time."""
    start = 0
    for z in value_chunks(logits):
        yield z, labels.values[start : start + len(z)]
        start += len(z)


def value_chunks(logits: Logits) -> Iterator[NDArray[np.float64]]:
    """Logits in float64, a cache-sized piece at a time."""
    width = logits.values.shape[1] if logits.values.ndim == 2 else 1
    step = max(1, CHUNK_ELEMENTS // width)
    for start in range(0, logits.n_samples, step):
        yield logits.values[start : start + step].astype(np.float64)


def check_task(task: str | None) -> None:
    """Raise UsageError unless `task` is one of `TASKS` or None."""
    if task is not None and task not in TASKS:
        raise UsageError(f"task {task!r} is not known", hint=f"use one of {', '.join(TASKS)}")


def take_rows(values: Any, rows: IndexArray) -> Any:
    """Rows of an array; of a memory-mapped one, as another memory-mapped array."""
    if not isinstance(values, np.memmap):
        return values[rows]
    with tempfile.TemporaryFile(prefix="onnxcal-") as file:  # the map outlives it
        taken = np.memmap(file, values.dtype, "w+", shape=(len(rows), *values.shape[1:]))
    step = max(1, (1 << 22) // max(1, int(np.prod(values.shape[1:]))))
    for start in range(0, len(rows), step):
        taken[start : start + step] = values[rows[start : start + step]]
    return taken
