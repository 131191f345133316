"""Activations in pieces: what belongs together is found, and what only looks like it is not."""

from __future__ import annotations

import numpy as np
import pytest

import onnxcal
from onnxcal.graph.head import Added, Fed
from onnxcal.graph.tails import Hints
from tests.corpus.form import ints, node
from tests.graph.tails.heads import behind_logits, head_of, refuse, told

EXP_SUM = [node("Exp", "d", "e"), node("ReduceSum", "e i1", "t")]
OTHER = node("MatMul", "x v", "o")
SOFTMAX_OF_Z = [node("ReduceMax", "z", "m", axes=[1]), node("Sub", "z m", "d"), *EXP_SUM, node("Div", "e t", "y")]


def test_the_readers_of_the_logits_are_all_fed() -> None:
    """Maximum and difference: with one of them on z alone, exp(z/T − max z) would underflow."""
    head = head_of(SOFTMAX_OF_Z)
    assert told(head) == ("multiclass", "softmax", "z", 1, 4)
    assert head.site == Fed((1, 2), "y", single=False)


def test_without_a_maximum_both_exponentials_are_fed() -> None:
    nodes = [node("Exp", "z", "e"), node("Exp", "z", "f"), node("ReduceSum", "f i1", "t"), node("Div", "e t", "y")]
    head = head_of(nodes)
    assert told(head) == ("multiclass", "softmax", "z", 1, 4)
    assert head.site == Fed((1, 2), "y", single=False)


SHIFTED = {
    "the maximum of another tensor": [OTHER, node("ReduceMax", "o", "m", axes=[1]), node("Sub", "z m", "d")],
    "another tensor": [OTHER, node("Sub", "z o", "d")],
    "the minimum": [node("ReduceMin", "z", "m", axes=[1]), node("Sub", "z m", "d")],
    "a constant": [node("Sub", "z two", "d")],
    "half of itself": [node("Mul", "z two", "d")],
}


@pytest.mark.parametrize("what", SHIFTED)
def test_what_enters_the_exponential_are_the_logits_where_no_maximum_was_subtracted(what: str) -> None:
    """exp(D) / Σ exp(D) is the softmax of D whatever D is."""
    head = head_of([*SHIFTED[what], *EXP_SUM, node("Div", "e t", "y")])
    assert told(head) == ("multiclass", "softmax", "d", 1, 4)


NO_SOFTMAX = {
    "exponentials of two tensors": [
        OTHER,
        node("Exp", "z", "e"),
        node("Exp", "o", "f"),
        node("ReduceSum", "f i1", "t"),
        node("Div", "e t", "y"),
    ],
    "the sum over the exponentials": [node("Exp", "z", "e"), node("ReduceSum", "e i1", "t"), node("Div", "t e", "y")],
    "a mean": [node("Exp", "z", "e"), node("ReduceMean", "e", "t", axes=[1]), node("Div", "e t", "y")],
    "a constant": [node("Exp", "z", "e"), node("Div", "e two", "y")],
    "a Euclidean norm": [node("ReduceL2", "z", "t", axes=[1]), node("Div", "z t", "y")],
    "the inverse of another sum": [
        OTHER,
        node("Exp", "z", "e"),
        node("Exp", "o", "f"),
        node("ReduceSum", "f i1", "t"),
        node("Reciprocal", "t", "u"),
        node("Mul", "e u", "y"),
    ],
    "no inverse": [node("Exp", "z", "e"), node("ReduceSum", "e i1", "t"), node("Mul", "e t", "y")],
}


@pytest.mark.parametrize("over", NO_SOFTMAX)
def test_exponentials_over_something_else_are_no_softmax(over: str) -> None:
    refuse("Div|Mul", NO_SOFTMAX[over])


ODD_SUMS = {
    "1": [node("Exp", "z", "e"), node("ReduceSum", "e i1", "s"), node("Add", "s one", "t"), node("Div", "e t", "y")],
    "its maximum": [
        node("Exp", "z", "e"),
        node("ReduceSum", "e i1", "s"),
        node("ReduceMax", "e", "m", axes=[1]),
        node("Add", "s m", "t"),
        node("Div", "e t", "y"),
    ],
}


@pytest.mark.parametrize("more", ODD_SUMS)
def test_a_sum_with_more_than_a_guard_added_is_no_softmax(more: str) -> None:
    """e / (Σe + 1) leaves room for 'none of them': its rows sum to less than 1."""
    refuse("Div", ODD_SUMS[more])


