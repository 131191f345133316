"""Logits that come in batches: kept as one sample on disk, or seen once and only added up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from onnxcal.calibrators.grid import NLLGrid
from onnxcal.errors import DataError
from onnxcal.logits import Labels, Logits, Sample, Task
from onnxcal.rows import labelled
from onnxcal.spool import Spool


def kept(batches: Iterable[Any], *, task: Task | None, axis: int | None, ignore_index: int | None) -> Sample:
    """All batches as one sample, in a temporary file once they are many.

    Parameters
    ----------
    batches : pairs of logits and labels, or triples with sample weights: of any length, each as for `fit`.
    task, axis, ignore_index : as for `fit`.

    Raises
    ------
    DataError
        A batch that is no such pair, or does not fit those before it.
    """
    values, labels, weights, groups = Spool(), Spool(), Spool(), Spool()
    seen, made_of, grouped, weighted = 0, None, False, False
    for part in _samples(batches, task, axis, ignore_index):
        n = part.logits.n_samples
        form = (part.logits.task, part.logits.values.shape[1:], part.labels.are_indices)
        if made_of not in (None, form):
            raise DataError(
                f"batches differ: {_named(form)} after {_named(made_of)}", hint="pass logits and labels of one form"
            )
        made_of = form
        values.append(part.logits.values)
        labels.append(part.labels.values)
        grouped, weighted = grouped or part.group is not None, weighted or part.weight is not None
        weights.append(np.ones(n) if part.weight is None else part.weight)
        group = np.arange(n) if part.group is None else part.group
        groups.append(seen + group)
        seen += int(group[-1]) + 1
    if made_of is None:
        raise DataError("there are no batches", hint="pass an iterable of (logits, labels) pairs that is not used up")
    return Sample(
        Logits(values.array(), made_of[0]),
        Labels(labels.array()),
        weights.array() if weighted else None,
        groups.array() if grouped else None,
    )


def added(batches: Iterable[Any], *, task: Task | None, axis: int | None, ignore_index: int | None) -> NLLGrid:
    """All batches as the state of a single pass; parameters and errors as for `kept`."""
    state, task_seen = NLLGrid(), None
    for part in _samples(batches, task, axis, ignore_index):
        form = (part.logits.task, part.logits.values.shape[1:])
        if task_seen not in (None, form):
            raise DataError("batches differ in their classes", hint="pass logits of one model")
        task_seen = form
        state = state + NLLGrid.of(part)
    if task_seen is None:
        raise DataError("there are no batches", hint="pass an iterable of (logits, labels) pairs that is not used up")
    return state
