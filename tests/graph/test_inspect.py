"""`inspect`: what is said of a model, patched or not, without running it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

import onnxcal
from onnxcal.graph.detect import find_head
from onnxcal.graph.inspect import about
from onnxcal.graph.modelfile import open_model
from onnxcal.graph.tails import Hints
from tests.builders import classifier, save, softmax
from tests.corpus.form import Form, build, ints, node, value, weights
from tests.corpus.forms import FORMS


@pytest.mark.parametrize("form", [form for form in FORMS if not form.options], ids=str)
def test_the_head_of_each_form_is_listed_first_before_and_after_patching(form: Form) -> None:
    before = onnxcal.inspect(form.model)
    assert form.output in [head.output for head in before.heads]
    assert before.calibration is None
    after = onnxcal.inspect(onnxcal.patch(form.model, temperature=2.5, **form.options).proto)
    assert after.calibration.temperature == 2.5
    head, way = next(pair for pair in zip(after.heads, after.ways, strict=True) if pair[0].output == form.output)
    planned = next(way for way in before.ways if way is not None and way.output == form.output)
    assert (planned.temperature, way.temperature) == (None, 2.5)
    assert [operator for stage in way.stages for operator in stage.operators] == [
        operator for stage in planned.stages for operator in stage.operators
    ]
    assert (way.makers, way.holds, way.beside) == (planned.makers, planned.holds, planned.beside)
    if form.activation != "none":
        assert (head.task, head.activation, head.axis) == (form.task, form.activation, form.axis)
    else:
        assert head.activation == ("softmax" if form.task == "multiclass" else "sigmoid")


def test_inputs_opsets_and_digest(tmp_path: Path) -> None:
    model = build(
        [node("MatMul", "x w", "logits"), softmax()],
        [value("x", ["N", 6]), value("k", [], "int64"), value("any", None, "float16")],
        [value("probs", ["N", 4])],
        {"w": weights(6, 4)},
        opset=8,
        ir_version=3,
    )
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    path = save(model, tmp_path / "m.onnx")
    found = onnxcal.inspect(path)
    assert [(i.name, i.dtype, i.shape) for i in found.inputs] == [
        ("x", "float32", ("N", 6)),
        ("k", "int64", ()),
        ("any", "float16", None),
    ]
    assert dict(found.opset) == {"ai.onnx": 8, "com.microsoft": 1}
    assert (found.ir_version, found.nodes) == (3, 2)
    assert found.model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_labels_are_listed_beside_the_heads() -> None:
    nodes = [softmax(), node("ArgMax", "logits", "label", axis=1)]
    model = classifier(nodes, output="probs", more_outputs=[value("label", ["N", 1], "int64")])
    found = onnxcal.inspect(model)
    assert [head.output for head in found.heads] == ["probs"]
    assert [(other.name, other.dtype, other.shape) for other in found.others] == [("label", "int64", ("N", 1))]
    assert found.warnings == ()


@pytest.mark.parametrize("opset", [1, 6, None])
def test_models_that_cannot_be_patched_are_still_described(opset: int | None) -> None:
    model = classifier([softmax()], output="probs", opset=opset or 7, ir_version=3)
    if opset is None:
        del model.opset_import[:]
    assert onnxcal.inspect(model).inputs[0].name == "x"


def test_every_head_of_a_model_with_two_calibrations_is_told() -> None:
    nodes = [softmax(), node("Sigmoid", "logits", "s")]
    model = classifier(nodes, output="probs", more_outputs=[value("s", ["N", 4])])
    once = onnxcal.patch(model, temperature=2, head="s").proto
    twice = onnxcal.patch(once, temperature=3, head="probs").proto
    assert [c.temperature for c in onnxcal.inspect(twice).calibrations] == [2, 3]


def warnings_of(model: onnx.ModelProto, **hints: Any) -> str:
    """What is said of the head that `hints` lead to."""
    return "; ".join(about(find_head(open_model(model), hints=Hints(**hints))))


@pytest.mark.parametrize(
    ("activation", "words"),
    [
        ("softmax", "'probs' holds probabilities whose logits cannot be reached: log-probabilities are calibrated"),
        ("sigmoid", "'probs' holds probabilities whose logits cannot be reached: the logarithms of their odds"),
    ],
)
def test_probabilities_without_logits_are_told(activation: str, words: str) -> None:
    model = classifier([node("Erf", "logits", "probs")], output="probs")
    assert words in warnings_of(model, activation=activation)


def test_margins_are_said_to_be_binary() -> None:
    model = build(
        [node("MatMul", "x w", "s"), node("Neg", "s", "n"), node("Concat", "n s", "scores", axis=1)],
        [value("x", ["N", 6])],
        [value("scores", ["N", 2])],
        {"w": weights(6, 1)},
    )
    assert "'scores' holds margins [-s, s]: they are read as the binary probability sigmoid(s)" in warnings_of(model)
    assert "margins" in "; ".join(onnxcal.inspect(model).warnings)


def test_an_8_bit_activation_is_said_to_be_passed_by() -> None:
    form = next(form for form in FORMS if not form.options and "QLinearSoftmax" in str(form.data()))
    assert "the 8-bit softmax of" in warnings_of(form.model)


DOUBLED = {
    "softmax": ([softmax("logits", "p"), softmax("p", "probs")], True),
    "softmax of a sigmoid": ([node("Sigmoid", "logits", "p"), softmax("p", "probs")], True),
    "log-softmax of a softmax that is moved": (
        [softmax("logits", "p"), node("Identity", "p", "q"), node("LogSoftmax", "q", "probs")],
        True,
    ),
    "softmax of a log-softmax": ([node("LogSoftmax", "logits", "p"), softmax("p", "probs")], False),
    "softmax of logits": ([softmax("logits", "probs")], False),
}


@pytest.mark.parametrize("what", DOUBLED)
def test_an_activation_of_probabilities_is_told(what: str) -> None:
    """A softmax of log-probabilities is those probabilities, and no double one."""
    nodes, doubled = DOUBLED[what]
    model = classifier(nodes, output="probs")
    for warnings in (onnxcal.inspect(model).warnings, onnxcal.patch(model, temperature=2.0).warnings):
        assert any("reads probabilities already" in warning for warning in warnings) == doubled


def test_a_flattening_softmax_is_told() -> None:
    model = build(
        [node("Mul", "x scale", "logits"), softmax()],
        [value("x", ["N", 2, 3])],
        [value("probs", ["N", 2, 3])],
        {"scale": weights(2, 3)},
        opset=11,
    )
    assert "normalises over all axes from 1 on together" in warnings_of(model)


def columns(*shown: int, of: int = 3) -> onnx.ModelProto:
    """An output for each of some classes, as sklearn-onnx makes with `zipmap="columns"`."""
    nodes = [node("MatMul", "x w", "logits"), softmax()]
    nodes += [node("Gather", f"probs i{c}", f"p{c}", axis=1) for c in shown]
    constants = {"w": weights(6, of)} | {f"i{c}": ints(c) for c in shown}
    return build(nodes, [value("x", ["N", 6])], [value(f"p{c}", ["N", 1]) for c in shown], constants)


def test_outputs_that_show_one_head_are_told_once() -> None:
    found = onnxcal.inspect(columns(0, 1, 2))
    assert [head.output for head in found.heads] == ["p0"]
    assert found.warnings == ("'p1', 'p2' show the same head as 'p0': what calibrates one calibrates all",)


def test_an_output_with_some_of_the_classes_says_so() -> None:
    found = onnxcal.inspect(columns(2))
    assert found.warnings == about(found.heads[0])
    assert "'p2' shows class 2 of 3" in found.warnings[0]


def test_a_usual_head_has_nothing_unusual() -> None:
    assert warnings_of(classifier([softmax()], output="probs")) == ""
    assert warnings_of(classifier()) == ""


def test_a_head_that_no_patch_fits_is_listed_with_the_reason() -> None:
    """Below opset 8 there is no Max to keep logarithms of probabilities finite."""
    labels = {"classlabels_int64s": [0, 1], "class_treeids": [0, 0], "class_nodeids": [0, 0], "class_ids": [0, 1]}
    leaf = {f"nodes_{name}": [0] for name in ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids")} | {
        "nodes_values": [0.0],
        "nodes_modes": ["LEAF"],
        "class_weights": [0.25, 0.75],
    }
    forest = node("TreeEnsembleClassifier", "x", "label probs", domain="ai.onnx.ml", **labels, **leaf)
    outputs = [value("label", ["N"], "int64"), value("probs", ["N", 2])]
    model = build([forest, node("Identity", "x", "y")], [value("x", ["N", 2])], outputs, opset=7)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    found = onnxcal.inspect(model)
    assert [head.output for head in found.heads] == ["probs"]
    assert found.ways == (None,)
    assert "opset 7 has no Max" in "; ".join(found.warnings)


def test_logits_that_a_head_reads_are_not_called_unused() -> None:
    dense = build(
        [node("MatMul", "x w", "logits"), softmax(axis=2)],
        [value("x", ["N", "T", 6])],
        [value("logits", ["N", "T", 4]), value("probs", ["N", "T", 4])],
        {"w": weights(6, 4)},
    )
    found = onnxcal.inspect(dense)
    assert [head.output for head in found.heads] == ["probs"]
    assert found.warnings == ()
    assert found.ways[0] is not None
    assert found.ways[0].beside == ("output 'logits'",)


def test_a_head_of_a_patched_model_that_is_not_calibrated_shows_what_would_be() -> None:
    nodes = [softmax(), node("Sigmoid", "logits", "s")]
    model = classifier(nodes, output="probs", more_outputs=[value("s", ["N", 4])])
    found = onnxcal.inspect(onnxcal.patch(model, temperature=2, head="s").proto)
    assert {way.output: way.temperature for way in found.ways if way is not None} == {"probs": None, "s": 2.0}


def test_the_way_of_a_long_graph_is_found_from_its_end() -> None:
    """Every head once through the graph at most: no recursion, no walk for each node."""
    nodes = [node("Relu", f"r{i}", f"r{i + 1}") for i in range(3000)]
    made = [node("MatMul", "x w", "r0"), *nodes, node("Softmax", "r3000", "probs")]
    model = build(made, [value("x", ["N", 6])], [value("probs", ["N", 4])], {"w": weights(6, 4)})
    (way,) = onnxcal.inspect(model).ways
    assert way is not None
    assert (way.makers, way.tensor) == (("Relu",), "r3000")
