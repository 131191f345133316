"""scikit-learn models as skl2onnx exports them.

Where an estimator has scores that its probabilities are a softmax or sigmoid of, those are what is calibrated. Others
have probabilities only, and the logarithms of these serve.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from scipy.special import expit, logit
from skl2onnx import to_onnx
from skl2onnx.common import tree_ensemble
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression, Perceptron, RidgeClassifier, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import BernoulliNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC, NuSVC
from sklearn.tree import DecisionTreeClassifier

import onnxcal
from tests.converters import (
    Conversion,
    Split,
    assert_calibrated,
    best_temperature,
    binary,
    columns,
    log_of,
    margins,
    multiclass,
    multilabel,
    quiet,
    run,
    says_log_probabilities,
)

ML1 = {"": 15, "ai.onnx.ml": 1}
ML3 = {"": 17, "ai.onnx.ml": 3}
ML5 = {"": 21, "ai.onnx.ml": 5}
BINARY_NAMES = ("cancer", "none")
DIGIT_NAMES = tuple(f"digit {number}" for number in range(10))


@cache
def fitted(estimator: BaseEstimator, data: Callable[[], Split], names: Sequence[str] | None) -> BaseEstimator:
    """The estimator, trained on labels that are class names or numbers."""
    train = data()
    labels = train.y_train if names is None else np.array(names)[train.y_train]
    with quiet():
        return clone(estimator).fit(train.x_train.astype(np.float64), labels)


@dataclass(frozen=True)
class Export:
    """An estimator, and how it is exported."""

    estimator: BaseEstimator
    data: Callable[[], Split]
    names: Sequence[str] | None = None
    """Class names, in sorted order; None for numbers."""
    options: Mapping[str, Any] = field(default_factory=lambda: {"zipmap": False})
    """Of skl2onnx."""
    opset: Mapping[str, int] | None = None
    dtype: type = np.float32

    def model(self) -> bytes:
        """Its ONNX file."""
        made = fitted(self.estimator, self.data, self.names)
        tensor = DoubleTensorType if self.dtype is np.float64 else FloatTensorType
        with quiet():
            exported = to_onnx(
                made,
                initial_types=[("x", tensor([None, self.data().x.shape[1]]))],
                options={id(made): dict(self.options)},
                target_opset=self.opset,
            )
        return exported.SerializeToString()

    def conversion(self, **expected: Any) -> Conversion:
        """The exported model, and the scores that the estimator itself gives."""
        data, kind = self.data(), expected.pop("scores")
        with quiet():
            z = _SCORES[kind](fitted(self.estimator, self.data, self.names), data.x.astype(np.float64))
        return Conversion(self.model(), data.x.astype(self.dtype), data.y, z, **expected)


_SCORES = {
    "decision": lambda made, x: made.decision_function(x),
    "margins": lambda made, x: margins(made.decision_function(x)),
    "log-odds": lambda made, x: np.diff(made.predict_log_proba(x), axis=1)[:, 0],
    "log-probabilities": lambda made, x: made.predict_log_proba(x),
    "independent": lambda made, x: logit(made.predict_proba(x)),
    "probabilities": lambda made, x: log_of(made.predict_proba(x)),
}
"""What a library says of inputs, as logits."""
SIGMOID: dict[str, Any] = {"form": columns, "task": "binary", "activation": "sigmoid"}
RAW_MARGINS: dict[str, Any] = {"form": columns, "task": "binary", "activation": "none", "raw": margins}
INDEPENDENT: dict[str, Any] = {"form": expit, "task": "multilabel", "activation": "sigmoid"}


def as_it_is(z: np.ndarray) -> np.ndarray:
    return z


def second_column(s: np.ndarray) -> np.ndarray:
    return expit(s)[:, None]


def scaled(estimator: BaseEstimator) -> BaseEstimator:
    return make_pipeline(StandardScaler(), estimator)


MLP = MLPClassifier((12,), max_iter=80, random_state=0)
BOOSTING = GradientBoostingClassifier(n_estimators=6, random_state=0)
FOREST = RandomForestClassifier(12, max_depth=5, random_state=0)
LINEAR = LogisticRegression()
BAYES = GaussianNB()

LOGITS = {
    "logistic regression, binary": (LINEAR, binary, "decision", SIGMOID),
    "logistic regression, multinomial": (LINEAR, multiclass, "decision", {}),
    "a pipeline, binary": (scaled(LogisticRegression()), binary, "decision", SIGMOID),
    "a pipeline, multinomial": (scaled(LogisticRegression()), multiclass, "decision", {}),
    "a grid search": (GridSearchCV(LogisticRegression(), {"C": [1.0, 9.0]}, cv=2), binary, "decision", SIGMOID),
    "stacking": (
        StackingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], cv=2),
        binary,
        "decision",
        SIGMOID,
    ),
    "stochastic gradient descent, binary": (
        SGDClassifier(loss="log_loss", random_state=0),
        binary,
        "decision",
        SIGMOID,
    ),
    "multi-layer perceptron, binary": (MLP, binary, "log-odds", SIGMOID),
    "multi-layer perceptron, multiclass": (scaled(MLP), multiclass, "log-probabilities", {}),
    "multi-layer perceptron, multilabel": (MLP, multilabel, "independent", INDEPENDENT),
    "Gaussian naive Bayes, binary": (BAYES, binary, "log-probabilities", {}),
    "Gaussian naive Bayes, multiclass": (GaussianNB(var_smoothing=0.1), multiclass, "log-probabilities", {}),
    "multinomial naive Bayes, binary": (
        make_pipeline(MinMaxScaler(clip=True), MultinomialNB()),
        binary,
        "log-probabilities",
        {},
    ),
    "multinomial naive Bayes, multiclass": (MultinomialNB(), multiclass, "log-probabilities", {}),
    "Bernoulli naive Bayes": (BernoulliNB(binarize=0.3), multiclass, "log-probabilities", {}),
    "linear discriminants, multiclass": (LinearDiscriminantAnalysis(), multiclass, "decision", {}),
    "quadratic discriminants, binary": (QuadraticDiscriminantAnalysis(), binary, "log-probabilities", {}),
    "quadratic discriminants, multiclass": (
        QuadraticDiscriminantAnalysis(reg_param=0.3),
        multiclass,
        "log-probabilities",
        {},
    ),
    "gradient boosting, binary": (BOOSTING, binary, "decision", SIGMOID),
    "gradient boosting, multiclass": (BOOSTING, multiclass, "decision", {}),
}
"""Estimators whose probabilities are a softmax or sigmoid of scores that the graph still holds."""

PROBABILITIES = {
    "one-vs-rest, binary": (OneVsRestClassifier(LogisticRegression()), binary),
    "one-vs-rest, multiclass": (OneVsRestClassifier(LogisticRegression()), multiclass),
    "random forest, binary": (FOREST, binary),
    "random forest, multiclass": (FOREST, multiclass),
    "extra trees": (ExtraTreesClassifier(12, max_depth=5, random_state=0), multiclass),
    "decision tree, binary": (DecisionTreeClassifier(max_depth=3, random_state=0), binary),
    "decision tree, multiclass": (DecisionTreeClassifier(max_depth=6, random_state=0), multiclass),
    "nearest neighbours, binary": (KNeighborsClassifier(9), binary),
    "nearest neighbours, multiclass": (scaled(KNeighborsClassifier(9)), multiclass),
    "support vectors, binary": (SVC(probability=True, random_state=0), binary),
    "support vectors, multiclass": (scaled(SVC(probability=True, random_state=0)), multiclass),
    "stochastic gradient descent, multiclass": (SGDClassifier(loss="log_loss", random_state=0), multiclass),
    "nu support vectors": (NuSVC(nu=0.3, probability=True, random_state=0), binary),
}
"""Estimators that have probabilities and nothing behind them, in a form that shows it."""

AVERAGES = {
    "sigmoids by cross-validation, binary": (CalibratedClassifierCV(LogisticRegression(), cv=2), binary),
    "sigmoids by cross-validation, multiclass": (CalibratedClassifierCV(LinearSVC(), cv=2), multiclass),
    "bagging": (BaggingClassifier(LogisticRegression(), n_estimators=3, random_state=0), multiclass),
    "soft voting": (
        VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], voting="soft", flatten_transform=False),
        multiclass,
    ),
    "soft voting of linear models and forests": (
        VotingClassifier([("a", LogisticRegression()), ("b", FOREST)], voting="soft", flatten_transform=False),
        multiclass,
    ),
    "soft voting, binary": (
        VotingClassifier([("a", LogisticRegression()), ("b", FOREST)], voting="soft", flatten_transform=False),
        binary,
    ),
}
"""Estimators that average probabilities: no structure tells these from any other numbers."""


@pytest.mark.parametrize("name", LOGITS)
def test_scores_behind_the_probabilities_are_calibrated(name: str, tmp_path: Path) -> None:
    estimator, data, scores, expected = LOGITS[name]
    result = assert_calibrated(Export(estimator, data).conversion(scores=scores, **expected), tmp_path)
    assert not says_log_probabilities(result)


@pytest.mark.parametrize("data", [binary, multiclass])
def test_histogram_gradient_boosting(data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """skl2onnx puts a bool among integers, which protobuf of late refuses."""
    add = tree_ensemble.add_node
    monkeypatch.setattr(
        tree_ensemble, "add_node", lambda *args, **kw: add(*args, **{k: _no_bool(v) for k, v in kw.items()})
    )
    estimator = HistGradientBoostingClassifier(max_iter=6, random_state=0)
    expected = SIGMOID if data is binary else {}
    assert_calibrated(Export(estimator, data).conversion(scores="decision", **expected), tmp_path)


def _no_bool(value: Any) -> Any:
    return int(value) if isinstance(value, (bool, np.bool_)) else value


@pytest.mark.parametrize("name", PROBABILITIES)
def test_logarithms_of_probabilities_are_calibrated_where_there_is_nothing_else(name: str, tmp_path: Path) -> None:
    estimator, data = PROBABILITIES[name]
    result = assert_calibrated(Export(estimator, data).conversion(scores="probabilities"), tmp_path)
    assert says_log_probabilities(result)


@pytest.mark.parametrize("name", AVERAGES)
def test_averages_of_probabilities_are_calibrated_when_the_user_says_what_they_are(name: str, tmp_path: Path) -> None:
    estimator, data = AVERAGES[name]
    conversion = Export(estimator, data).conversion(scores="probabilities", options={"activation": "softmax"})
    result = assert_calibrated(conversion, tmp_path)
    assert says_log_probabilities(result)


@pytest.mark.parametrize("name", AVERAGES)
def test_averages_of_probabilities_are_never_taken_for_logits(name: str, tmp_path: Path) -> None:
    """Neither where their values can be looked at, nor where only the structure can."""
    estimator, data = AVERAGES[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(Export(estimator, data).model())
    with pytest.raises(onnxcal.OnnxcalError, match=r"not understood|holds probabilities, not logits") as caught:
        onnxcal.calibrate(path, (data().x, data().y))
    assert "--activation softmax" in (caught.value.hint or "")
    with pytest.raises(onnxcal.ModelError, match="not understood"):
        onnxcal.patch(path, temperature=2)


def test_one_vs_rest_of_several_labels(tmp_path: Path) -> None:
    conversion = Export(OneVsRestClassifier(LogisticRegression()), multilabel).conversion(
        scores="independent", options={"activation": "sigmoid"}, **INDEPENDENT
    )
    assert says_log_probabilities(assert_calibrated(conversion, tmp_path))


def test_what_linear_discriminants_become_is_mended_by_calibrating_it(tmp_path: Path) -> None:
    """skl2onnx makes them a softmax of [−s, s], which is σ(2s) and not σ(s): T comes out doubled, the result right."""
    conversion = Export(LinearDiscriminantAnalysis(), binary).conversion(scores="margins")
    result = assert_calibrated(conversion, tmp_path)
    s = conversion.z[:, 1]
    assert np.abs(run(conversion.model, conversion.x)["probabilities"] - columns(s)).max() > 0.1
    assert result.calibration.temperature == pytest.approx(2 * best_temperature(s, conversion.y), rel=1e-5)


OUTPUTS = {
    "logistic regression, binary": (LINEAR, binary, "decision", SIGMOID),
    "logistic regression, multinomial": (LINEAR, multiclass, "decision", {}),
    "multi-layer perceptron, binary": (MLP, binary, "log-odds", SIGMOID),
    "multi-layer perceptron, multiclass": (MLP, multiclass, "log-probabilities", {}),
    "gradient boosting": (BOOSTING, binary, "decision", SIGMOID),
    "naive Bayes": (BAYES, binary, "log-probabilities", {}),
    "random forest, binary": (FOREST, binary, "probabilities", {}),
    "random forest, multiclass": (FOREST, multiclass, "probabilities", {}),
}
"""What is exported with other outputs."""


@pytest.mark.parametrize("zipmap", [True, "columns"], ids=["maps", "columns"])
@pytest.mark.parametrize("named", [False, True], ids=["numbers", "strings"])
@pytest.mark.parametrize("name", OUTPUTS)
def test_maps_and_columns_keep_their_form(name: str, named: bool, zipmap: bool | str, tmp_path: Path) -> None:
    estimator, data, scores, expected = OUTPUTS[name]
    names = (BINARY_NAMES if data is binary else DIGIT_NAMES) if named else None
    export = Export(estimator, data, names, {"zipmap": zipmap})
    conversion = export.conversion(scores=scores, **expected)
    declared = [output.name for output in onnx.ModelProto.FromString(conversion.model).graph.output]
    conversion = replace(conversion, outputs=declared[1:])
    result = assert_calibrated(conversion, tmp_path)
    assert result.head.output in declared[1:]
    assert says_log_probabilities(result) == (scores == "probabilities")


@pytest.mark.parametrize(
    "name", ["logistic regression, multinomial", "multi-layer perceptron, binary", "random forest, binary"]
)
def test_string_labels_stay_as_they_are(name: str, tmp_path: Path) -> None:
    estimator, data, scores, expected = OUTPUTS[name]
    names = BINARY_NAMES if data is binary else DIGIT_NAMES
    conversion = Export(estimator, data, names).conversion(scores=scores, **expected)
    assert_calibrated(conversion, tmp_path)
    assert set(run(conversion.model, conversion.x)["label"]) <= set(names)


@pytest.mark.parametrize(
    ("estimator", "options"),
    [
        (LINEAR, {"zipmap": False, "output_class_labels": True}),
        (LINEAR, {"zipmap": False, "nocl": True}),
        (FOREST, {"zipmap": False, "decision_leaf": True}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_more_outputs_stay_as_they_are(estimator: BaseEstimator, options: dict[str, Any], tmp_path: Path) -> None:
    scores = "decision" if isinstance(estimator, LogisticRegression) else "probabilities"
    assert_calibrated(Export(estimator, multiclass, options=options).conversion(scores=scores), tmp_path)


def test_the_paths_through_a_forest_stay_as_they_are(tmp_path: Path) -> None:
    """onnx's shape inference crashes the process at a LabelEncoder of ai.onnx.ml 2 whose input has no known type."""
    export = Export(FOREST, binary, options={"zipmap": False, "decision_path": True})
    conversion = export.conversion(scores="probabilities")
    (tmp_path / "paths.onnx").write_bytes(conversion.model)
    command = [sys.executable, "-m", "onnxcal", "inspect", str(tmp_path / "paths.onnx")]
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert_calibrated(conversion, tmp_path)