SUMS_ELSEWHERE = {
    "the batch": [node("Exp", "z", "e"), node("ReduceSum", "e i0", "t"), node("Div", "e t", "y")],
    "batch and classes": [node("Exp", "z", "e"), node("ReduceSum", "e both", "t"), node("Div", "e t", "y")],
    "everything": [node("Exp", "z", "e"), node("ReduceSum", "e", "t"), node("Div", "e t", "y")],
}


@pytest.mark.parametrize("axes", SUMS_ELSEWHERE)
def test_a_sum_over_other_axes_than_the_classes_is_never_calibrated(axes: str) -> None:
    """Refused for its structure, or for its values, or because no axis counts samples; nothing is written."""
    x = np.random.default_rng(0).normal(size=(90, 6)).astype(np.float32)
    y = np.arange(90) % 4
    with pytest.raises(onnxcal.OnnxcalError):
        onnxcal.calibrate(behind_logits(SUMS_ELSEWHERE[axes]), (x, y), no_holdout=True)


def test_the_axis_of_the_sum_is_the_class_axis() -> None:
    """Of [K, N] it is the first; an --axis that says otherwise is refused."""
    nodes = [
        node("Transpose", "z", "a"),
        node("ReduceMax", "a", "m", axes=[0]),
        node("Sub", "a m", "d"),
        node("Exp", "d", "e"),
        node("ReduceSum", "e i0", "t"),
        node("Div", "e t", "y"),
    ]
    assert told(head_of(nodes, (4, "N"))) == ("multiclass", "softmax", "a", 0, 4)
    assert told(head_of(nodes, (4, "N"), hints=Hints(axis=0))) == ("multiclass", "softmax", "a", 0, 4)
    refuse("axis 0", nodes, (4, "N"), hints=Hints(axis=1))


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_a_softmax_in_pieces_is_multiclass(task) -> None:
    refuse("multiclass", SOFTMAX_OF_Z, hints=Hints(task=task))


# Logarithms

LOGS = {
    "z - lse(z)": [node("ReduceLogSumExp", "z", "t", axes=[1]), node("Sub", "z t", "y")],
    "d - log sum exp d": [
        node("ReduceMax", "z", "m", axes=[1]),
        node("Sub", "z m", "d"),
        *EXP_SUM,
        node("Log", "t", "l"),
        node("Sub", "d l", "y"),
    ],
}


@pytest.mark.parametrize("how", LOGS)
def test_log_softmax_in_pieces(how: str) -> None:
    assert told(head_of(LOGS[how])) == ("multiclass", "log_softmax", "z", 1, 4)


NO_LOG_SOFTMAX = {
    "the lse of another tensor": [OTHER, node("ReduceLogSumExp", "o", "t", axes=[1]), node("Sub", "z t", "y")],
    "the wrong way round": [node("ReduceLogSumExp", "z", "t", axes=[1]), node("Sub", "t z", "y")],
    "the logarithm of a sum without exponentials": [
        node("ReduceSum", "z i1", "t"),
        node("Log", "t", "l"),
        node("Sub", "z l", "y"),
    ],
    "the sum of logarithms": [node("ReduceLogSum", "z", "t", axes=[1]), node("Sub", "z t", "y")],
    "d less the log of the sum of exp z": [
        node("ReduceMax", "z", "m", axes=[1]),
        node("Sub", "z m", "d"),
        node("Exp", "z", "e"),
        node("ReduceSum", "e i1", "t"),
        node("Log", "t", "l"),
        node("Sub", "d l", "y"),
    ],
    "its maximum alone": [node("ReduceMax", "z", "m", axes=[1]), node("Sub", "z m", "y")],
}


@pytest.mark.parametrize("what", NO_LOG_SOFTMAX)
def test_other_differences_are_no_log_softmax(what: str) -> None:
    refuse("Sub", NO_LOG_SOFTMAX[what])


COMPOSED = {
    "Exp of LogSoftmax": ([node("LogSoftmax", "z", "p"), node("Exp", "p", "y")], "softmax"),
    "Log of Softmax": ([node("Softmax", "z", "p"), node("Log", "p", "y")], "log_softmax"),
    "Exp of Log of Softmax": ([node("Softmax", "z", "p"), node("Log", "p", "q"), node("Exp", "q", "y")], "softmax"),
    "Exp of log-softmax in pieces": (
        [node("ReduceLogSumExp", "z", "t", axes=[1]), node("Sub", "z t", "p"), node("Exp", "p", "y")],
        "softmax",
    ),
}


