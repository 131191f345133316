"""Fitted classifiers to calibrated files: every file is run, and held against what scikit-learn says in float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnx
import pandas as pd
import pytest
import scipy.sparse
import sklearn
import xgboost
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

import onnxcal
from onnxcal.sklearn import export, export_calibrated
from tests.converters import (
    best_temperature,
    binary,
    columns,
    log_of,
    multiclass,
    multilabel,
    quiet,
    run,
    says_log_probabilities,
    softmax,
)
from tests.reference.refusals import refused

pytestmark = pytest.mark.skipif(
    tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 8), reason="scikit-learn has no method='temperature' yet"
)

LINEAR = LogisticRegression()
MLP = MLPClassifier((12,), max_iter=60, random_state=0)
BAYES = GaussianNB(var_smoothing=0.1)
BOOSTING = GradientBoostingClassifier(n_estimators=4, random_state=0)
HISTOGRAMS = HistGradientBoostingClassifier(max_iter=3, random_state=0)
SGD = SGDClassifier(loss="log_loss", random_state=0)
FOREST = RandomForestClassifier(8, max_depth=5, random_state=0)
VOTING = VotingClassifier([("a", LINEAR), ("b", BAYES)], voting="soft", flatten_transform=False)


@cache
def fitted(estimator: Any, data: Callable[[], Any] = binary, names: bool = False) -> Any:
    train = data()
    with quiet():
        return clone(estimator).fit(train.x_train.astype(np.float64), named(train.y_train) if names else train.y_train)


def named(y: np.ndarray) -> np.ndarray:
    return np.array([f"class {number}" for number in y.tolist()])


@cache
def calibrated(estimator: Any, data: Callable[[], Any] = binary) -> CalibratedClassifierCV:
    """By scikit-learn, on the validation half."""
    wrapped = CalibratedClassifierCV(FrozenEstimator(fitted(estimator, data)), method="temperature")
    return wrapped.fit(inputs(data), data().y)


def inputs(data: Callable[[], Any] = binary) -> np.ndarray:
    """Numbers that float32 holds, as float64: file and scikit-learn see the same."""
    return data().x.astype(np.float64)


def probabilities(path: Path, x: np.ndarray) -> np.ndarray:
    return run(path.read_bytes(), x.astype(np.float32))["probabilities"]


def decision(made: Any, x: np.ndarray) -> np.ndarray:
    return made.decision_function(x)


def log_odds(made: Any, x: np.ndarray) -> np.ndarray:
    return np.diff(made.predict_log_proba(x), axis=1)[:, 0]


def logs(made: Any, x: np.ndarray) -> np.ndarray:
    return made.predict_log_proba(x)


def floored_logs(made: Any, x: np.ndarray) -> np.ndarray:
    return log_of(made.predict_proba(x))


# T is fitted here

CLASSIFIERS = {
    "logistic regression": (LINEAR, binary, decision),
    "logistic regression, several classes": (LINEAR, multiclass, decision),
    "a frozen grid search": (FrozenEstimator(GridSearchCV(LINEAR, {"C": [1.0]}, cv=2)), binary, decision),
    "stochastic gradient descent": (SGD, binary, decision),
    "a perceptron in a pipeline": (make_pipeline(StandardScaler(), MLP), multiclass, logs),
    "a binary perceptron": (MLP, binary, log_odds),
    "naive Bayes": (BAYES, multiclass, logs),
    "gradient boosting": (BOOSTING, binary, decision),
    "gradient boosting over histograms": (HISTOGRAMS, binary, decision),
    "a linear support vector machine": (LinearSVC(), multiclass, decision),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_file_computes_scikit_learns_own_scores_over_the_best_temperature(name: str, tmp_path: Path) -> None:
    estimator, data, scores = CLASSIFIERS[name]
    if isinstance(estimator, FrozenEstimator):
        made = FrozenEstimator(fitted(estimator.estimator, data))
    else:
        made = fitted(estimator, data)
    result = export_calibrated(made, inputs(data), data().y, tmp_path / "out.onnx", bootstrap=0)
    z, temperature = scores(made, inputs(data)), result.calibration.temperature
    assert temperature == pytest.approx(best_temperature(z, data().y), rel=1e-5)
    expected = (columns if z.ndim == 1 else softmax)(z / temperature)
    np.testing.assert_allclose(probabilities(tmp_path / "out.onnx", inputs(data)), expected, rtol=0, atol=1.5e-6)
    assert [check.name for check in result.verification.checks][-2:] == [
        "probabilities of scikit-learn",
        "labels of scikit-learn",
    ]
    assert not says_log_probabilities(result)


@pytest.mark.parametrize("estimator", [FOREST, SGD, VOTING], ids=["forest", "one-vs-rest", "average"])
def test_classifiers_without_logits_have_the_logarithms_of_their_probabilities_calibrated(
    estimator: Any, tmp_path: Path
) -> None:
    """Also an average, in whose file no structure tells probabilities from other numbers: here it is known."""
    made = fitted(estimator, multiclass)
    result = export_calibrated(made, inputs(multiclass), multiclass().y, tmp_path / "out.onnx", bootstrap=0)
    z = floored_logs(made, inputs(multiclass))
    assert says_log_probabilities(result)
    assert result.calibration.temperature == pytest.approx(best_temperature(z, multiclass().y), rel=1e-5)
    expected = softmax(z / result.calibration.temperature)
    np.testing.assert_allclose(probabilities(tmp_path / "out.onnx", inputs(multiclass)), expected, rtol=0, atol=2e-6)


def test_independent_labels(tmp_path: Path) -> None:
    made = fitted(MLP, multilabel)
    result = export_calibrated(made, inputs(multilabel), multilabel().y, tmp_path / "out.onnx", bootstrap=0)
    p = made.predict_proba(inputs(multilabel))
    expected = 1 / (1 + ((1 - p) / p) ** (1 / result.calibration.temperature))
    np.testing.assert_allclose(probabilities(tmp_path / "out.onnx", inputs(multilabel)), expected, rtol=0, atol=1.5e-6)


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_boosting_libraries(library: str, tmp_path: Path) -> None:
    if library == "lightgbm":
        made = lightgbm.LGBMClassifier(n_estimators=5, max_depth=3, n_jobs=1, verbose=-1)
    else:
        made = xgboost.XGBClassifier(n_estimators=5, max_depth=3, n_jobs=1)
    data = multiclass() if library == "xgboost" else binary()
    with quiet():
        made.fit(data.x_train, data.y_train)
        result = export_calibrated(made, data.x, data.y, tmp_path / "out.onnx", bootstrap=0)
        z = made.predict(data.x, **{"raw_score" if library == "lightgbm" else "output_margin": True})
    expected = (columns if z.ndim == 1 else softmax)(z.astype(np.float64) / result.calibration.temperature)
    np.testing.assert_allclose(probabilities(tmp_path / "out.onnx", data.x), expected, rtol=0, atol=1.5e-6)


# T was fitted by scikit-learn

SINGLE = {
    "a binary score": (LINEAR, binary, 2),
    "binary probabilities": (MLP, binary, 1),
    "scores of classes": (LINEAR, multiclass, 1),
    "log-probabilities": (BAYES, multiclass, 1),
    "scores that are no logits of its probabilities": (SGD, multiclass, 1),
    "scores without probabilities": (LinearSVC(), binary, 2),
    "scores of classes without probabilities": (LinearSVC(), multiclass, 1),
}
"""Estimator, data, and 1/β over the T of σ(s/T) or softmax(z/T)."""


@pytest.mark.parametrize("name", SINGLE)
def test_file_keeps_the_temperature_that_scikit_learn_fitted(name: str, tmp_path: Path) -> None:
    estimator, data, factor = SINGLE[name]
    made = calibrated(estimator, data)
    result = export(made, inputs(data), tmp_path / "out.onnx")
    beta = float(made.calibrated_classifiers_[0].calibrators[0].beta_)
    assert result.calibration.temperature == pytest.approx(1 / (factor * beta), rel=1e-12)
    own = made.predict_proba(inputs(data))
    sure = (fitted(estimator, data).predict_proba(inputs(data)).min(axis=1) > 1e-6) if estimator is BAYES else ...
    np.testing.assert_allclose(probabilities(tmp_path / "out.onnx", inputs(data))[sure], own[sure], rtol=0, atol=1.5e-6)


@pytest.mark.parametrize(("data", "factor"), [(binary, 2), (multiclass, 1)])
def test_both_ways_lead_to_the_same_temperature(data: Any, factor: int, tmp_path: Path) -> None:
    """scikit-learn's optimiser stops at about 1e-4; its 1/β of a binary score is twice the T of σ(s/T)."""
    own = export_calibrated(fitted(LINEAR, data), inputs(data), data().y, tmp_path / "own.onnx", bootstrap=0)
    theirs = export(calibrated(LINEAR, data), inputs(data), tmp_path / "theirs.onnx")
    beta = float(calibrated(LINEAR, data).calibrated_classifiers_[0].calibrators[0].beta_)
    assert own.calibration.temperature * factor == pytest.approx(1 / beta, rel=1e-3)
    assert own.calibration.temperature == pytest.approx(theirs.calibration.temperature, rel=1e-3)


