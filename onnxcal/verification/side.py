"""One of two models in another runtime, the unpatched or the patched one: its outputs against the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxcal.errors import OnnxcalError
from onnxcal.graph.head import Head
from onnxcal.inference.expected import activated, expected_output, logits_of, output_array
from onnxcal.inference.feeds import Feed
from onnxcal.inference.runtimes.client import RuntimeFailed, RuntimeProcess
from onnxcal.inference.runtimes.runtime import Job
from onnxcal.verification.elsewhere import RuntimeComparison
from onnxcal.verification.reference import Seen

Values: TypeAlias = Sequence[NDArray[np.float64]]
"""For each head what a runtime gave, in the layout of its logits; NaN where the output does not show them."""

SMALLEST = 2.0**-149
"""What a probability counts as at least where its logarithm is needed: the smallest number of float32."""


class Side:
    """Running totals of one model.

    Parameters
    ----------
    slot : where it is in the process.
    model : the file.
    outputs : names of all outputs, in order.
    comparisons : of the heads that are looked at.
    """

    def __init__(
        self, slot: str, model: Path, outputs: Sequence[str], comparisons: Sequence[RuntimeComparison]
    ) -> None:
        self.slot, self.model = slot, model
        self.outputs, self.comparisons = tuple(outputs), tuple(comparisons)
        self.failed: str | None = None
        """Why it has no values to look at."""
        self.malformed = False
        """Whether that is because what it gave is no such output."""
        self.ran = False

    @property
    def passed(self) -> bool:
        """Whether it ran and was right."""
        return self.failed is None and self.ran and all(c.passed for c in self.comparisons)

    @property
    def refused(self) -> bool:
        """Whether the runtime could not load or run it, or did not in time."""
        return self.failed is not None and not self.malformed

    @property
    def within_spread(self) -> bool:
        """Whether what is wrong is no more than the model's own spread, however large that is."""
        return self.failed is None and self.ran and all(c.within_spread for c in self.comparisons)

    @property
    def spread(self) -> float:
        """The largest own spread of any head."""
        return max(c.spread for c in self.comparisons)

    def allow(self, spreads: Sequence[float]) -> None:
        """Let each head move as far as it does by itself."""
        for comparison, spread in zip(self.comparisons, spreads, strict=True):
            comparison.spread = spread

    @property
    def worst(self) -> RuntimeComparison:
        """The head that is furthest beyond its limit."""
        return max(self.comparisons, key=lambda c: c.worst.error / c.limit)

    @property
    def max_abs_error(self) -> float | None:
        """Largest error of any head; None if nothing was computed."""
        return max(c.max_abs_error for c in self.comparisons) if self.ran else None

    def take(self, process: RuntimeProcess, job: Job, feed: Feed, seen: Seen, first: int) -> Values | None:
        """Run one batch, of which the first sample has the number `first`.

        Returns
        -------
        Its values, of a head that shows logits these, infinite where they are no numbers; None once it failed.
        """
        if self.failed is not None:
            return None
        try:
            by_name = outputs_there(process, self.slot, job, feed.arrays)
            placed = [
                self._compare(c, by_name[c.output], z, axis, feed, seen, first)
                for c, z, axis in zip(self.comparisons, seen.logits, seen.batch_axes, strict=True)
            ]
        except RuntimeFailed as error:
            self.failed = str(error)
            return None
        except Malformed as error:
            self.failed, self.malformed = str(error), True
            return None
        except OnnxcalError as error:
            self.failed, self.malformed = error.message, True
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
                raise Malformed(f"output '{comparison.output}' has shape {output.shape}, expected {known.shape}")
            output = output.reshape(known.shape)
            if output.dtype.kind not in "fV":
                raise Malformed(f"output '{comparison.output}' has type {output.dtype}, expected {known.dtype}")
        logits = logits_of(z, head)
        expected = expected_output(logits, head, comparison.temperature, seen.tensors)
        shown = expected.placed(_numbers(output, head, expected.values.shape), logits.shape)
        is_shown = ~np.isnan(expected.placed(np.ones(expected.values.shape), logits.shape))
        if head.activation == "none" and comparison.temperature == 1:
            whole = np.where(is_shown, shown, logits)  # what is not shown cannot be wrong
            with np.errstate(all="ignore"):
                probabilities = activated(whole, head, 1.0).reshape(-1)[expected.source]
            output = np.where(expected.negated, 1 - probabilities, probabilities)
            output = output.reshape(output_array(known, head).shape)
        comparison.update(z, seen.tensors, output, feed, first, axis)
        return np.where(is_shown & np.isnan(shown), np.inf, shown)


class Malformed(Exception):
    """What a runtime gave is not what the model's outputs are: one sentence."""


def outputs_there(process: RuntimeProcess, slot: str, job: Job, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """All outputs of a model in a runtime, by name; it is loaded if it is not there, or not any more.

    Raises
    ------
    RuntimeFailed
        As of `RuntimeProcess.load`.
    Malformed
        There are more or fewer of them than the model has.
    """
    if not process.holds(slot):
        process.load(slot, job)
    results = process.run(slot, arrays)
    if len(results) != len(job.outputs):
        raise Malformed(f"it gives {len(results)} outputs where there are {len(job.outputs)}")
    return dict(zip(job.outputs, results, strict=True))


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
        raise Malformed(f"output '{head.output}' holds no numbers of shape {shape}") from None