RAW = {
    "logistic regression, binary": (LINEAR, binary, RAW_MARGINS),
    "logistic regression, multinomial": (LINEAR, multiclass, {"raw": as_it_is, "activation": "none"}),
    "stochastic gradient descent, binary": (SGDClassifier(random_state=0), binary, RAW_MARGINS),
    "stochastic gradient descent, multiclass": (
        SGDClassifier(random_state=0),
        multiclass,
        {"raw": as_it_is, "activation": "none"},
    ),
    "gradient boosting, binary": (BOOSTING, binary, RAW_MARGINS),
    "gradient boosting, multiclass": (BOOSTING, multiclass, {"raw": as_it_is, "activation": "none"}),
    "linear support vectors, binary": (LinearSVC(), binary, RAW_MARGINS),
    "linear support vectors, multiclass": (LinearSVC(), multiclass, {"raw": as_it_is, "activation": "none"}),
}
"""Estimators whose scores are exported without an activation."""


@pytest.mark.parametrize("name", RAW)
def test_raw_scores_become_probabilities(name: str, tmp_path: Path) -> None:
    estimator, data, expected = RAW[name]
    options = {"raw_scores": True} if isinstance(estimator, LinearSVC) else {"raw_scores": True, "zipmap": False}
    export = Export(estimator, data, options=options)
    assert_calibrated(export.conversion(scores="decision", **expected), tmp_path)


