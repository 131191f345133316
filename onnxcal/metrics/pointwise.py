"""What each sample contributes to a score: small functions of one chunk of probabilities and labels.

Multiclass p is (n, K) and labels are (n,) class indices or (n, K) soft labels. Binary p is (n,) and multilabel p is
(n, K), with labels in [0, 1] of the same shape: there each entry counts as a prediction of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from onnxcal.logits import LabelArray, Probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray

Rows: TypeAlias = "NDArray[np.float64]"


def nll(p: Probabilities, labels: LabelArray) -> Rows:
    """−log p of the label (natural logarithm, not clipped); for soft labels the cross entropy −Σ y log p."""
    if p.log_complements is not None:
        likelihood = (_times_log(labels, p.log_values) + _times_log(1 - labels, p.log_complements)).reshape(-1)
    elif labels.ndim == 1:
        likelihood = p.log_values[np.arange(len(labels)), labels.astype(np.int64)]
    else:
        likelihood = _times_log(labels, p.log_values).sum(axis=1)
    return np.negative(likelihood)


def brier(p: Probabilities, labels: LabelArray) -> Rows:
    """Σ_k (p_k − y_k)² of a multiclass row (Brier 1950, not divided by K); (p − y)² of a binary prediction."""
    values = p.values
    if p.log_complements is not None:
        squared: Rows = ((values - labels) ** 2).reshape(-1)
        return squared
    if labels.ndim == 1:
        values[np.arange(len(labels)), labels.astype(np.int64)] -= 1.0
    else:
        values -= labels
    return np.asarray(np.einsum("nk,nk->n", values, values), np.float64)


def top_label(p: Probabilities, labels: LabelArray) -> tuple[Rows, NDArray[np.bool_]]:
    """Confidence of the predicted class, and whether that class is the label; ties go to the lower class index."""
    if p.log_complements is not None:
        positive = p.log_values > p.log_complements
        confidence = np.exp(np.maximum(p.log_values, p.log_complements))
        return confidence.reshape(-1), (positive == (labels > 0.5)).reshape(-1)
    predicted = p.log_values.argmax(axis=1)
    confidence = np.exp(p.log_values[np.arange(len(predicted)), predicted])
    truth = labels if labels.ndim == 1 else labels.argmax(axis=1)
    return confidence, predicted == truth


def _times_log(weight: LabelArray, log_p: Rows) -> Rows:
    """weight · log p with 0 · −inf = 0."""
    return np.where(weight == 0, 0.0, weight * np.where(weight == 0, 0.0, log_p))
