"""The split by which a temperature is judged on samples that it was not fitted on."""

from __future__ import annotations

import numpy as np

from onnxcal.logits import IndexArray, Labels, Task


def halves(labels: Labels, task: Task, sample: IndexArray | None, seed: int) -> tuple[IndexArray, IndexArray]:
    """Rows to fit on and rows to measure on: two halves, stratified by class, the same for the same seed.

    Parameters
    ----------
    labels : of all rows.
    task : multilabel rows have no single class and are split at random.
    sample : which sample each row belongs to; rows of one (the positions of an image) stay together, and samples are
        then split at random.
    seed : of the shuffle.
    """
    rng = np.random.default_rng(seed)
    if sample is not None and len(np.unique(sample)) < len(sample):
        _, image = np.unique(sample, return_inverse=True)
        order = rng.permutation(int(image.max()) + 1)
        held = np.zeros(len(order), bool)
        held[order[1::2]] = True
        row_held = held[image]
        return np.flatnonzero(~row_held), np.flatnonzero(row_held)
    order = rng.permutation(len(labels.values))
    strata = _strata(labels, task)
    if strata is not None:
        order = order[np.argsort(strata[order], kind="stable")]
    return np.sort(order[0::2]), np.sort(order[1::2])


def _strata(labels: Labels, task: Task) -> IndexArray | None:
    values = labels.values
    if task == "multilabel":
        return None
    if values.ndim == 2:
        return np.asarray(values.argmax(axis=1), np.int64)
    return values.astype(np.int64) if labels.are_indices else (values > 0.5).astype(np.int64)
