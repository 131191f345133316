"""What lies before the probabilities stays as it is, although an activation in pieces reads it too."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

import onnxcal
from onnxcal.errors import ModelError
from onnxcal.graph.detect import find_head
from onnxcal.graph.head import Fed
from onnxcal.graph.modelfile import open_model
from tests.corpus.form import build, ints, node, value, weights
from tests.reference.likelihood import best_temperature, pairs

X = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
W = weights(6, 1)
LABELS = (np.random.default_rng(1).random(300) < 1 / (1 + np.exp(-(X @ W)[:, 0] / 2.5))).astype(np.int64)


def beside(other: str, nodes: list[onnx.NodeProto], classes: int = 1, dtype: str = "float32") -> onnx.ModelProto:
    """x → MatMul → `z` → nodes → `p`, and one more output."""
    body = [node("MatMul", "x w", "z"), *nodes]
    constants = {"w": weights(6, classes), "one": np.float32([1]), "three": np.float32([3]), "i1": ints(1)}
    read = {name for made in body for name in made.input}
    outputs = [value("p", None), value(other, None, dtype)]
    used = {name: array for name, array in constants.items() if name in read}
    return build(body, [value("x", ["N", 6])], outputs, used)


MINUS = node("Neg", "z", "n")
MARGINS = [MINUS, node("Concat", "n z", "margins", axis=1)]
SIGMOID = [MINUS, node("Exp", "n", "e"), node("Add", "e one", "d"), node("Div", "one d", "p")]
SOFTMAX = [node("Exp", "z", "e"), node("ReduceSum", "e i1", "t"), node("Div", "e t", "p")]
SHARED = {
    "minus z, in a sigmoid": (1, [*SIGMOID, node("Mul", "n three", "other")]),
    "exp(-z), in a sigmoid": (1, [*SIGMOID, node("Mul", "e three", "other")]),
    "the exponential": (4, [*SOFTMAX, node("Mul", "e three", "other")]),
    "the sum": (4, [*SOFTMAX, node("Log", "t", "other")]),
    "minus z, beside sigmoids of both signs": (
        1,
        [
            MINUS,
            node("Sigmoid", "n", "q"),
            node("Sigmoid", "z", "r"),
            node("Concat", "q r", "p", axis=1),
            node("Identity", "n", "other"),
        ],
    ),
    "a condition": (1, [*SIGMOID, node("Greater", "n three", "other")]),
}


@pytest.mark.parametrize("what", SHARED)
def test_pieces_that_another_output_reads_too_are_not_calibrated(what: str) -> None:
    """Feeding them calibrated logits would change that output."""
    classes, nodes = SHARED[what]
    file = open_model(beside("other", nodes, classes, "bool" if what == "a condition" else "float32"))
    for asked in ("p", None):
        with pytest.raises(ModelError, match=r"'p'.* shares pieces of its activation with output 'other'") as caught:
            find_head(file, asked)
        assert "'other'" in (caught.value.hint or "")
    inspection = onnxcal.inspect(onnx.ModelProto.FromString(file.to_bytes()))
    assert inspection.heads == ()
    assert any("shares pieces" in warning for warning in inspection.warnings)


def test_other_probabilities_of_the_same_pieces_are_calibrated_with_them() -> None:
    """σ(−z) is an output too: it is 1 − p, and no value before the probabilities."""
    nodes = [MINUS, node("Sigmoid", "n", "q"), node("Sigmoid", "z", "r"), node("Concat", "q r", "p", axis=1)]
    assert find_head(open_model(beside("q", nodes)), "p").site == Fed((1, 3), "r", single=False)


@pytest.mark.parametrize("dead_end", [node("Mul", "e three", "nowhere"), node("ArgMax", "e", "label", axis=1)])
def test_pieces_that_lead_to_nothing_else_or_only_to_labels_are_calibrated(dead_end: onnx.NodeProto) -> None:
    other, dtype = ("label", "int64") if dead_end.op_type == "ArgMax" else ("z", "float32")
    assert find_head(open_model(beside(other, [*SOFTMAX, dead_end], 4, dtype)), "p").logits == "z"


@pytest.mark.parametrize("other", ["d", "m", "best", "copy"])
def test_a_difference_that_is_read_elsewhere_is_what_is_calibrated(other: str) -> None:
    """As are the logits where the maximum that was subtracted is."""
    nodes = [node("ReduceMax", "z", "m", axes=[1]), node("Sub", "z m", "d"), node("Exp", "d", "e"), *SOFTMAX[1:]]
    more = {"best": node("Relu", "m", "best"), "copy": node("Abs", "d", "copy")}
    head = find_head(open_model(beside(other, [*nodes, *([more[other]] if other in more else [])], 4)), "p")
    assert (head.logits, head.site) == ("d", Fed((3,), "p", single=False))


def outputs(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": X}), strict=True))


@pytest.mark.parametrize("other", ["margins", "decision", "n", "least"])
def test_margins_that_something_else_reads_stay_and_their_sigmoid_is_calibrated(other: str) -> None:
    more = [node("Identity", "margins", "decision"), node("ReduceMin", "margins", "least", axes=[1])]
    model = beside(other, [*MARGINS, node("Sigmoid", "margins", "p"), *more])
    result = onnxcal.calibrate(model, (X, LABELS), head="p", no_holdout=True)
    z = (X.astype(np.float64) @ W.astype(np.float64))[:, 0]
    assert result.calibration.temperature == pytest.approx(best_temperature(*pairs(z, LABELS)), rel=1e-5)
    assert result.warnings == ()
    assert result.proto is not None
    before, after = outputs(model), outputs(result.proto)
    assert before[other].tobytes() == after[other].tobytes()
    p = 1 / (1 + np.exp(-z / result.calibration.temperature))
    np.testing.assert_allclose(after["p"], np.stack([1 - p, p], axis=1), atol=1e-6)


def test_what_reads_raw_logits_that_are_the_output_is_not_said_to_change() -> None:
    """It keeps reading them raw."""
    model = beside("other", [node("Identity", "z", "p"), node("Exp", "p", "other")], 4)
    result = onnxcal.patch(model, temperature=2.0, head="p")
    assert result.warnings == ()
    assert result.proto is not None
    assert outputs(model)["other"].tobytes() == outputs(result.proto)["other"].tobytes()
