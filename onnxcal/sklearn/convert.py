"""From a fitted classifier to an ONNX model, through skl2onnx; LightGBM and XGBoost through onnxmltools' converters."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxcal.errors import ModelError, UsageError
from onnxcal.sklearn.estimators import last_step, name_of, parts
from onnxcal.sklearn.inputs import Inputs
from onnxcal.sklearn.trees import round_thresholds_down

EXTRA = "pip install 'onnxcal[sklearn]'"
_BOOSTING = {
    ("lightgbm", "LGBMClassifier"): "lightgbm.operator_converters.LightGbm.convert_lightgbm",
    ("xgboost", "XGBClassifier"): "xgboost.operator_converters.XGBoost.convert_xgboost",
}
_BOOSTING_OPSET = {"": 15, "ai.onnx.ml": 3}
"""What onnxmltools' converters write at most."""


def require_libraries() -> None:
    """Raise UsageError unless scikit-learn and skl2onnx are installed."""
    missing = [library for library in ("sklearn", "skl2onnx") if importlib.util.find_spec(library) is None]
    if missing:
        raise UsageError(f"onnxcal.sklearn needs {missing[0]}, which is not installed", hint=EXTRA)


def to_model(
    estimator: Any,
    inputs: Inputs,
    *,
    raw: bool,
    options: Mapping[str, Any] | None,
    target_opset: int | Mapping[str, int] | None,
) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
    """An ONNX model of an estimator, and the inputs by the names that it gives them.

    Parameters
    ----------
    estimator : fitted and unwrapped.
    inputs : samples whose types the model's inputs get.
    raw : whether the model is to show scores, not probabilities.
    options : of skl2onnx, for the classifier; default `{"zipmap": False}`.
    target_opset : of skl2onnx.

    Raises
    ------
    ModelError
        skl2onnx cannot convert it.
    UsageError
        An option does not go with calibration.
    """
    from skl2onnx import convert_sklearn

    boosted = _register_boosting(estimator)
    last = last_step(estimator)
    chosen: dict[str, Any] = {} if name_of(last) == "LinearSVC" else {"zipmap": False}
    chosen |= {"raw_scores": True} if raw else {}
    chosen |= dict(options or {})
    if chosen.get("zipmap") == "columns":
        raise UsageError("zipmap='columns' scatters the probabilities", hint="use zipmap=True or zipmap=False")
    opset = target_opset if target_opset is not None else _BOOSTING_OPSET if boosted else None
    types = [(name, _type(array)) for name, array in inputs.arrays.items()]
    try:
        with warnings.catch_warnings(), _bools_as_ints():
            warnings.simplefilter("ignore")  # of skl2onnx about other libraries' versions
            proto = convert_sklearn(
                estimator,
                name=name_of(estimator),
                initial_types=types,
                options={id(last): chosen},
                target_opset=dict(opset) if isinstance(opset, Mapping) else opset,
            )
    except Exception as error:  # skl2onnx's exceptions have no common base, and it lets others through
        raise ModelError(
            f"skl2onnx cannot convert {name_of(last)}: {_first_line(error)}",
            hint="see skl2onnx.supported_converters(); or convert it otherwise, then onnxcal calibrate MODEL",
        ) from error
    round_thresholds_down(proto, estimator)
    names = [value.name for value in proto.graph.input]
    given = dict(zip((variable for variable, _ in types), inputs.arrays.values(), strict=True))
    if len(names) == len(given):
        return proto, dict(zip(names, given.values(), strict=True))
    return proto, {name: array for name, array in given.items() if name in names}


def _type(array: NDArray[Any]) -> Any:
    from skl2onnx.common import data_types

    kinds = {"f4": "FloatTensorType", "f8": "DoubleTensorType", "i8": "Int64TensorType", "b1": "BooleanTensorType"}
    kind = kinds.get(f"{array.dtype.kind}{array.dtype.itemsize}", "StringTensorType")
    return getattr(data_types, kind)([None, array.shape[1]])


def _register_boosting(estimator: Any) -> bool:
    """Tell skl2onnx how boosting libraries are converted, where it does not know; whether there are any."""
    found = False
    for part in parts(estimator):
        library = type(part).__module__.partition(".")[0]
        where = _BOOSTING.get((library, name_of(part)))
        if where is None:
            continue
        found = True
        from skl2onnx import update_registered_converter
        from skl2onnx._supported_operators import sklearn_operator_name_map
        from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes

        if type(part) in sklearn_operator_name_map:
            continue
        module, _, function = f"onnxmltools.convert.{where}".rpartition(".")
        try:
            convert = getattr(importlib.import_module(module), function)
        except ImportError:
            raise UsageError(
                f"a {name_of(part)} is converted by onnxmltools, which is not installed", hint="pip install onnxmltools"
            ) from None
        update_registered_converter(
            type(part),
            f"Onnxcal{name_of(part)}",
            calculate_linear_classifier_output_shapes,
            convert,
            options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
        )
    return found


@contextmanager
def _bools_as_ints() -> Iterator[None]:
    """skl2onnx 1.20 puts bools among the ints of a histogram gradient boosting's trees, which protobuf 7 refuses."""
    from skl2onnx.common import tree_ensemble

    add_node = tree_ensemble.add_node

    def with_ints(*args: Any, **options: Any) -> Any:
        return add_node(*args, **{k: int(v) if isinstance(v, (bool, np.bool_)) else v for k, v in options.items()})

    tree_ensemble.add_node = with_ints
    try:
        yield
    finally:
        tree_ensemble.add_node = add_node


def _first_line(error: Exception) -> str:
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return line if len(line) <= 200 else f"{line[:200]}…"
