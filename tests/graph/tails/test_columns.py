"""Two columns of which one follows from the other, and joins that only look like it."""

from __future__ import annotations

import numpy as np
import pytest

import onnxcal
from onnxcal.graph.head import Added, Complemented, Fed
from onnxcal.graph.tails import Hints
from tests.corpus.form import node
from tests.graph.tails.heads import behind_logits, head_of, refuse, told

P = node("Sigmoid", "z", "p")
Q = node("Sub", "one p", "q")
MINUS = node("Neg", "z", "n")
PAIR = ("N", 2)


def test_one_less_p_beside_p() -> None:
    head = head_of([P, Q, node("Concat", "q p", "y", axis=1)], PAIR, classes=1)
    assert told(head) == ("binary", "sigmoid", "z", 1, 2)
    assert head.site == Fed((1,), "p", single=True)
    assert head.trail == (Complemented("p", 1),)


def test_the_other_way_round() -> None:
    head = head_of([P, Q, node("Concat", "p q", "y", axis=-1)], PAIR, classes=1)
    assert told(head) == ("binary", "sigmoid", "z", 1, 2)
    assert head.trail == (Complemented("p", 1, reverse=True),)


def test_margins() -> None:
    head = head_of([MINUS, node("Concat", "n z", "y", axis=1)], PAIR, classes=1)
    assert told(head) == ("binary", "none", "y", 1, 2)
    assert head.site == Added("y", "logits", column=True)


def test_sigmoids_of_both_signs_are_fed_in_the_order_of_the_graph() -> None:
    """New nodes go before the first reader."""
    nodes = [MINUS, node("Sigmoid", "n", "q"), P, node("Concat", "q p", "y", axis=1)]
    head = head_of(nodes, PAIR, classes=1)
    assert told(head) == ("binary", "sigmoid", "z", 1, 2)
    assert isinstance(head.site, Fed)
    assert sorted(head.site.readers) == [1, 3]


OTHER = node("MatMul", "x v", "o")
NOT_A_PAIR = {
    "p and p": [P, node("Concat", "p p", "y", axis=1)],
    "2 - p": [P, node("Sub", "two p", "q"), node("Concat", "q p", "y", axis=1)],
    "p - 1": [P, node("Sub", "p one", "q"), node("Concat", "q p", "y", axis=1)],
    "1 + p": [P, node("Add", "one p", "q"), node("Concat", "q p", "y", axis=1)],
    "2 + -p": [P, node("Neg", "p", "m"), node("Add", "two m", "q"), node("Concat", "q p", "y", axis=1)],
    "1 - p of another p": [
        OTHER,
        P,
        node("Sigmoid", "o", "r"),
        node("Sub", "one r", "q"),
        node("Concat", "q p", "y", axis=1),
    ],
    "two sigmoids": [OTHER, P, node("Sigmoid", "o", "q"), node("Concat", "q p", "y", axis=1)],
    "sigmoids of s and of minus another": [
        OTHER,
        P,
        node("Neg", "o", "n"),
        node("Sigmoid", "n", "q"),
        node("Concat", "q p", "y", axis=1),
    ],
    "minus another margin": [OTHER, node("Neg", "o", "n"), node("Concat", "n z", "y", axis=1)],
    "twice the margin": [node("Mul", "z two", "n"), node("Concat", "n z", "y", axis=1)],
    "margins the wrong way round": [MINUS, node("Concat", "z n", "y", axis=1)],
}


@pytest.mark.parametrize("what", NOT_A_PAIR)
def test_other_joins_are_refused(what: str) -> None:
    refuse("Concat", NOT_A_PAIR[what], PAIR, classes=1)


def test_three_columns_are_no_pair() -> None:
    refuse("Concat", [P, Q, node("Concat", "q p p", "y", axis=1)], ("N", 3), classes=1)


SEVERAL = {
    "1 - p, p": [P, Q, node("Concat", "q p", "y", axis=1)],
    "sigmoids of both signs": [MINUS, P, node("Sigmoid", "n", "q"), node("Concat", "q p", "y", axis=1)],
    "margins": [MINUS, node("Concat", "n z", "y", axis=1)],
}


@pytest.mark.parametrize("what", SEVERAL)
def test_pairs_of_several_logits_are_refused(what: str) -> None:
    """[1 − p, p] of three p has six columns: no binary head, and no three of two columns."""
    refuse("Concat|logits a sample|binary|multiclass", SEVERAL[what], ("N", 6), classes=3)


def test_a_sigmoid_of_pairs_of_several_logits_is_multilabel() -> None:
    """It is a Sigmoid over six columns, whatever they are made of."""
    nodes = [MINUS, node("Concat", "n z", "m", axis=1), node("Sigmoid", "m", "y")]
    assert told(head_of(nodes, ("N", 6), classes=3)) == ("multilabel", "sigmoid", "m", 1, 6)


def test_margins_joined_along_the_batch_are_refused() -> None:
    """(2N, 1): the second sample is not the second class."""
    refuse("Concat|logits a sample|binary|multiclass", [MINUS, node("Concat", "n z", "y", axis=0)], ("M", 1), classes=1)


def test_a_softmax_beside_its_complement_is_refused() -> None:
    refuse(
        "Concat|logits a sample|binary|multiclass",
        [node("Softmax", "z", "p"), Q, node("Concat", "q p", "y", axis=1)],
        ("N", 8),
    )


def test_margins_said_to_be_multiclass_are_refused() -> None:
    """A softmax of [−s, s] would be σ(2s)."""
    refuse(
        "Concat|logits a sample|binary|multiclass",
        [MINUS, node("Concat", "n z", "y", axis=1)],
        PAIR,
        classes=1,
        hints=Hints(task="multiclass"),
    )


def test_margins_said_to_be_logits_are_margins() -> None:
    nodes = [MINUS, node("Concat", "n z", "y", axis=1)]
    assert told(head_of(nodes, PAIR, classes=1, hints=Hints(activation="none"))) == ("binary", "none", "y", 1, 2)


def test_one_less_a_margin_is_refused_by_its_values() -> None:
    """[1 − s, s] looks like probabilities, but s is below 0 and above 1."""
    model = behind_logits([node("Sub", "one z", "n"), node("Concat", "n z", "y", axis=1)], PAIR, classes=1)
    x = np.random.default_rng(0).normal(size=(90, 6)).astype(np.float32)
    with pytest.raises(onnxcal.ModelError, match="probabilities"):
        onnxcal.calibrate(model, (x, np.arange(90) % 2))


def test_pairs_whose_p_is_no_sigmoid_are_probabilities() -> None:
    """The logit of p cannot be reached, but the rows sum to 1."""
    nodes = [node("HardSigmoid", "z", "p"), Q, node("Concat", "q p", "y", axis=1)]
    head = head_of(nodes, PAIR, classes=1)
    assert told(head) == ("multiclass", "softmax", "y", 1, 2)
    assert head.site == Added("y", "probabilities")
