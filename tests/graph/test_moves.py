"""What lies between the activation and the output: which nodes are passed, and which are not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import onnxcal
from onnxcal.graph.head import Clipped, Narrowed, Selected, Transposed
from tests.corpus.form import attempt, ints, node
from tests.graph.tails.heads import behind_logits, head_of, refuse

SOFTMAX = node("Softmax", "z", "p")
PASSED = {
    "Identity": ([node("Identity", "p", "y")], ("N", 4), ()),
    "Reshape": ([node("Reshape", "p s", "y")], ("N", 2, 2), ()),
    "Flatten": ([node("Flatten", "p", "y")], ("N", 4), ()),
    "Transpose": ([node("Transpose", "p", "y")], (4, "N"), (Transposed("p", None),)),
    "Cast to half": ([node("Cast", "p", "y", to=10)], ("N", 4), (Narrowed("float16"),)),
    "Clip": ([node("Clip", "p nil one", "y")], ("N", 4), (Clipped(0.0, 1.0),)),
    "Clip from above": ([node("Clip", ["p", "", "one"], "y")], ("N", 4), (Clipped(-np.inf, 1.0),)),
    "Relu": ([node("Relu", "p", "y")], ("N", 4), (Clipped(0.0, np.inf),)),
    "Dropout": ([node("Dropout", "p", "y")], ("N", 4), ()),
    "Gather": ([node("Gather", "p i1", "y", axis=1)], ("N", 1), (Selected("p", 1, (1,)),)),
    "times 1": ([node("Mul", "p one", "y")], ("N", 4), ()),
    "plus 0": ([node("Add", "nil p", "y")], ("N", 4), ()),
    "less 0": ([node("Sub", "p nil", "y")], ("N", 4), ()),
}
SHAPE = {"s": ints(-1, 2, 2)}


def constants(nodes: list[onnx.NodeProto]) -> dict[str, np.ndarray]:
    return SHAPE if any("s" in made.input for made in nodes) else {}


@pytest.mark.parametrize("what", PASSED)
def test_it_is_passed_and_remembered(what: str) -> None:
    nodes, shape, trail = PASSED[what]
    dtype = "float16" if "half" in what else "float32"
    head = head_of([SOFTMAX, *nodes], shape, constants(nodes), dtype=dtype)
    assert (head.logits, head.activation, head.trail) == ("z", "softmax", trail)


def test_the_steps_stand_in_the_order_of_the_graph() -> None:
    nodes = [node("Clip", "p nil one", "a"), node("Transpose", "a", "b"), node("Cast", "b", "y", to=10)]
    steps = head_of([SOFTMAX, *nodes], (4, "N"), dtype="float16").trail
    assert steps == (Clipped(0.0, 1.0), Transposed("a", None), Narrowed("float16"))


SELECTIONS = {
    "Slice": ([node("Slice", "p i1 end i1", "y")], {"end": ints(3)}, (1, 2)),
    "Slice to the end": ([node("Slice", "p i1 end i1", "y")], {"end": ints(2**62)}, (1, 2, 3)),
    "Slice from the back": ([node("Slice", "p start end i1", "y")], {"start": ints(-2), "end": ints(2**62)}, (2, 3)),
    "Slice backwards": (
        [node("Slice", "p start end i1 step", "y")],
        {"start": ints(-1), "end": ints(-(2**62)), "step": ints(-1)},
        (3, 2, 1, 0),
    ),
    "Split": ([node("Split", "p sizes", "a y b", axis=1)], {"sizes": ints(1, 2, 1)}, (1, 2)),
    "Split from the back": ([node("Split", "p sizes", "a y", axis=-1)], {"sizes": ints(1, 3)}, (1, 2, 3)),
    "Gather": ([node("Gather", "p k", "y", axis=1)], {"k": ints(3, 0)}, (3, 0)),
}


@pytest.mark.parametrize("what", SELECTIONS)
def test_the_selected_classes_are_known(what: str) -> None:
    nodes, more, indices = SELECTIONS[what]
    (step,) = head_of([SOFTMAX, *nodes], ("N", len(indices)), more).trail
    assert isinstance(step, Selected)
    assert step.indices == indices
    assert step.axis in (1, -1)


def test_an_even_split_knows_its_part() -> None:
    nodes = [SOFTMAX, node("Split", "p", "a y", axis=1, num_outputs=2)]
    (step,) = head_of(nodes, ("N", 2), opset=18).trail
    assert isinstance(step, Selected)
    assert step.indices == (2, 3)


@pytest.mark.parametrize(
    ("outputs", "classes", "indices"),
    [("y a", 5, (0, 1, 2)), ("a y", 5, (3, 4)), ("a y b", 7, (3, 4, 5)), ("a b y", 7, (6,)), ("a b y", 8, (6, 7))],
)
def test_the_last_part_of_an_uneven_split_is_the_smaller_one(
    outputs: str, classes: int, indices: tuple[int, ...]
) -> None:
    """ONNX, Split-18: 'the last chunk will be smaller'."""
    names = outputs.split()
    nodes = [SOFTMAX, node("Split", "p", names, axis=1, num_outputs=len(names))]
    (step,) = head_of(nodes, ("N", len(indices)), opset=18, classes=classes).trail
    assert isinstance(step, Selected)
    assert step.indices == indices


NOT_PASSED = {
    "samples by Gather": ([node("Gather", "p i1", "y", axis=0)], (1, 4)),
    "samples by Gather from the back": ([node("Gather", "p i1", "y", axis=-2)], (1, 4)),
    "samples by Slice": ([node("Slice", "p i0 i1 i0", "y")], (1, 4)),
    "samples by Slice from the back": ([node("Slice", "p i0 i1 back", "y")], (1, 4)),
    "samples by Split": ([node("Split", "p sizes", "y a", axis=0)], (1, 4)),
    "samples and classes by Slice": ([node("Slice", "p start end both", "y")], (1, 2)),
    "classes that are computed": ([node("ArgMax", "p", "k"), node("Gather", "p k", "y", axis=1)], None),
    "Clip to what is computed": ([node("ReduceMean", "p", "m", keepdims=0), node("Clip", "p m", "y")], ("N", 4)),
    "Dropout in training": ([node("Dropout", "p ratio yes", "y")], ("N", 4)),
    "Cast to whole numbers": ([node("Cast", "p", "i", to=6), node("Cast", "i", "y", to=1)], ("N", 4)),
    "times 2": ([node("Mul", "p two", "y")], ("N", 4)),
    "plus 1": ([node("Add", "p one", "y")], ("N", 4)),
    "times itself": ([node("Mul", "p p", "y")], ("N", 4)),
    "1 over it": ([node("Div", "one p", "y")], ("N", 4)),
    "0 less it": ([node("Sub", "nil p", "y")], ("N", 4)),
    "Max": ([node("Max", "p nil", "y")], ("N", 4)),
    "Pad": ([node("Pad", "p pads", "y")], ("N", 5)),
    "TopK": ([node("TopK", "p i1", ["y", "k"])], ("N", 1)),
    "ReduceMax": ([node("ReduceMax", "p", "y", axes=[1])], ("N", 1)),
    "Tile": ([node("Tile", "p pads2", "y")], ("N", 8)),
}
MORE = {
    "back": ints(-2),
    "sizes": ints(1, 6),
    "start": ints(0, 1),
    "end": ints(1, 3),
    "ratio": np.float32(0.5),
    "yes": np.array(True),
    "pads": ints(0, 0, 0, 1),
    "pads2": ints(1, 2),
}


@pytest.mark.parametrize("what", NOT_PASSED)
def test_it_is_not_passed(what: str) -> None:
    nodes, shape = NOT_PASSED[what]
    read = {name for made in nodes for name in made.input}
    refuse(".", [SOFTMAX, *nodes], shape, {name: array for name, array in MORE.items() if name in read})


@pytest.mark.parametrize(("op", "number"), [("Mul", 1), ("Add", 0)])
def test_a_constant_that_repeats_values_along_a_new_axis_is_not_passed_in_silence(op: str, number: int) -> None:
    """1 · p is p, but (N, 4) times ones of (3, 1, 4) is (3, N, 4)."""
    model = behind_logits([SOFTMAX, node(op, "p c", "y")], (3, "N", 4), {"c": np.full((3, 1, 4), number, np.float32)})
    x = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    result, error = attempt(lambda: onnxcal.patch(model, temperature=2.0, data=x))
    assert error is None or "bug" not in error.message + error.hint
    assert result is None or result.verification.passed