@pytest.mark.parametrize("what", COMPOSED)
def test_exponentials_and_logarithms_cancel(what: str) -> None:
    nodes, activation = COMPOSED[what]
    assert told(head_of(nodes)) == ("multiclass", activation, "z", 1, 4)


NOT_COMPOSED = {
    "Exp of Softmax": [node("Softmax", "z", "p"), node("Exp", "p", "y")],
    "Exp of logits": [node("Exp", "z", "y")],
    "Exp of Sigmoid": [node("Sigmoid", "z", "p"), node("Exp", "p", "y")],
    "Log of Sigmoid": [node("Sigmoid", "z", "p"), node("Log", "p", "y")],
    "Log of Softmax that is clipped": [
        node("Softmax", "z", "p"),
        node("Clip", "p nil one", "q"),
        node("Log", "q", "y"),
    ],
    "Exp of LogSoftmax that is clipped": [
        node("LogSoftmax", "z", "p"),
        node("Relu", "p", "q"),
        node("Exp", "q", "y"),
    ],
    "Log of LogSoftmax": [node("LogSoftmax", "z", "p"), node("Log", "p", "y")],
    "Exp of minus LogSoftmax": [node("LogSoftmax", "z", "p"), node("Neg", "p", "q"), node("Exp", "q", "y")],
    "minus LogSoftmax": [node("LogSoftmax", "z", "p"), node("Neg", "p", "y")],
    "twice Softmax": [node("Softmax", "z", "p"), node("Mul", "p two", "y")],
    "one less Softmax": [node("Softmax", "z", "p"), node("Sub", "one p", "y")],
    "Abs of Softmax": [node("Softmax", "z", "p"), node("Abs", "p", "y")],
}


@pytest.mark.parametrize("what", NOT_COMPOSED)
def test_what_does_not_cancel_is_refused(what: str) -> None:
    refuse("Exp|Log|Neg|Mul|Sub|Abs", NOT_COMPOSED[what])


def test_a_maximum_over_everything_is_the_same_for_all_classes() -> None:
    head = head_of([node("ReduceMax", "z", "m", axes=[0, 1]), *SOFTMAX_OF_Z[1:]])
    assert head.site == Fed((1, 2), "y", single=False)


def test_a_maximum_over_another_axis_than_the_sum_is_not_taken_out() -> None:
    """Less a number a class, z is other logits; what the rows hold are probabilities all the same."""
    head = head_of([node("ReduceMax", "z", "m", axes=[0]), *SOFTMAX_OF_Z[1:]])
    assert told(head) == ("multiclass", "softmax", "y", 1, 4)
    assert head.site == Added("y", "probabilities")


# Sigmoid

EXP_OF_MINUS = [node("Neg", "z", "n"), node("Exp", "n", "e")]
NO_SIGMOID = {
    "1 / (2 + exp(-z))": [*EXP_OF_MINUS, node("Add", "e two", "t"), node("Div", "one t", "y")],
    "2 / (1 + exp(-z))": [*EXP_OF_MINUS, node("Add", "e one", "t"), node("Div", "two t", "y")],
    "1 / (1 + exp(z))": [node("Exp", "z", "e"), node("Add", "e one", "t"), node("Div", "one t", "y")],
    "1 / (1 - exp(-z))": [*EXP_OF_MINUS, node("Sub", "one e", "t"), node("Div", "one t", "y")],
    "(1 + exp(-z)) / 1": [*EXP_OF_MINUS, node("Add", "e one", "t"), node("Div", "t one", "y")],
    "1 / (2 + exp(-z)), by Reciprocal": [
        *EXP_OF_MINUS,
        node("Add", "e one", "t"),
        node("Add", "t one", "u"),
        node("Reciprocal", "u", "y"),
    ],
    "1 / exp(-z)": [*EXP_OF_MINUS, node("Reciprocal", "e", "y")],
}


@pytest.mark.parametrize("what", NO_SIGMOID)
def test_other_fractions_are_no_sigmoid(what: str) -> None:
    refuse("Div|Reciprocal", NO_SIGMOID[what])


def test_a_sigmoid_in_pieces_is_binary_or_multilabel() -> None:
    nodes = [*EXP_OF_MINUS, node("Add", "e one", "t"), node("Div", "one t", "y")]
    assert told(head_of(nodes)) == ("multilabel", "sigmoid", "z", 1, 4)
    assert told(head_of(nodes, ("N", 1), classes=1)) == ("binary", "sigmoid", "z", 1, 2)
    refuse("multiclass", nodes, hints=Hints(task="multiclass"))