def test_offset_of_scikit_learns_logarithms_is_left_out_and_said(tmp_path: Path) -> None:
    """It takes log(p + 1e-12), which moves what was all but impossible."""
    made = calibrated(GaussianNB(), multiclass)
    result = export(made, inputs(multiclass), tmp_path / "out.onnx", dtype="float64")
    assert [warning for warning in result.warnings if "adds 1e-12" in warning]
    z = logs(fitted(GaussianNB(), multiclass), inputs(multiclass))
    found = run((tmp_path / "out.onnx").read_bytes(), inputs(multiclass))["probabilities"]
    np.testing.assert_allclose(found, softmax(z / result.calibration.temperature), rtol=0, atol=1e-8)
    assert np.abs(found - made.predict_proba(inputs(multiclass))).max() > 1e-5


def test_logits_that_float32_cannot_hold_are_no_excuse(tmp_path: Path) -> None:
    """This naive Bayes has logarithms of −10⁵, and in float32 rows that sum to 1.03."""
    with refused(onnxcal.VerificationError, "limit 1e-05", "dtype='float64'"):
        export(calibrated(GaussianNB(), multiclass), inputs(multiclass), tmp_path / "out.onnx")


def test_string_classes_that_scikit_learn_numbered_before_it_fitted(tmp_path: Path) -> None:
    """With cross-validation the inner classifier knows 0 … 9 only; the file predicts the strings."""
    data = multiclass()
    made = CalibratedClassifierCV(LINEAR, method="temperature", cv=2, ensemble=False)
    made.fit(data.x_train.astype(np.float64), named(data.y_train))
    export(made, inputs(multiclass), tmp_path / "out.onnx")
    found = run((tmp_path / "out.onnx").read_bytes(), data.x)
    np.testing.assert_array_equal(found["label"], made.predict(inputs(multiclass)))
    np.testing.assert_allclose(found["probabilities"], made.predict_proba(inputs(multiclass)), rtol=0, atol=1.5e-6)
    assert list(made.calibrated_classifiers_[0].estimator.classes_) == list(range(10))


