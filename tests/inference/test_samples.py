"""Labels as the model names its classes, and values that are not what they were taken for."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

import onnxcal
from onnxcal.errors import DataError, ModelError
from onnxcal.logits import Logits
from onnxcal.rows import probabilities_kind
from tests.builders import classifier, labelled_data, softmax
from tests.corpus.form import node


def linear_classifier(**labels: list) -> onnxcal.Head:
    """x → LinearClassifier with post_transform SOFTMAX over four classes → ZipMap."""
    rng = np.random.default_rng(0)
    ml = node(
        "LinearClassifier",
        "x",
        "label scores",
        domain="ai.onnx.ml",
        coefficients=rng.normal(size=24).tolist(),
        intercepts=[0.0] * 4,
        post_transform="SOFTMAX",
        **labels,
    )
    kind = 8 if "classlabels_strings" in labels else 7
    graph = helper.make_graph(
        [ml],
        "ml",
        [helper.make_tensor_value_info("x", 1, ["N", 6])],
        [helper.make_tensor_value_info("label", kind, ["N"]), helper.make_tensor_value_info("scores", 1, ["N", 4])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("", 17)])
    made.ir_version = 8
    return made


X = np.random.default_rng(1).normal(size=(300, 6)).astype(np.float32)
Y = np.random.default_rng(2).integers(0, 4, 300)
Y[:150] = (X @ np.random.default_rng(0).normal(size=24).reshape(4, 6).T)[:150].argmax(axis=1)
NUMBERS, NAMES = np.array([3, 1, 7, 5]), np.array(["red", "green", "blue", "grey"])


@pytest.mark.parametrize(
    ("labels", "names"),
    [({"classlabels_ints": NUMBERS.tolist()}, NUMBERS), ({"classlabels_strings": NAMES.tolist()}, NAMES)],
    ids=["numbers", "strings"],
)
def test_labels_may_be_what_the_model_calls_its_classes(labels: dict, names: np.ndarray) -> None:
    model = linear_classifier(**labels)
    by_index = onnxcal.collect_logits(model, (X, Y))
    by_name = onnxcal.collect_logits(model, (X, names[Y]))
    assert (by_index.labels == Y).all()
    assert (by_name.labels == Y).all()
    assert onnxcal.calibrate(model, (X, list(names[Y]))).calibration.temperature == pytest.approx(
        onnxcal.fit(by_index.values, by_index.labels).temperature, rel=1e-12
    )


def test_a_label_that_is_no_class_is_named() -> None:
    with pytest.raises(DataError, match="label 'pink' is none of the classes") as caught:
        onnxcal.collect_logits(linear_classifier(classlabels_strings=NAMES.tolist()), (X, ["pink", *NAMES[Y][1:]]))
    assert "red, green, blue, grey" in (caught.value.hint or "")


def test_strings_for_a_model_without_class_names_are_refused() -> None:
    x, _ = labelled_data(20)
    with pytest.raises(DataError, match="none of the classes") as caught:
        onnxcal.calibrate(classifier([softmax()], output="probs"), (x, ["a"] * 20))
    assert "indices" in (caught.value.hint or "")


P = np.random.default_rng(3).dirichlet(np.ones(5), size=80)


@pytest.mark.parametrize(
    ("values", "task", "kind"),
    [
        (P, "multiclass", "probabilities"),
        (np.rint(P * 255) / 255, "multiclass", "probabilities in steps of 1/256"),
        (np.rint(P * 256) / 256, "multiclass", "probabilities in steps of 1/256"),
        (np.eye(5)[np.arange(80) % 5], "multiclass", "probabilities"),
        (255 * P, "multiclass", "probabilities times 255"),
        (np.floor(255 * P), "multiclass", "probabilities times 255"),
        (np.rint(256 * P), "multiclass", "probabilities times 255"),
        (np.rint(100 * P), "multiclass", None),
        (300 * P, "multiclass", None),
        (np.rint(255 * P) - 1, "multiclass", None),
        (np.log(P), "multiclass", None),
        (4 * P, "multiclass", None),
        (P - 0.2, "multiclass", None),
        (P, "multilabel", "probabilities"),
        (np.rint(P), "multilabel", None),
        (P[:, 0], "binary", "probabilities"),
        (P[:20, 0], "binary", None),
        (3 * P[:, 0], "binary", None),
    ],
)
def test_probabilities_are_known_by_their_values(values: np.ndarray, task: str, kind: str | None) -> None:
    assert probabilities_kind(Logits(values, task)) == kind  # type: ignore[arg-type]


def test_an_output_that_is_forced_to_be_probabilities_and_is_none_is_refused() -> None:
    x, y = labelled_data()
    with pytest.raises(ModelError, match="taken for probabilities, but its values are none"):
        onnxcal.calibrate(classifier([node("Tanh", "logits", "t")], output="t"), (x, y), activation="softmax")


def test_a_patch_that_takes_probabilities_for_logits_says_what_that_means() -> None:
    result = onnxcal.patch(classifier([softmax()], output="probs"), temperature=2.0, activation="none")
    assert any("double softmax" in warning for warning in result.warnings)
