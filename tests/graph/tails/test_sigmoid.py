"""Sigmoid: binary or multilabel, by shape or as the user says."""

from __future__ import annotations

import pytest

from onnxcal.errors import ModelError
from onnxcal.graph.detect import find_head
from onnxcal.graph.modelfile import open_model
from onnxcal.graph.tails import Hints
from tests.corpus.form import build, node, value


def head_of(shape: list[int | str] | None, hints: Hints | None = None):
    model = build([node("Sigmoid", "x", "probs")], [value("x", shape)], [value("probs", shape)])
    return find_head(open_model(model), None, hints)


@pytest.mark.parametrize(
    ("shape", "task", "classes", "axis"),
    [
        (["N", 1], "binary", 2, 1),
        (["N"], "binary", 2, 0),
        (["N", 5], "multilabel", 5, 1),
        (["N", 2], "multilabel", 2, 1),
        (["N", 1, 1], "binary", 2, 1),
        (["N", 1, 7], "binary", 2, 1),
        (["N", 7, 1], "binary", 2, 2),
        (["N", 1, 4, 5], "binary", 2, 1),
        (["N", 3, 4, 5], "multilabel", 3, 1),
    ],
)
def test_the_shape_tells_the_task(shape, task, classes, axis) -> None:
    head = head_of(shape)
    assert (head.task, head.num_classes, head.axis, head.activation) == (task, classes, axis, "sigmoid")


def test_the_user_may_say_it() -> None:
    assert head_of(["N", "K"], Hints(task="multilabel")).task == "multilabel"
    assert head_of(["N", 1], Hints(task="multilabel")).num_classes == 1
    assert head_of(None, Hints(task="binary")).task == "binary"


@pytest.mark.parametrize(
    ("shape", "hints"),
    [
        (["N", "K"], None),
        (None, None),
        (["N", 4, 5], None),
        (["N", 4], Hints(task="multiclass")),
        (["N", 4], Hints(axis=2)),
    ],
    ids=str,
)
def test_what_is_not_clear_is_asked(shape, hints) -> None:
    with pytest.raises(ModelError) as caught:
        head_of(shape, hints)
    assert caught.value.hint