def test_calibrated_classifier_at_the_end_of_a_pipeline(tmp_path: Path) -> None:
    data = binary()
    made = make_pipeline(StandardScaler(), CalibratedClassifierCV(LINEAR, method="temperature", cv=2, ensemble=False))
    made.fit(data.x_train.astype(np.float64), data.y_train)
    export(made, inputs(), tmp_path / "out.onnx")
    expected = made.predict_proba(inputs())
    np.testing.assert_allclose(probabilities(tmp_path / "out.onnx", inputs()), expected, rtol=0, atol=1.5e-6)


# What people have as X and y


def frame(n: int = 240) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "age": rng.normal(40, 12, n),
            "per year": rng.lognormal(3, 1, n),
            "children": rng.integers(0, 4, n),
            "town": rng.choice(["Bonn", "Köln", "Ulm"], n),
        }
    )
    z = (X["age"] - 40) / 10 + (X["town"] == "Ulm") - X["per year"] / 40
    return X, np.where(z + rng.logistic(size=n) > 0, "yes", "no")


def test_frame_whose_columns_go_different_ways_becomes_one_input_a_column(tmp_path: Path) -> None:
    X, y = frame()
    ways = [("n", StandardScaler(), ["age", "per year"]), ("c", OneHotEncoder(), ["town"]), ("p", "passthrough", [2])]
    made = make_pipeline(ColumnTransformer(ways), LogisticRegression()).fit(X, y)
    export_calibrated(made, X, y, tmp_path / "out.onnx", bootstrap=0)
    proto = onnx.load_model(tmp_path / "out.onnx")
    assert [value.name for value in proto.graph.input] == ["age", "per_year", "children", "town"]


