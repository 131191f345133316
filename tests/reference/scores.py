"""Accuracy, confidence, NLL, Brier score and ECE by plain loops over rows and bins, as `expected.json` defines them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def expected_calibration_error(confidence: Sequence[float], correct: Sequence[Any], n_bins: int) -> float:
    """Bins (lo, hi] of equal width, the first with its 0; an edge is the double nearest to m / M."""
    n, total = len(confidence), 0.0
    for m in range(n_bins):
        low, high = m / n_bins, (m + 1) / n_bins
        inside = [i for i, c in enumerate(confidence) if low < c <= high or (m == 0 and c == 0)]
        if inside:
            accuracy = math.fsum(float(correct[i]) for i in inside) / len(inside)
            mean = math.fsum(float(confidence[i]) for i in inside) / len(inside)
            total += len(inside) / n * abs(accuracy - mean)
    return total


def softmax_scores(z: Any, labels: Any, temperature: float = 1.0) -> dict[str, float]:
    """Scores of softmax(z / T) for class indices."""
    confidence, correct, nll, brier = [], [], [], []
    for row, label in zip(z, labels, strict=True):
        scaled = [float(v) / temperature for v in row]
        top = max(scaled)
        log_sum = top + math.log(math.fsum(math.exp(v - top) for v in scaled))
        p = [math.exp(v - log_sum) for v in scaled]
        predicted = scaled.index(top)
        confidence.append(p[predicted])
        correct.append(predicted == label)
        nll.append(log_sum - scaled[int(label)])
        brier.append(math.fsum((q - (k == label)) ** 2 for k, q in enumerate(p)))
    return _means(confidence, correct, nll, brier)


def sigmoid_scores(s: Any, flags: Any, temperature: float = 1.0) -> dict[str, float]:
    """Scores of σ(s / T) for 0/1 labels, each a prediction of its own."""
    confidence, correct, nll, brier = [], [], [], []
    for logit, flag in zip(s, flags, strict=True):
        v = float(logit) / temperature
        p = 1.0 / (1.0 + math.exp(-v)) if v >= 0 else math.exp(v) / (1.0 + math.exp(v))
        confidence.append(1.0 / (1.0 + math.exp(-abs(v))))
        correct.append((v > 0) == bool(flag))
        nll.append(max(v, 0.0) - v * float(flag) + math.log1p(math.exp(-abs(v))))
        brier.append((p - float(flag)) ** 2)
    return _means(confidence, correct, nll, brier)


def _means(confidence: list[float], correct: list[bool], nll: list[float], brier: list[float]) -> dict[str, float]:
    n = len(nll)
    return {
        "accuracy": sum(correct) / n,
        "confidence": math.fsum(confidence) / n,
        "nll": math.fsum(nll) / n,
        "brier": math.fsum(brier) / n,
        "ece": expected_calibration_error(confidence, correct, 15),
    }
