"""LightGBM, XGBoost and CatBoost models as onnxmltools, skl2onnx and CatBoost itself export them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import catboost
import lightgbm
import numpy as np
import onnx
import onnxmltools
import pytest
import xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
from scipy.special import expit, logit
from skl2onnx import to_onnx, update_registered_converter
from skl2onnx.common.data_types import FloatTensorType as SklearnFloatTensorType
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline

from tests.converters import (
    Conversion,
    Split,
    assert_calibrated,
    best_temperature,
    binary,
    columns,
    multiclass,
    quiet,
    says_log_probabilities,
)

DATA = {"binary": binary, "multiclass": multiclass}
HEAD: dict[str, dict[str, Any]] = {
    "binary": {"form": columns, "task": "binary", "activation": "sigmoid"},
    "multiclass": {},
}
KINDS = pytest.mark.parametrize("kind", DATA)


def lgb(**options: Any) -> lightgbm.LGBMClassifier:
    return lightgbm.LGBMClassifier(n_estimators=6, max_depth=3, random_state=0, n_jobs=1, verbose=-1, **options)


def xgb(**options: Any) -> xgboost.XGBClassifier:
    return xgboost.XGBClassifier(n_estimators=6, max_depth=3, n_jobs=1, **options)


def cat(**options: Any) -> catboost.CatBoostClassifier:
    return catboost.CatBoostClassifier(
        iterations=8, depth=3, random_seed=0, thread_count=1, verbose=False, allow_writing_files=False, **options
    )


def labels(data: Split, *, named: bool = False) -> np.ndarray:
    return np.array([f"class {number}" for number in range(10)])[data.y_train] if named else data.y_train


def initial_types(data: Split) -> list[tuple[str, FloatTensorType]]:
    return [("x", FloatTensorType([None, data.x.shape[1]]))]


def conversion(exported: onnx.ModelProto, data: Split, z: np.ndarray, **expected: Any) -> Conversion:
    outputs = [output.name for output in exported.graph.output][1:]
    return Conversion(exported.SerializeToString(), data.x, data.y, z.astype(np.float64), outputs=outputs, **expected)


@pytest.mark.parametrize("named", [False, True], ids=["numbers", "strings"])
@pytest.mark.parametrize("zipmap", [True, False], ids=["maps", "table"])
@KINDS
def test_lightgbm(kind: str, zipmap: bool, named: bool, tmp_path: Path) -> None:
    data = DATA[kind]()
    with quiet():
        fitted = lgb().fit(data.x_train, labels(data, named=named))
        z = fitted.predict(data.x, raw_score=True)
        exported = onnxmltools.convert_lightgbm(fitted, initial_types=initial_types(data), zipmap=zipmap)
    result = assert_calibrated(conversion(exported, data, z, **HEAD[kind]), tmp_path)
    assert not says_log_probabilities(result)


@KINDS
def test_a_lightgbm_booster(kind: str, tmp_path: Path) -> None:
    data = DATA[kind]()
    objective = {"objective": "binary"} if kind == "binary" else {"objective": "multiclass", "num_class": 10}
    with quiet():
        fitted = lightgbm.train(
            {**objective, "max_depth": 3, "verbose": -1, "num_threads": 1},
            lightgbm.Dataset(data.x_train, data.y_train),
            6,
        )
        z = fitted.predict(data.x, raw_score=True)
        exported = onnxmltools.convert_lightgbm(fitted, initial_types=initial_types(data), zipmap=False)
    assert_calibrated(conversion(exported, data, z, **HEAD[kind]), tmp_path)


@KINDS
def test_lightgbm_split_into_several_ensembles(kind: str, tmp_path: Path) -> None:
    data = DATA[kind]()
    with quiet():
        fitted = lgb().fit(data.x_train, data.y_train)
        z = fitted.predict(data.x, raw_score=True)
        exported = onnxmltools.convert_lightgbm(fitted, initial_types=initial_types(data), zipmap=False, split=2)
    assert_calibrated(conversion(exported, data, z, **HEAD[kind]), tmp_path)


def test_a_steeper_sigmoid_of_lightgbm_is_lost_in_conversion_and_restored_by_calibration(tmp_path: Path) -> None:
    """onnxmltools exports σ(s) for σ(2s): half the T that the library's own scores want."""
    data = binary()
    with quiet():
        fitted = lgb(sigmoid=2.0).fit(data.x_train, data.y_train)
        z = fitted.predict(data.x, raw_score=True)
        exported = onnxmltools.convert_lightgbm(fitted, initial_types=initial_types(data), zipmap=False)
    result = assert_calibrated(conversion(exported, data, z, **HEAD["binary"]), tmp_path)
    own = logit(fitted.predict_proba(data.x)[:, 1])
    assert result.calibration.temperature == pytest.approx(best_temperature(own, data.y) / 2, rel=1e-5)


def test_one_sigmoid_per_class_of_lightgbm_is_a_softmax_once_it_is_exported(tmp_path: Path) -> None:
    """Its own probabilities are sigmoids; the file has a softmax of the same scores, and that is calibrated."""
    data = multiclass()
    with quiet():
        fitted = lgb(objective="multiclassova").fit(data.x_train, data.y_train)
        z = fitted.predict(data.x, raw_score=True)
        exported = onnxmltools.convert_lightgbm(fitted, initial_types=initial_types(data), zipmap=False)
    assert_calibrated(conversion(exported, data, z), tmp_path)
    np.testing.assert_allclose(fitted.predict_proba(data.x), expit(z), atol=1e-6)


