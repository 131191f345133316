"""The same temperature by other people's optimisers: torch's LBFGS in double, and scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator


def torch_temperature(z: Any, labels: Any, loss: Any, **options: Any) -> float:
    """T that minimises `loss(z / T, labels)`, by LBFGS with line search on log T; one of torch's functional losses."""
    logits, truth = torch.tensor(np.asarray(z, np.float64)), torch.tensor(labels)
    log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [log_t], max_iter=500, tolerance_grad=1e-15, tolerance_change=1e-18, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        value: torch.Tensor = loss(logits / log_t.exp(), truth, **options)
        value.backward()
        return value

    for _ in range(5):
        optimiser.step(closure)
    return float(log_t.detach().exp())


def torch_standard_error(z: Any, labels: Any, temperature: float, loss: Any) -> float:
    """1 / √(d² NLL / dT²) of the summed loss, by differentiating twice in double."""
    logits, truth = torch.tensor(np.asarray(z, np.float64)), torch.tensor(labels)
    t = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(loss(logits / t, truth, reduction="sum"), t, create_graph=True)
    (second,) = torch.autograd.grad(first, t)
    return float(second) ** -0.5


class _Scores(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose inputs are its decision function."""

    def __init__(self, num_classes: int = 2) -> None:
        self.num_classes = num_classes

    def fit(self, x: Any, y: Any = None) -> _Scores:
        self.classes_ = np.arange(self.num_classes)
        self.n_features_in_ = x.shape[1]
        return self

    def decision_function(self, x: Any) -> Any:
        return x[:, 0] if self.num_classes == 2 else x

    def predict(self, x: Any) -> Any:
        return x.argmax(axis=1)


def sklearn_temperature(z: Any, labels: Any) -> float:
    """T of `CalibratedClassifierCV(method="temperature")` on logits (N, K), or (N, 1) of a binary classifier."""
    z = np.asarray(z, np.float64)
    scores = _Scores(max(2, z.shape[1])).fit(z)
    fitted = CalibratedClassifierCV(FrozenEstimator(scores), method="temperature", ensemble=False).fit(z, labels)
    return 1.0 / float(fitted.calibrated_classifiers_[0].calibrators[0].beta_)
