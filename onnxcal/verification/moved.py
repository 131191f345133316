"""How far a file has moved that was converted, quantised or simplified after it was calibrated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnxcal.data import Source
from onnxcal.errors import DataError, ModelError
from onnxcal.graph.head import SMALLEST_PROBABILITY, Head
from onnxcal.graph.modelfile import ModelFile
from onnxcal.inference.collect import collect
from onnxcal.inference.options import RunOptions
from onnxcal.logits import Logits
from onnxcal.metrics import Scores, score
from onnxcal.verification.head import TOLERANCE, HeadComparison


@dataclass(frozen=True)
class Moved:
    """A file that is not what onnxcal wrote, against the calibration that it carries."""

    max_abs_error: float
    """Largest difference of a probability from the reference."""
    argmax_changed: int
    """Samples whose predicted class differs from that of the unpatched logits."""
    n_samples: int
    """Samples that were run."""
    required_tolerance: float
    """A `tolerance` that accepts it: what it needs, rounded up to two digits, or at least its element type's."""
    calibrated: Scores | None
    """Scores of the reference: what was calibrated; None where there are no labels, or not one a sample."""
    converted: Scores | None
    """Scores of the file's own output; probabilities of 0 count as 2⁻²³."""


def how_far(
    original: ModelFile,
    comparisons: Sequence[HeadComparison],
    fed: Sequence[HeadComparison],
    source: Source,
    options: RunOptions,
    n_samples: int,
) -> Moved:
    """Sum up the comparisons of a changed file, the first head's scores among it.

    Those with another T that was `fed` count only for the tolerance that accepts it.
    """
    calibrated = converted = None
    first = comparisons[0]
    rows = first.kept_rows()
    if rows is not None:
        try:
            collected = collect(original, first.head, source, options)
        except (DataError, ModelError):  # no labels, or none that fit
            collected = None
        if collected is not None and collected.sample is None and len(rows) == collected.n_samples:
            sample = collected.labelled
            calibrated = score(sample, first.temperature)
            converted = score(replace(sample, logits=Logits(_as_logits(rows, first.head), first.head.task)))
    return Moved(
        max_abs_error=max(c.max_abs_error for c in comparisons),
        argmax_changed=sum(c.argmax_changed for c in comparisons if c.chosen),
        n_samples=n_samples,
        required_tolerance=max(
            max(_rounded_up(c.needed_tolerance), TOLERANCE[c.head.precision]) for c in (*comparisons, *fed)
        ),
        calibrated=calibrated,
        converted=converted,
    )


def _as_logits(rows: NDArray[np.float64], head: Head) -> NDArray[np.float64]:
    """Logits that these outputs are the probabilities of, where each row of classes is scaled to sum to 1."""
    if head.activation == "log_softmax":
        return rows
    kept = np.log(np.clip(rows, SMALLEST_PROBABILITY, None))
    if head.task == "multiclass":
        return np.asarray(kept)
    return np.asarray(kept - np.log(np.clip(1 - rows, SMALLEST_PROBABILITY, None)))


def _rounded_up(tolerance: float) -> float:
    if not math.isfinite(tolerance) or tolerance <= 0:
        return max(tolerance, 0.0)
    digits = 1 - math.floor(math.log10(tolerance))
    return float(f"{math.ceil(tolerance * 10**digits) / 10**digits:.2g}")
