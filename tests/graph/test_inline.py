"""Heads whose activation is in a local function."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.inliner
import pytest
from onnx import helper, numpy_helper

import onnxcal
from onnxcal.errors import ModelError
from tests.builders import labelled_data

W = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
CALL = {"domain": "local"}


def function(name: str, inputs: list[str], nodes: list[onnx.NodeProto], **kwargs: object) -> onnx.FunctionProto:
    return helper.make_function("local", name, inputs, ["p"], nodes, kwargs.pop("opsets", OPSETS), **kwargs)


SOFTMAX = function("Act", ["z"], [helper.make_node("Softmax", ["z"], ["p"], axis=-1)])
PIECES = function(
    "Act",
    ["z"],
    [
        helper.make_node("ReduceMax", ["z"], ["m"], axes=[1]),
        helper.make_node("Sub", ["z", "m"], ["d"]),
        helper.make_node("Exp", ["d"], ["e"]),
        helper.make_node("Constant", [], ["one"], value_ints=[1]),
        helper.make_node("ReduceSum", ["e", "one"], ["t"]),
        helper.make_node("Div", ["e", "t"], ["p"]),
    ],
)
NESTED = function(
    "Outer", ["z"], [helper.make_node("Act", ["z"], ["q"], **CALL), helper.make_node("Identity", ["q"], ["p"])]
)
REFERENCE = onnx.AttributeProto(name="axis", type=onnx.AttributeProto.INT, ref_attr_name="along")
BY_REFERENCE = function("Act", ["z"], [helper.make_node("Softmax", ["z"], ["p"])], attributes=["along"])
BY_REFERENCE.node[0].attribute.append(REFERENCE)


def model(nodes: list[onnx.NodeProto], functions: list[onnx.FunctionProto]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "calls",
        [helper.make_tensor_value_info("x", 1, ["N", 6])],
        [helper.make_tensor_value_info("probs", 1, ["N", 4])],
        [numpy_helper.from_array(W, "w")],
    )
    made = helper.make_model(graph, opset_imports=OPSETS, functions=functions)
    made.ir_version = 8
    return made


def called(name: str, *functions: onnx.FunctionProto, **attributes: int) -> onnx.ModelProto:
    linear = helper.make_node("MatMul", ["x", "w"], ["logits"])
    return model([linear, helper.make_node(name, ["logits"], ["probs"], **CALL, **attributes)], list(functions))


CALLED = {
    "softmax": called("Act", SOFTMAX),
    "pieces": called("Act", PIECES),
    "nested": called("Outer", NESTED, SOFTMAX),
    "attribute by reference": called("Act", BY_REFERENCE, along=1),
}


@pytest.mark.parametrize("name", CALLED)
def test_an_activation_in_a_function_is_calibrated_at_its_call(name: str) -> None:
    x, y = labelled_data()
    before = CALLED[name]
    result = onnxcal.calibrate(before, (x, y))
    assert (result.head.logits, result.head.task, result.head.activation) == ("logits", "multiclass", "softmax")
    assert result.verification.passed
    assert result.proto is not None
    assert result.proto.functions == before.functions
    assert [n.op_type for n in result.proto.graph.node if n.domain == ""] == ["MatMul", "Div"]
    inlined = onnxcal.calibrate(onnx.inliner.inline_local_functions(before), (x, y))
    assert result.calibration.temperature == pytest.approx(inlined.calibration.temperature, rel=1e-9)


def test_a_body_in_a_function_does_not_keep_its_softmax_from_being_fed() -> None:
    body = function("Body", ["x", "w"], [helper.make_node("MatMul", ["x", "w"], ["p"])])
    nodes = [
        helper.make_node("Body", ["x", "w"], ["logits"], **CALL),
        helper.make_node("Softmax", ["logits"], ["probs"]),
    ]
    assert onnxcal.calibrate(model(nodes, [body]), labelled_data()).head.logits == "logits"


def test_logits_inside_a_function_are_refused_with_the_command_that_inlines_it() -> None:
    whole = function(
        "Head", ["x", "w"], [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Softmax", ["z"], ["p"])]
    )
    with pytest.raises(ModelError, match="inside the local function Head") as caught:
        onnxcal.patch(model([helper.make_node("Head", ["x", "w"], ["probs"], **CALL)], [whole]), temperature=2.0)
    assert "inline_local_functions" in (caught.value.hint or "")


def test_logits_that_the_function_reads_for_more_than_its_activation_are_refused() -> None:
    gated = function(
        "Act",
        ["z"],
        [
            helper.make_node("Softmax", ["z"], ["q"]),
            helper.make_node("ReduceMax", ["z"], ["m"], axes=[1]),
            helper.make_node("Identity", ["m"], ["unused"]),
            helper.make_node("Identity", ["q"], ["p"]),
        ],
    )
    with pytest.raises(ModelError, match="Act, which reads its logits 'logits' for something else") as caught:
        onnxcal.patch(called("Act", gated), temperature=2.0)
    assert "inline_local_functions" in (caught.value.hint or "")


def test_raw_logits_that_a_function_passes_on_beside_its_probabilities_are_not_taken_for_the_head() -> None:
    both = function("Act", ["z"], [helper.make_node("Softmax", ["z"], ["p"]), helper.make_node("Abs", ["z"], ["raw"])])
    both.output.append("raw")
    made = called("Act", both)
    made.graph.node[1].output.append("raw")
    made.graph.output.append(helper.make_tensor_value_info("raw", 1, ["N", 4]))
    for head in (None, "probs"):
        with pytest.raises(ModelError, match=r"'probs'.* reads its logits 'logits' for something else"):
            onnxcal.patch(made, temperature=2.0, head=head)
    inlined = onnx.inliner.inline_local_functions(made)
    result = onnxcal.calibrate(inlined, labelled_data(), head="probs")
    assert result.verification.passed
    assert not any("'raw'" in warning for warning in result.warnings)


def test_a_function_of_another_operator_set_is_not_looked_into() -> None:
    old = function("Act", ["z"], [helper.make_node("Softmax", ["z"], ["p"])], opsets=[helper.make_opsetid("", 12)])
    with pytest.raises(ModelError, match="local function Act, which has"):
        onnxcal.patch(called("Act", old), temperature=2.0)