def test_frame_of_numbers_becomes_a_matrix(tmp_path: Path) -> None:
    X, y = frame()
    numbers = X[["age", "per year", "children"]]
    made = make_pipeline(StandardScaler(), LogisticRegression()).fit(numbers, y)
    result = export_calibrated(made, numbers, y, tmp_path / "out.onnx", bootstrap=0)
    expected = columns(decision(made, numbers) / result.calibration.temperature)
    np.testing.assert_allclose(probabilities(tmp_path / "out.onnx", numbers.to_numpy()), expected, rtol=0, atol=1.5e-6)


def test_texts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["red", "green", "blue", "sky"], 4)) for _ in range(200)]
    y = np.array([text.count("sky") + rng.normal(0, 0.7) > 1 for text in texts])
    made = make_pipeline(CountVectorizer(lowercase=False), LogisticRegression()).fit(texts, y)
    result = export_calibrated(made, texts, y, tmp_path / "out.onnx", bootstrap=0)
    expected = columns(decision(made, texts) / result.calibration.temperature)
    found = run((tmp_path / "out.onnx").read_bytes(), np.array(texts, object)[:, None])["probabilities"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1.5e-6)


def test_classes_that_are_numbers_but_not_from_0(tmp_path: Path) -> None:
    """Labels 2, 3 and 4 alone could be class indices as well as class numbers."""
    data = multiclass()
    few = data.y_train < 5
    made = LogisticRegression().fit(data.x_train[few].astype(np.float64), data.y_train[few] + 1)
    here = np.isin(data.y, [1, 2, 3])
    X, y = inputs(multiclass)[here], data.y[here] + 1
    result = export_calibrated(made, X, y, tmp_path / "out.onnx", bootstrap=0)
    assert result.calibration.temperature == pytest.approx(best_temperature(decision(made, X), y - 1), rel=1e-5)
    assert not [warning for warning in result.warnings if "taken for" in warning]


def test_string_classes_and_maps(tmp_path: Path) -> None:
    made = fitted(LINEAR, multiclass, names=True)
    y = named(multiclass().y)
    options = {"zipmap": True}
    result = export_calibrated(made, inputs(multiclass), y, tmp_path / "out.onnx", options=options, bootstrap=0)
    labels, maps = run((tmp_path / "out.onnx").read_bytes(), multiclass().x).values()
    np.testing.assert_array_equal(labels, made.predict(inputs(multiclass)))
    expected = softmax(decision(made, inputs(multiclass)) / result.calibration.temperature)
    np.testing.assert_allclose([list(row.values()) for row in maps], expected, rtol=0, atol=1.5e-6)


