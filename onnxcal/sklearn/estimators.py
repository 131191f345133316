"""Taking scikit-learn estimators apart: what is wrapped, which step is the last, which columns are picked by name."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from onnxcal.errors import ModelError


def name_of(estimator: Any) -> str:
    """How messages call an estimator."""
    return type(estimator).__name__


def unwrapped(estimator: Any) -> Any:
    """A fitted estimator without the `FrozenEstimator`s around it and around the steps of its pipeline."""
    while name_of(estimator) == "FrozenEstimator":
        estimator = estimator.estimator
    if hasattr(estimator, "best_estimator_"):  # of a grid search: what it predicts with
        return unwrapped(estimator.best_estimator_)
    if _is_pipeline(estimator):
        steps = [(name, unwrapped(step)) for name, step in estimator.steps]
        if any(new is not old for (_, new), (_, old) in zip(steps, estimator.steps, strict=True)):
            return _with_steps(estimator, steps)
    return estimator


def with_last_step(estimator: Any, last: Any) -> Any:
    """An unwrapped estimator whose last step is another."""
    if not _is_pipeline(estimator):
        return last
    name, step = estimator.steps[-1]
    return _with_steps(estimator, [*estimator.steps[:-1], (name, with_last_step(step, last))])


def final_step(estimator: Any, X: Any) -> tuple[Any, Any]:
    """The classifier at the end of pipelines, and what the steps before it make of X."""
    while _is_pipeline(estimator):
        for _, step in estimator.steps[:-1]:
            if step is not None and step != "passthrough":
                X = step.transform(X)
        estimator = estimator.steps[-1][1]
    return estimator, X


def last_step(estimator: Any) -> Any:
    """The classifier at the end of pipelines."""
    while _is_pipeline(estimator):
        estimator = estimator.steps[-1][1]
    return estimator


def parts(estimator: Any) -> Iterator[Any]:
    """An estimator and those that it is built of."""
    yield estimator
    if hasattr(estimator, "get_params") and not isinstance(estimator, type):
        yield from (value for value in estimator.get_params(deep=True).values() if hasattr(value, "get_params"))


def picks_columns(estimator: Any) -> bool:
    """Whether columns go different ways."""
    return any(name_of(part) == "ColumnTransformer" for part in parts(estimator))


def check_fitted(estimator: Any) -> None:
    """Raise ModelError unless the estimator is a classifier that was fitted."""
    from sklearn.base import is_classifier
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    if isinstance(estimator, type) or not hasattr(estimator, "fit"):
        what = estimator.__name__ if isinstance(estimator, type) else f"a {name_of(estimator)}"
        raise ModelError(f"{what} is no fitted estimator", hint="pass what .fit(X, y) returned")
    try:
        check_is_fitted(last_step(estimator))
    except NotFittedError:
        raise ModelError(f"the {name_of(estimator)} is not fitted", hint="call .fit(X, y) first") from None
    if not is_classifier(estimator):
        raise ModelError(f"{name_of(estimator)} is no classifier", hint="only classifiers can be calibrated")


def _is_pipeline(estimator: Any) -> bool:
    return hasattr(estimator, "steps") and hasattr(estimator, "named_steps")


def _with_steps(pipeline: Any, steps: list[tuple[str, Any]]) -> Any:
    other = copy.copy(pipeline)
    other.steps = steps
    return other