def test_the_single_column_of_a_ridge_classifier(tmp_path: Path) -> None:
    """It is declared as two columns, and is one."""
    conversion = Export(RidgeClassifier(), binary).conversion(
        scores="decision", **RAW_MARGINS | {"form": second_column, "raw": lambda s: s[:, None]}
    )
    assert_calibrated(conversion, tmp_path)


@pytest.mark.parametrize(
    ("estimator", "data", "expected"),
    [
        (Perceptron(), binary, RAW_MARGINS),
        (Perceptron(), multiclass, {"raw": as_it_is, "activation": "none"}),
        (RidgeClassifier(), multiclass, {"raw": as_it_is, "activation": "none"}),
    ],
    ids=["perceptron, binary", "perceptron, multiclass", "ridge, multiclass"],
)
def test_scores_of_estimators_without_probabilities(
    estimator: BaseEstimator, data: Any, expected: dict[str, Any], tmp_path: Path
) -> None:
    assert_calibrated(Export(estimator, data).conversion(scores="decision", **expected), tmp_path)


@pytest.mark.parametrize(
    ("estimator", "data", "scores", "expected"),
    [
        (LINEAR, binary, "probabilities", {}),
        (LINEAR, multiclass, "decision", {}),
        (MLP, binary, "log-odds", SIGMOID),
        (MLP, multiclass, "log-probabilities", {}),
        (GaussianNB(var_smoothing=0.1), multiclass, "log-probabilities", {}),
        (QuadraticDiscriminantAnalysis(reg_param=0.3), multiclass, "log-probabilities", {}),
    ],
    ids=[
        "sigmoids over their sum",
        "logistic regression",
        "perceptron, binary",
        "perceptron",
        "naive Bayes",
        "quadratic",
    ],
)
def test_double_models_are_calibrated_in_double(
    estimator: BaseEstimator, data: Any, scores: str, expected: dict[str, Any], tmp_path: Path
) -> None:
    conversion = Export(estimator, data, dtype=np.float64).conversion(scores=scores, **expected)
    conversion = replace(conversion, tolerance=1e-12, temperature_tolerance=1e-6, converter_tolerance=1e-10)
    result = assert_calibrated(conversion, tmp_path)
    assert result.head.dtype == "float64"