def test_float64_files_are_right_to_float64(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    y = (X @ [1, 2, 3] + rng.logistic(size=300) > 0).astype(int)
    made = MLPClassifier((4,), max_iter=40, learning_rate_init=0.05, random_state=0)
    with quiet():
        made.fit(X, y)
    result = export_calibrated(made, X, y, tmp_path / "out.onnx", dtype="float64", bootstrap=0)
    expected = columns(log_odds(made, X) / result.calibration.temperature)
    found = run((tmp_path / "out.onnx").read_bytes(), X)["probabilities"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert made.out_activation_ == "logistic"


# What is refused


WAYS: dict[str, Callable[[Path], Any]] = {
    "export": lambda out: export(calibrated(LinearDiscriminantAnalysis()), inputs(), out, force=True),
    "export_calibrated": lambda out: export_calibrated(
        fitted(LinearDiscriminantAnalysis()), inputs(), binary().y, out, force=True, bootstrap=0
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_file_that_does_not_compute_what_scikit_learn_computes_is_not_written(way: str, tmp_path: Path) -> None:
    """skl2onnx makes σ(2s) of binary linear discriminants, whose probability is σ(s)."""
    out = tmp_path / "out.onnx"
    out.write_bytes(b"an older one")
    with pytest.raises(onnxcal.VerificationError, match=r"skl2onnx's file is off by 0.1\d already") as caught:
        WAYS[way](out)
    failed = [check.name for check in caught.value.known["verification"].checks if not check.passed]
    assert failed == ["probabilities of scikit-learn"]
    assert [path.name for path in tmp_path.iterdir()] == ["out.onnx"]
    assert out.read_bytes() == b"an older one"


def test_probabilities_of_zero_that_scikit_learn_counts_otherwise(tmp_path: Path) -> None:
    tree = calibrated(DecisionTreeClassifier(max_depth=6, random_state=0), multiclass)
    with refused(onnxcal.VerificationError, "counts as 1e-12", "1.2e-07", "export_calibrated"):
        export(tree, inputs(multiclass), tmp_path / "out.onnx")
    assert not list(tmp_path.iterdir())


def ensemble() -> CalibratedClassifierCV:
    return CalibratedClassifierCV(LINEAR, method="temperature", cv=2).fit(inputs(), binary().y)


def calibrated_with_classes(*classes: int) -> CalibratedClassifierCV:
    """By scikit-learn, the two classes called otherwise than 0 and 1."""
    train, names = binary(), np.array(classes)
    made = clone(LINEAR).fit(train.x_train.astype(np.float64), names[train.y_train])
    return CalibratedClassifierCV(FrozenEstimator(made), method="temperature").fit(inputs(), names[train.y])


REFUSED_EXPORTS: dict[str, tuple[Callable[[], Any], str]] = {
    "an ensemble": (ensemble, "averages 2 classifiers"),
    "another method": (
        lambda: CalibratedClassifierCV(FrozenEstimator(fitted(LINEAR))).fit(inputs(), binary().y),
        r"method='sigmoid'\) has no temperature",
    ),
    "no calibration at all": (lambda: fitted(LINEAR), "LogisticRegression has no temperature"),
    "classes from 1": (
        lambda: calibrated_with_classes(1, 2),
        r"no best temperature: .* at 1/β = 2.2e\+04; its classes are 1, 2",
    ),
    "votes": (lambda: calibrated(SVC()), "SVC has no logits that its file shows"),
}


def test_a_temperature_of_classes_that_scikit_learn_takes_for_columns_is_told(tmp_path: Path) -> None:
    (said,) = export(calibrated_with_classes(0, 2), inputs(), tmp_path / "out.onnx").warnings
    assert "its classes are 0, 2" in said


@pytest.mark.parametrize("name", REFUSED_EXPORTS)
def test_what_has_no_temperature_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    make, message = REFUSED_EXPORTS[name]
    with pytest.raises(onnxcal.ModelError, match=message) as caught:
        export(make(), inputs(), tmp_path / "out.onnx")
    assert caught.value.hint
    assert not list(tmp_path.iterdir())


GIVEN: dict[str, tuple[dict[str, Any], type[onnxcal.OnnxcalError], str]] = {
    "not fitted": ({"estimator": LINEAR}, onnxcal.ModelError, "is not fitted"),
    "a class": ({"estimator": LogisticRegression}, onnxcal.ModelError, "LogisticRegression is no fitted estimator"),
    "nothing": ({"estimator": None}, onnxcal.ModelError, "a NoneType is no fitted estimator"),
    "a regressor": ({"estimator": LinearRegression().fit([[0.0]], [1])}, onnxcal.ModelError, "no classifier"),
    "one column too few": ({"X": np.zeros((200, 4))}, onnxcal.DataError, "cannot predict X: X has 4 features"),
    "one axis too few": ({"X": np.zeros(200)}, onnxcal.DataError, r"shape \(200,\) and dtype float64"),
    "sparse": ({"X": scipy.sparse.csr_array((200, 5))}, onnxcal.DataError, "sparse"),
    "NaN": ({"X": np.full((200, 5), np.nan)}, onnxcal.DataError, "NaN"),
    "no samples": ({"X": np.zeros((0, 5)), "y": []}, onnxcal.DataError, "no samples"),
    "no columns": ({"X": pd.DataFrame(index=range(200))}, onnxcal.DataError, "no columns"),
    "dates": ({"X": pd.DataFrame({"d": pd.date_range("2026", periods=200)})}, onnxcal.DataError, "column 'd'"),
    "too few labels": ({"y": [0, 1]}, onnxcal.DataError, r"200 samples, y has shape \(2,\)"),
    "a strange label": ({"y": np.full(200, "?")}, onnxcal.DataError, r"label '\?' is none of the classes"),
    "float16": ({"dtype": "float16"}, onnxcal.UsageError, "'float16' is not known"),
    "no tolerance": ({"tolerance": 0.0}, onnxcal.UsageError, "tolerance 0.0"),
    "scattered columns": ({"options": {"zipmap": "columns"}}, onnxcal.UsageError, "zipmap='columns'"),
    "an unknown option": ({"options": {"zipmop": True}}, onnxcal.ModelError, "cannot convert .*'zipmop'"),
    "a gate": ({"max_ece": 1e-6}, onnxcal.GateError, "max-ece"),
    "a tight tolerance": ({"tolerance": 1e-14, "estimator": BAYES}, onnxcal.VerificationError, "dtype='float64'"),
}


@pytest.mark.parametrize("name", GIVEN)
def test_what_cannot_be_used_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    given, error, message = GIVEN[name]
    arguments = {"estimator": fitted(LINEAR), "X": inputs(), "y": binary().y, "bootstrap": 0, **given}
    if arguments["estimator"] is BAYES:
        arguments["estimator"] = fitted(BAYES)
    with pytest.raises(error, match=message) as caught:
        export_calibrated(output=tmp_path / "out.onnx", **arguments)
    assert caught.value.hint
    assert not list(tmp_path.iterdir())


def test_a_file_that_exists_is_kept(tmp_path: Path) -> None:
    (tmp_path / "out.onnx").write_bytes(b"mine")
    with refused(onnxcal.UsageError, "exists"):
        export(calibrated(LINEAR), inputs(), tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == b"mine"


def test_what_is_calibrated_already_is_not_calibrated_again(tmp_path: Path) -> None:
    with refused(onnxcal.UsageError, "calibrated already", hint="onnxcal.sklearn.export("):
        export_calibrated(calibrated(LINEAR), inputs(), binary().y, tmp_path / "out.onnx")


def test_missing_library_is_named_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "skl2onnx" else object())
    with refused(onnxcal.UsageError, "needs skl2onnx", hint="onnxcal[sklearn]"):
        export_calibrated(fitted(LINEAR), inputs(), binary().y, tmp_path / "out.onnx")
