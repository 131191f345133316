"""`inspect`: what is said of a model, patched or not, without running it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from onnx import helper

import onnxcal
from tests.builders import classifier, save, softmax
from tests.corpus.form import Form, build, node, value, weights
from tests.corpus.forms import FORMS


@pytest.mark.parametrize("form", [form for form in FORMS if not form.options], ids=str)
def test_the_head_of_each_form_is_listed_first_before_and_after_patching(form: Form) -> None:
    before = onnxcal.inspect(form.model)
    assert form.output in [head.output for head in before.heads]
    assert before.calibration is None
    after = onnxcal.inspect(onnxcal.patch(form.model, temperature=2.5, **form.options).proto)
    assert after.calibration.temperature == 2.5
    head = next(head for head in after.heads if head.output == form.output)
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


def test_outputs_that_are_no_heads_are_explained() -> None:
    nodes = [softmax(), node("ArgMax", "logits", "label", axis=1)]
    model = classifier(nodes, output="probs", more_outputs=[value("label", ["N", 1], "int64")])
    found = onnxcal.inspect(model)
    assert [head.output for head in found.heads] == ["probs"]
    assert any("'label'" in warning for warning in found.warnings)


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