@pytest.mark.parametrize("named", [False, True], ids=["numbers", "base score"])
@KINDS
def test_xgboost(kind: str, named: bool, tmp_path: Path) -> None:
    """The file imports no default operator set: there is nothing of it in it."""
    data = DATA[kind]()
    with quiet():
        fitted = xgb(**{"base_score": 0.3} if named else {}).fit(data.x_train, data.y_train)
        z = fitted.predict(data.x, output_margin=True)
        exported = onnxmltools.convert_xgboost(fitted, initial_types=initial_types(data))
    result = assert_calibrated(conversion(exported, data, z, **HEAD[kind]), tmp_path)
    assert not says_log_probabilities(result)


@KINDS
def test_an_xgboost_booster(kind: str, tmp_path: Path) -> None:
    data = DATA[kind]()
    objective = (
        {"objective": "binary:logistic"} if kind == "binary" else {"objective": "multi:softprob", "num_class": 10}
    )
    with quiet():
        fitted = xgboost.train(
            {**objective, "max_depth": 3, "nthread": 1}, xgboost.DMatrix(data.x_train, data.y_train), 6
        )
        z = fitted.predict(xgboost.DMatrix(data.x), output_margin=True)
        exported = onnxmltools.convert_xgboost(fitted, initial_types=initial_types(data))
    assert_calibrated(conversion(exported, data, z, **HEAD[kind]), tmp_path)


def test_a_random_forest_of_xgboost(tmp_path: Path) -> None:
    """Its probabilities are a sigmoid of summed margins; of several classes onnxmltools mixes up the trees."""
    data = binary()
    with quiet():
        fitted = xgboost.XGBRFClassifier(n_estimators=6, max_depth=3, n_jobs=1, random_state=0)
        fitted.fit(data.x_train, data.y_train)
        z = fitted.predict(data.x, output_margin=True)
        exported = onnxmltools.convert_xgboost(fitted, initial_types=initial_types(data))
    assert_calibrated(conversion(exported, data, z, **HEAD["binary"]), tmp_path)


@pytest.mark.parametrize("zipmap", [False, True, "columns"], ids=["table", "maps", "columns"])
@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
@KINDS
def test_a_scikit_learn_pipeline(kind: str, library: str, zipmap: bool | str, tmp_path: Path) -> None:
    data = DATA[kind]()
    exported, z = pipeline(data, library, zipmap)
    assert_calibrated(conversion(exported, data, z, **HEAD[kind]), tmp_path)


def pipeline(data: Split, library: str, zipmap: bool | str) -> tuple[onnx.ModelProto, np.ndarray]:
    """A pipeline with a boosting library at its end, exported by skl2onnx, and its raw scores."""
    made, convert = (lgb(), convert_lightgbm) if library == "lightgbm" else (xgb(), convert_xgboost)
    known = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    update_registered_converter(
        type(made), f"Boosted{library}", calculate_linear_classifier_output_shapes, convert, options=known
    )
    with quiet():
        fitted = make_pipeline(PCA(4, random_state=0), made).fit(data.x_train.astype(np.float64), data.y_train)
        projected = fitted[0].transform(data.x.astype(np.float64))
        z = made.predict(projected, **{"raw_score" if library == "lightgbm" else "output_margin": True})
        exported = to_onnx(
            fitted,
            initial_types=[("x", SklearnFloatTensorType([None, data.x.shape[1]]))],
            options={id(made): {"zipmap": zipmap}},
            target_opset={"": 15, "ai.onnx.ml": 3},
        )
    return exported, z


@pytest.mark.parametrize("named", [False, True], ids=["numbers", "strings"])
@KINDS
def test_catboost(kind: str, named: bool, tmp_path: Path) -> None:
    """Its own exporter: IR 3, no default operator set, maps."""
    data = DATA[kind]()
    with quiet():
        fitted = cat().fit(data.x_train, labels(data, named=named))
        z = fitted.predict(data.x, prediction_type="RawFormulaVal")
    made = conversion(saved(fitted, tmp_path), data, z, **HEAD[kind])
    result = assert_calibrated(made, tmp_path)
    assert not says_log_probabilities(result)


def test_one_against_all_of_catboost_is_a_softmax_once_it_is_exported(tmp_path: Path) -> None:
    """CatBoost's own probabilities are sigmoids; its file has a softmax of the same scores, and that is calibrated."""
    data = multiclass()
    with quiet():
        fitted = cat(loss_function="MultiClassOneVsAll").fit(data.x_train, data.y_train)
        z = fitted.predict(data.x, prediction_type="RawFormulaVal")
    assert_calibrated(conversion(saved(fitted, tmp_path), data, z), tmp_path)
    np.testing.assert_allclose(fitted.predict_proba(data.x), expit(z), atol=1e-6)


def saved(fitted: catboost.CatBoostClassifier, folder: Path) -> onnx.ModelProto:
    fitted.save_model(str(folder / "catboost.onnx"), format="onnx")
    return onnx.ModelProto.FromString((folder / "catboost.onnx").read_bytes())
