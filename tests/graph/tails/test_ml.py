"""Classifiers of ai.onnx.ml: where their logits are, and what has none."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import onnxcal
from onnxcal.errors import ModelError
from onnxcal.graph.detect import find_head
from onnxcal.graph.head import Added, Complemented, Head
from onnxcal.graph.modelfile import open_model
from onnxcal.graph.tails import Hints
from tests.corpus.form import attempt, ints, node, value
from tests.corpus.forms.ml import ML, Linear, labels_of, ml_model, svm
from tests.corpus.forms.trees import BOOSTED, FOREST, ONE, Stumps
from tests.corpus.forms.zipmaps import maps
from tests.graph.tails.heads import told

X = np.random.default_rng(0).normal(size=(120, 6)).astype(np.float32)
Y3 = np.random.default_rng(1).integers(0, 3, 120)


def model(*nodes: onnx.NodeProto, columns: int | None = 3, output: str = "y", **kwargs: Any) -> onnx.ModelProto:
    """Nodes, of which one makes `output`."""
    return ml_model(list(nodes), [value(output, ["N", columns])], **kwargs)


def head_of(*nodes: onnx.NodeProto, hints: Hints | None = None, **kwargs: Any) -> Head:
    return find_head(open_model(model(*nodes, **kwargs)), None, hints)


@pytest.mark.parametrize(
    ("transform", "classes", "expected", "column"),
    [
        ("SOFTMAX", 3, ("multiclass", "softmax", 3), False),
        ("SOFTMAX", 2, ("multiclass", "softmax", 2), False),
        ("LOGISTIC", 3, ("multilabel", "sigmoid", 3), False),
        ("LOGISTIC", 2, ("binary", "sigmoid", 2), True),
    ],
)
@pytest.mark.parametrize("op", ["LinearClassifier", "TreeEnsembleClassifier"])
def test_logits_are_the_scores_without_their_post_transform(op, transform, classes, expected, column) -> None:
    linear = op == "LinearClassifier"
    made = Linear(classes, transform).node(scores="y") if linear else BOOSTED[classes].node(transform, "x", "y")
    head = head_of(made, columns=classes)
    assert (head.task, head.activation, head.num_classes) == expected
    assert (head.logits, head.axis, head.rank, head.dtype) == ("y", 1, 2, "float32")
    assert head.site == Added("y", "scores", column=column, node=0)
    assert head.trail == ((Complemented(None, 1),) if column else ())


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_as_they_are_hold_the_logits(classes: int) -> None:
    for made in (Linear(classes, "NONE").node(scores="y"), BOOSTED[classes].node("NONE", "x", "y")):
        head = head_of(made, columns=classes)
        assert head.activation == "none"
        assert head.task == ("binary" if classes == 2 else "multiclass")
        assert head.site == Added("y", "logits", column=classes == 2)


@pytest.mark.parametrize("transform", ["SOFTMAX_ZERO", "PROBIT"])
def test_other_post_transforms_leave_no_logits(transform: str) -> None:
    head = head_of(Linear(3, transform).node(scores="y"))
    assert head.site == Added("y", "probabilities")


@pytest.mark.parametrize("classes", [2, 3])
def test_a_forest_has_no_logits(classes: int) -> None:
    head = head_of(FOREST[classes].node("NONE", "x", "y"), columns=classes)
    assert told(head) == ("multiclass", "softmax", "y", 1, classes)
    assert head.site == Added("y", "probabilities")


def test_a_forest_whose_scores_are_said_to_be_logits_has_them() -> None:
    head = head_of(FOREST[3].node("NONE", "x", "y"), hints=Hints(activation="none"))
    assert (head.activation, head.site) == ("none", Added("y", "logits"))


def test_margins_that_happen_to_be_positive_are_refused_by_their_values() -> None:
    """Leaves above 0 are votes, as far as the graph tells; but the rows do not sum to 1."""
    positive = Stumps(3, [(0, 0.1, {0: 2.0, 1: 0.1}, {1: 3.0}), (3, -0.2, {2: 0.5}, {0: 1.5})])
    made = model(positive.node("NONE", "x", "y"))
    with pytest.raises(ModelError, match="probabilities") as error:
        onnxcal.calibrate(made, (X, Y3))
    assert "none" in error.value.hint


READ_OTHERWISE = {
    "one score is not transformed": (ONE.regressor("LOGISTIC", "y"), Y3 > 0, 1, 1),
    "nor in version 5": (ONE.ensemble(2, "y"), Y3 > 0, 1, 5),
    "1 is SOFTMAX in ONNX and LOGISTIC in onnxruntime": (BOOSTED[3].ensemble(1, "y"), Y3, 3, 5),
    "2 is LOGISTIC in ONNX and SOFTMAX in onnxruntime": (BOOSTED[3].ensemble(2, "y"), np.eye(3)[Y3], 3, 5),
    "[0.5, p]": (Stumps(2, [(0, 0.1, {1: -0.9}, {1: 1.3})]).node("LOGISTIC", "x", "y"), Y3 > 0, 2, 1),
    "[1 - s, s]": (Linear(2, "SOFTMAX", rows=1).node(scores="y"), Y3 > 0, 2, 1),
}


@pytest.mark.parametrize("how", READ_OTHERWISE)
def test_post_transforms_that_onnxruntime_reads_otherwise_are_refused_by_their_values(how: str) -> None:
    made, labels, columns, version = READ_OTHERWISE[how]
    proto = model(made, columns=columns, ml=version, opset=21)
    with pytest.raises(ModelError, match="post_transform"):
        onnxcal.calibrate(proto, (X, labels.astype(int)))


def test_two_unrelated_columns_are_no_margins() -> None:
    """Scores of two classes that are not [−s, s] are logits of a softmax: σ of the second alone says something else."""
    w = np.random.default_rng(2).normal(size=(2, 6)).astype(np.float32)
    made = Linear(2, "NONE").node(scores="y")
    attribute = next(a for a in made.attribute if a.name == "coefficients")
    attribute.floats[:] = w.ravel().tolist()
    z = X @ w.T + np.array(next(a.floats for a in made.attribute if a.name == "intercepts"))
    labels = (np.random.default_rng(3).random(120) < 1 / (1 + np.exp((z[:, 0] - z[:, 1]) / 2))).astype(int)
    result, error = attempt(lambda: onnxcal.calibrate(model(made, columns=2), (X, labels), no_holdout=True))
    assert result is not None or error is not None
    if result is not None:
        assert result.head.task == "multiclass"
        assert result.calibration.temperature == pytest.approx(onnxcal.fit(z, labels).temperature, rel=1e-3)


def test_support_vectors_without_probabilities_are_asked_about() -> None:
    made = svm(3, prob=False)
    made.output[1] = "y"
    with pytest.raises(ModelError, match="votes") as error:
        head_of(made)
    assert "probability=True" in error.value.hint
    assert head_of(made, hints=Hints(activation="none")).activation == "none"


@pytest.mark.parametrize("made", [Linear(3, "SOFTMAX").node(), FOREST[3].node("NONE"), svm(3)], ids=lambda n: n.op_type)
def test_labels_are_no_probabilities(made: onnx.NodeProto) -> None:
    proto = ml_model([made], [labels_of([0])])
    with pytest.raises(ModelError, match=r"int64|labels"):
        find_head(open_model(proto))


# Normalizer


def normalizer(source: str, norm: str = "L1") -> onnx.NodeProto:
    return node("Normalizer", source, "y", domain=ML, norm=norm)


@pytest.mark.parametrize(("classes", "transform"), [(3, "SOFTMAX"), (2, "SOFTMAX"), (2, "LOGISTIC")])
def test_rows_that_sum_to_one_already_are_not_changed_by_a_normalizer(classes: int, transform: str) -> None:
    head = head_of(Linear(classes, transform).node(), normalizer("scores"), columns=classes)
    assert head.site == Added("scores", "scores", column=transform == "LOGISTIC", node=0)


@pytest.mark.parametrize("norm", ["MAX", "L2"])
def test_other_norms_are_refused(norm: str) -> None:
    with pytest.raises(ModelError, match="Normalizer"):
        head_of(Linear(3, "SOFTMAX").node(), normalizer("scores", norm))


def test_independent_sigmoids_normalised_have_no_logits() -> None:
    head = head_of(Linear(3, "LOGISTIC").node(), normalizer("scores"))
    assert told(head) == ("multiclass", "softmax", "y", 1, 3)
    assert head.site == Added("y", "probabilities")


def test_some_of_the_classes_normalised_have_no_logits() -> None:
    """p₁ / (p₁ + p₂) is another softmax than the one that made them."""
    some = node("Gather", "scores k", "some", axis=1)
    head = head_of(Linear(3, "SOFTMAX").node(), some, normalizer("some"), columns=2, constants={"k": ints(0, 2)})
    assert head.site == Added("y", "probabilities")


def test_one_of_two_columns_normalised_is_no_head() -> None:
    """p / p is 1 whatever the temperature."""
    one = node("Gather", "scores k", "one", axis=1)
    with pytest.raises(onnxcal.OnnxcalError):
        onnxcal.calibrate(
            model(Linear(2, "LOGISTIC").node(), one, normalizer("one"), columns=1, constants={"k": ints(1)}),
            (X, Y3 > 0),
        )


# ZipMap


def zipped(*nodes: onnx.NodeProto, source: str = "scores") -> onnx.ModelProto:
    made = node("ZipMap", source, "y", domain=ML, classlabels_int64s=[0, 1, 2])
    return ml_model([*nodes, made], [maps("y", [0, 1, 2])])


def test_a_zip_map_keeps_its_keys() -> None:
    head = find_head(open_model(zipped(Linear(3, "SOFTMAX").node())))
    assert head.keys == (0, 1, 2)
    assert head.site == Added("scores", "scores", node=0)


def test_what_a_zip_map_reads_is_taken_for_probabilities() -> None:
    head = find_head(open_model(zipped(node("Tanh", "x", "t"), node("Abs", "t", "scores"))))
    assert head.site == Added("scores", "probabilities")


def test_unlike_numbers_in_a_zip_map_are_refused_by_their_values() -> None:
    proto = zipped(Linear(3, "NONE").node("x", "raw"), node("Exp", "raw", "scores"))
    with pytest.raises(ModelError, match="probabilities"):
        onnxcal.calibrate(proto, (X, Y3))