SIGMOIDS = {
    "exp(-z), by Mul": (
        [node("Mul", "z minus", "n"), node("Exp", "n", "e"), node("Add", "e one", "t"), node("Div", "one t", "y")],
        (1,),
    ),
    "exp(-z), by Sub": (
        [node("Sub", "nil z", "n"), node("Exp", "n", "e"), node("Add", "one e", "t"), node("Reciprocal", "t", "y")],
        (1,),
    ),
    "exp(z) / (1 + exp(z))": ([node("Exp", "z", "e"), node("Add", "e one", "t"), node("Div", "e t", "y")], (1,)),
    "exp(z) / (1 + exp(z)), twice": (
        [node("Exp", "z", "e"), node("Exp", "z", "f"), node("Add", "one f", "t"), node("Div", "e t", "y")],
        (1, 2),
    ),
    "exp(z) · 1 / (1 + exp(z))": (
        [node("Exp", "z", "e"), node("Add", "e one", "t"), node("Reciprocal", "t", "u"), node("Mul", "u e", "y")],
        (1,),
    ),
}


@pytest.mark.parametrize("how", SIGMOIDS)
def test_other_ways_to_write_a_sigmoid(how: str) -> None:
    nodes, readers = SIGMOIDS[how]
    head = head_of(nodes, ("N", 1), classes=1)
    assert told(head) == ("binary", "sigmoid", "z", 1, 2)
    assert head.site == Fed(readers, "y", single=False)


NEAR_SIGMOIDS = {
    "exp(o) / (1 + exp(z))": [
        OTHER,
        node("Exp", "o", "f"),
        node("Exp", "z", "e"),
        node("Add", "e one", "t"),
        node("Div", "f t", "y"),
    ],
    "exp(z) / (2 + exp(z))": [node("Exp", "z", "e"), node("Add", "e two", "t"), node("Div", "e t", "y")],
    "1 / (1 + exp(-2z))": [
        node("Mul", "z two", "n"),
        node("Exp", "n", "e"),
        node("Add", "e one", "t"),
        node("Div", "one t", "y"),
    ],
    "1 / (1 + exp(1 - z))": [
        node("Sub", "one z", "n"),
        node("Exp", "n", "e"),
        node("Add", "e one", "t"),
        node("Div", "one t", "y"),
    ],
}


@pytest.mark.parametrize("what", NEAR_SIGMOIDS)
def test_what_is_near_a_sigmoid_is_none(what: str) -> None:
    refuse("Div", NEAR_SIGMOIDS[what], ("N", 1), classes=1)


# Values that are divided by their sum

DIVIDED = {
    "squares": [node("Mul", "z z", "e"), node("ReduceSum", "e i1", "t"), node("Div", "e t", "y")],
    "softplus": [node("Softplus", "z", "e"), node("ReduceSum", "e i1", "t"), node("Div", "e t", "y")],
    "absolute values": [node("Abs", "z", "e"), node("ReduceL1", "z", "t", axes=[1]), node("Div", "e t", "y")],
}


@pytest.mark.parametrize("what", ["squares", "softplus"])
def test_values_over_their_sum_are_probabilities_without_logits(what: str) -> None:
    head = head_of(DIVIDED[what])
    assert told(head) == ("multiclass", "softmax", "y", 1, 4)
    assert head.site == Added("y", "probabilities")


def test_logits_over_their_sum_are_refused_by_their_values() -> None:
    """The graph looks as for probabilities, but the numbers are negative."""
    model = behind_logits([node("ReduceSum", "z i1", "t"), node("Div", "z t", "y")])
    x = np.random.default_rng(0).normal(size=(90, 6)).astype(np.float32)
    with pytest.raises(onnxcal.OnnxcalError):
        onnxcal.calibrate(model, (x, np.arange(90) % 4))


def test_a_softmax_in_pieces_over_several_axes_is_not_taken_for_one_over_one() -> None:
    nodes = [
        node("Reshape", "z s", "a"),
        node("Exp", "a", "e"),
        node("ReduceSum", "e axes", "t"),
        node("Div", "e t", "y"),
    ]
    constants = {"s": ints(-1, 2, 2), "axes": ints(1, 2)}
    x = np.random.default_rng(0).normal(size=(90, 6)).astype(np.float32)
    with pytest.raises(onnxcal.OnnxcalError):
        onnxcal.calibrate(behind_logits(nodes, ("N", 2, 2), constants), (x, np.arange(90) % 4))
