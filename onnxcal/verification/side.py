"""One of two models in another runtime, the unpatched or the patched one: its outputs against the reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.errors import OnnxcalError
from onnxcal.graph.head import Head
from onnxcal.inference.expected import activated, expected_output, logits_of
from onnxcal.inference.feeds import Feed
from onnxcal.inference.runtimes.client import RuntimeFailed, RuntimeProcess
from onnxcal.inference.runtimes.runtime import Job
from onnxcal.verification.elsewhere import RuntimeComparison
from onnxcal.verification.reference import Seen

SMALLEST = 2.0**-149
"""What a probability counts as at least where its logarithm is needed: the smallest number of float32."""


class Side:
    """Running totals of one model.

    Parameters
    ----------
    model : the file; its stem is the slot in the process.
    outputs : names of all outputs, in order.
    comparisons : of the heads that are looked at.
    """

    def __init__(self, model: Path, outputs: Sequence[str], comparisons: Sequence[RuntimeComparison]) -> None:
        self.model, self.outputs, self.comparisons = model, tuple(outputs), tuple(comparisons)
        self.failed: str | None = None
        self.ran = False
        self._loaded_in = 0

    @property
    def passed(self) -> bool:
        """Whether it ran and was right."""
        return self.failed is None and self.ran and all(c.passed for c in self.comparisons)

    def passed_with(self, allowance: float) -> bool:
        """Whether it would be right with a larger tolerance."""
        return self.failed is None and self.ran and all(c.passed_with(allowance) for c in self.comparisons)

    @property
    def worst(self) -> RuntimeComparison:
        """The head that is furthest beyond its limit."""
        return max(self.comparisons, key=lambda c: c.worst.error / c.limit)

    @property
    def max_abs_error(self) -> float | None:
        """Largest error of any head; None if nothing was computed."""
        return max(c.max_abs_error for c in self.comparisons) if self.ran else None

    def take(
        self, process: RuntimeProcess, job: Job, feed: Feed, seen: Seen, first: int
    ) -> list[NDArray[np.float64]] | None:
        """Run one batch, of which the first sample has the number `first`.

        Returns
        -------
        For each head its values in the layout of the logits, of a head that shows logits these; None once it failed.
        """
        if self.failed is not None:
            return None
        try:
            if self._loaded_in != process.starts or process.starts == 0:  # else a crash has taken it away
                process.load(self.model.stem, job)
                self._loaded_in = process.starts
            results = process.run(self.model.stem, feed.arrays)
            if len(results) != len(self.outputs):
                raise RuntimeFailed(f"it gives {len(results)} outputs where there are {len(self.outputs)}")
            by_name = dict(zip(self.outputs, results, strict=True))
            placed = [
                self._compare(c, by_name[c.output], z, axis, feed, seen, first)
                for c, z, axis in zip(self.comparisons, seen.logits, seen.batch_axes, strict=True)
            ]
        except RuntimeFailed as error:
            self.failed = str(error)
            return None
        except OnnxcalError as error:
            self.failed = error.message
            return None
        self.ran = True
        return placed

    def _compare(
        self, comparison: RuntimeComparison, output: Any, z: Any, axis: int, feed: Feed, seen: Seen, first: int
    ) -> NDArray[np.float64]:
        head = comparison.head
        known = seen.tensors[head.output]
        if isinstance(known, np.ndarray):  # some runtimes drop axes of length 1, or the axis of samples
            output = np.asarray(output)
            if output.size != known.size:
                raise RuntimeFailed(f"output '{comparison.output}' has shape {output.shape}, expected {known.shape}")
            output = output.reshape(known.shape)
            if output.dtype.kind not in "fV":
                raise RuntimeFailed(f"output '{comparison.output}' has type {output.dtype}, expected {known.dtype}")
        logits = logits_of(z, head)
        expected = expected_output(logits, head, comparison.temperature, seen.tensors)
        shown = expected.placed(_numbers(output, head, expected.values.shape), logits.shape)
        if head.activation == "none" and comparison.temperature == 1:
            whole = np.where(np.isnan(shown), logits, shown)  # what is not shown cannot be wrong
            probabilities = activated(whole, head, 1.0).reshape(-1)[expected.source]
            output = np.where(expected.negated, 1 - probabilities, probabilities).reshape(known.shape)
        comparison.update(z, seen.tensors, output, feed, first, axis)
        return shown


def as_logits(values: NDArray[np.float64], head: Head, *, raw: bool = False) -> NDArray[np.float64]:
    """Logits of which a head's activation makes these values; `raw` if they are logits already."""
    if raw or head.activation == "log_softmax":
        return values
    p = np.maximum(values, SMALLEST)
    return np.asarray(np.log(p) if head.task == "multiclass" else np.log(p) - np.log1p(-np.minimum(p, 1 - 2.0**-53)))


def _numbers(output: Any, head: Head, shape: tuple[int, ...]) -> NDArray[np.float64]:
    if head.keys is not None and isinstance(output, list):
        output = [[row[key] for key in head.keys] for row in output]
    try:
        return np.asarray(output).astype(np.float64).reshape(shape)
    except (TypeError, ValueError):
        raise RuntimeFailed(f"output '{head.output}' holds no numbers of shape {shape}") from None
