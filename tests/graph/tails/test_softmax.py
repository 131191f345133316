"""Softmax and LogSoftmax: the axis by operator set, and what is refused."""

from __future__ import annotations

import pytest

from onnxcal.errors import ModelError
from onnxcal.graph.detect import find_head
from onnxcal.graph.modelfile import open_model
from onnxcal.graph.tails import Hints
from tests.builders import softmax
from tests.corpus.form import build, node, value


def head_of(op: str, shape: list[int | str] | None, opset: int, axis: int | None, hints: Hints | None = None):
    attributes = {} if axis is None else {"axis": axis}
    model = build([node(op, "x", "probs", **attributes)], [value("x", shape)], [value("probs", shape)], opset=opset)
    return find_head(open_model(model), None, hints)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize(
    ("opset", "axis", "expected", "classes", "flatten"),
    [
        (13, None, 3, 5, False),
        (13, 1, 1, 3, False),
        (13, -3, 1, 3, False),
        (21, 2, 2, 4, False),
        (13, 0, 0, None, False),
        (12, None, 1, 60, True),
        (12, 2, 2, 20, True),
        (12, 3, 3, 5, False),
        (11, -1, 3, 5, False),
        (11, -2, 2, 20, True),
        (7, 1, 1, 60, True),
    ],
)
def test_the_axis_is_the_one_of_the_specification(op, opset, axis, expected, classes, flatten) -> None:
    """Softmax-13 acts on one axis, by default the last; Softmax-1 and -11 on all from `axis` on, by default 1."""
    head = head_of(op, ["N", 3, 4, 5], opset, axis)
    assert (head.axis, head.num_classes, head.flatten, head.rank) == (expected, classes, flatten, 4)
    assert head.task == "multiclass"
    assert head.activation == {"Softmax": "softmax", "LogSoftmax": "log_softmax"}[op]


@pytest.mark.parametrize("opset", [9, 11, 12])
def test_flattening_over_ones_is_no_flattening(opset: int) -> None:
    head = head_of("Softmax", ["N", 3, 1, 1], opset, 1)
    assert (head.axis, head.num_classes, head.flatten) == (1, 3, False)


@pytest.mark.parametrize(("opset", "axis"), [(7, 0), (12, 0), (12, -4), (13, 4), (13, -5)])
def test_axes_that_make_no_classifier_are_refused(opset: int, axis: int) -> None:
    with pytest.raises(ModelError, match="ax"):
        head_of("Softmax", ["N", 3, 4, 5], opset, axis)


def test_an_axis_from_the_back_of_an_unknown_rank_is_asked_for() -> None:
    with pytest.raises(ModelError, match="unknown rank"):
        head_of("Softmax", None, 13, -1)
    assert head_of("Softmax", None, 13, -1, Hints(axis=2)).axis == 2
    with pytest.raises(ModelError):
        head_of("Softmax", None, 13, -1, Hints(axis=-1))
    assert head_of("Softmax", None, 13, 1).axis == 1


def test_a_softmax_over_one_class_is_no_classifier() -> None:
    """Its output is 1 whatever the temperature."""
    model = build([softmax("x", "probs")], [value("x", ["N", 1])], [value("probs", ["N", 1])])
    with pytest.raises(ModelError):
        find_head(open_model(model))