@pytest.mark.parametrize("data", [binary, multiclass])
def test_a_forest_with_double_inputs(data: Any, tmp_path: Path) -> None:
    """Its class weights are a double tensor, and its probabilities float."""
    conversion = Export(FOREST, data, dtype=np.float64).conversion(scores="probabilities")
    assert_calibrated(conversion, tmp_path)


def test_an_export_that_onnxruntime_does_not_load_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(Export(BOOSTING, binary, dtype=np.float64).model())
    with pytest.raises(onnxcal.ModelError, match="onnxruntime"):
        onnxcal.calibrate(path, (binary().x.astype(np.float64), binary().y))


@pytest.mark.parametrize("opset", [ML1, ML3, ML5], ids=lambda opset: f"opset {opset['']}, ml {opset['ai.onnx.ml']}")
@pytest.mark.parametrize(
    ("estimator", "scores"),
    [(BOOSTING, "decision"), (FOREST, "probabilities"), (LINEAR, "decision")],
    ids=["boosting", "forest", "linear"],
)
def test_target_opsets(estimator: BaseEstimator, scores: str, opset: dict[str, int], tmp_path: Path) -> None:
    """skl2onnx writes operators of ai.onnx.ml 1 and 3 whatever is asked of it: v5 `TreeEnsemble` is not among them."""
    assert_calibrated(Export(estimator, multiclass, opset=opset).conversion(scores=scores), tmp_path)


REFUSED = {
    "support vectors without probabilities": (
        SVC(),
        binary,
        "ends in an SVMClassifier without probabilities",
    ),
    "votes between pairs of classes": (SVC(), multiclass, r"ends in Add.*not understood"),
    "several forests' labels": (FOREST, multilabel, r"ends in (Concat|ReduceMean).*not understood"),
    "a sequence of tensors": (MultiOutputClassifier(LogisticRegression()), multilabel, "is not a tensor"),
}
"""What has neither logits nor rows of probabilities, and the words that say so."""


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_calibrated_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    estimator, data, words = REFUSED[name]
    split = data()
    path = tmp_path / "model.onnx"
    path.write_bytes(Export(estimator, data).model())
    with pytest.raises(onnxcal.ModelError, match=words) as caught:
        onnxcal.calibrate(path, (split.x, split.y))
    assert caught.value.hint
    assert not (tmp_path / "model.calibrated.onnx").exists()
