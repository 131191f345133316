"""Outputs that are said to hold probabilities: what they are then, and which values contradict it."""

from __future__ import annotations

import numpy as np
import pytest

import onnxcal
from onnxcal.errors import ModelError
from onnxcal.graph.head import Added
from onnxcal.graph.tails import Hints
from tests.corpus.form import node
from tests.graph.tails.heads import behind_logits, head_of, refuse, told

X = np.random.default_rng(0).normal(size=(120, 6)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 4, 120)
HARD = [node("HardSigmoid", "z", "y")]
MEAN = [node("Softmax", "z", "p"), node("MatMul", "x v", "o"), node("Softmax", "o", "q"), node("Mean", "p q", "y")]


def test_nothing_is_taken_for_probabilities_unless_told() -> None:
    for nodes in (HARD, MEAN):
        refuse("HardSigmoid|Mean", nodes)


def test_the_refusal_says_how_to_tell() -> None:
    with pytest.raises(ModelError) as error:
        head_of(MEAN)
    assert "--activation softmax" in error.value.hint


def test_rows_of_probabilities() -> None:
    head = head_of(MEAN, hints=Hints(activation="softmax"))
    assert told(head) == ("multiclass", "softmax", "y", 1, 4)
    assert head.site == Added("y", "probabilities")


def test_independent_probabilities() -> None:
    head = head_of(HARD, hints=Hints(activation="sigmoid"))
    assert told(head) == ("multilabel", "sigmoid", "y", 1, 4)
    head = head_of(HARD, ("N", 1), classes=1, hints=Hints(activation="sigmoid"))
    assert told(head) == ("binary", "sigmoid", "y", 1, 2)


def test_moves_behind_them_are_kept_in_mind() -> None:
    nodes = [*MEAN[:-1], node("Mean", "p q", "r"), node("Transpose", "r", "y")]
    head = head_of(nodes, (4, "N"), hints=Hints(activation="softmax"))
    assert told(head) == ("multiclass", "softmax", "r", 1, 4)
    assert len(head.trail) == 1


@pytest.mark.parametrize(
    "hints",
    [
        Hints(activation="softmax", task="binary"),
        Hints(activation="softmax", task="multilabel"),
        Hints(activation="log_softmax"),
    ],
    ids=str,
)
def test_what_contradicts_itself_is_refused(hints: Hints) -> None:
    refuse("multiclass|Mean", MEAN, hints=hints)


def test_one_probability_a_sample_is_no_row() -> None:
    refuse("one probability", HARD, ("N", 1), classes=1, hints=Hints(activation="softmax"))


NOT_PROBABILITIES = {
    "logits": ([node("Tanh", "z", "y")], "softmax"),
    "margins above 1": ([node("Softplus", "z", "y")], "sigmoid"),
    "rows that sum to 2": ([*MEAN[:-1], node("Add", "p q", "y")], "softmax"),
    "percentages": ([node("Softmax", "z", "p"), node("Mul", "p c", "y")], "softmax"),
    "log-probabilities": ([node("LogSoftmax", "z", "p"), node("Abs", "p", "a"), node("Neg", "a", "y")], "softmax"),
}


@pytest.mark.parametrize("what", NOT_PROBABILITIES)
def test_values_that_are_no_probabilities_are_refused(what: str) -> None:
    """And the message says so, not something about bugs."""
    nodes, activation = NOT_PROBABILITIES[what]
    constants = {"c": np.float32([100])} if what == "percentages" else {}
    labels = LABELS if activation == "softmax" else np.eye(4, dtype=int)[LABELS]
    with pytest.raises(onnxcal.OnnxcalError) as error:
        onnxcal.calibrate(behind_logits(nodes, constants=constants), (X, labels), activation=activation)
    assert "probabilit" in error.value.message
    assert "bug" not in error.value.message + error.value.hint


def test_probabilities_get_a_warning_that_says_what_is_calibrated() -> None:
    result = onnxcal.calibrate(behind_logits(MEAN), (X, LABELS), activation="softmax", no_holdout=True)
    assert any("log-probabilities" in warning for warning in result.warnings)
    result = onnxcal.patch(behind_logits(MEAN), temperature=1.5, activation="softmax")
    assert any("log-probabilities" in warning for warning in result.warnings)


def test_where_logits_are_there_the_hint_is_not_needed_and_changes_nothing() -> None:
    nodes = [node("Softmax", "z", "y")]
    assert head_of(nodes, hints=Hints(activation="softmax")) == head_of(nodes)
