"""Logits that come in batches: kept as one sample, on disk where they are many, or seen once and only added up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from onnxcal.calibrators.grid import NLLGrid
from onnxcal.errors import DataError
from onnxcal.logits import Labels, Logits, Sample, Task
from onnxcal.rows import PASS_LOGITS, are_probabilities, labelled
from onnxcal.spool import Spool

MEMORY = 1 << 25
"""Bytes of logits, and of labels, that are kept in memory; what is more goes to a temporary file."""
_PIECE = 1 << 16


def kept(batches: Iterable[Any], **reading: Any) -> Sample:
    """All batches as one sample.

    Parameters
    ----------
    batches : pairs of logits and labels, or triples with sample weights: each as for `fit`, of any length.
    reading : `task`, `axis` and `ignore_index`, as for `fit`.

    Raises
    ------
    DataError
        There is no batch, one is no such pair, or does not fit those before it.
    """
    values, labels, weights, groups = (Spool(most_bytes=MEMORY) for _ in range(4))
    task: Task = "multiclass"
    rows, seen, weighted, grouped = 0, 0, False, False
    for part in _samples(batches, **reading):
        n, task = part.logits.n_samples, part.logits.task
        values.append(part.logits.values)
        labels.append(part.labels.values)
        if part.weight is not None and not weighted:  # what came before counts 1
            weighted = True
            for start in range(0, rows, _PIECE):
                weights.append(np.ones(min(_PIECE, rows - start)))
        if part.group is not None and not grouped:  # and was a sample a row
            grouped = True
            for start in range(0, rows, _PIECE):
                groups.append(np.arange(start, min(start + _PIECE, rows)))
        if weighted:
            weights.append(np.ones(n) if part.weight is None else part.weight)
        group = np.arange(n) if part.group is None else part.group
        if grouped:
            groups.append(seen + group)
        rows, seen = rows + n, seen + int(group.max()) + 1
    return Sample(
        Logits(values.array(), task),
        Labels(labels.array()),
        weights.array() if weighted else None,
        groups.array() if grouped else None,
    )


def added(batches: Iterable[Any], **reading: Any) -> NLLGrid:
    """All batches as the state of a single pass that keeps none of them; parameters and errors as for `kept`."""
    state = NLLGrid()
    for part in _samples(batches, **reading):
        state = state + NLLGrid.of(part)
    return state


def _samples(batches: Iterable[Any], **reading: Any) -> Iterator[Sample]:
    """Each batch, checked; those without a single labelled sample are left out."""
    form, probabilities = None, True
    for number, batch in enumerate(batches):
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            raise DataError(
                f"batch {number} is no pair of logits and labels",
                hint="yield (logits, labels), or (logits, labels, sample_weight); or pass both as arrays",
            )
        logits, labels, *weight = batch
        part = labelled(logits, labels, weight=weight[0] if weight else None, part=True, **reading)
        if part.logits.n_samples == 0:
            continue
        found = (part.logits.task, part.logits.num_classes, part.labels.are_indices, part.logits.values.dtype)
        if form not in (None, found):
            raise DataError(
                f"batch {number} differs from those before it in its classes, its kind of labels or its dtype",
                hint="pass logits of one model, and labels of one kind",
            )
        form = found
        probabilities = probabilities and are_probabilities(part.logits)
        yield part
    if form is not None and probabilities:
        raise DataError("all batches hold probabilities, not logits: rows are ≥ 0 and sum to 1", hint=PASS_LOGITS)
    if form is None:
        raise DataError(
            "there are no labelled samples", hint="pass an iterable of (logits, labels) batches that is not used up"
        )
