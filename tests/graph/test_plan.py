"""Plans: pure data about what is to change. That patched models compute the right thing is tested in tests/corpus."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxcal.calibrators.steps import Divide
from onnxcal.errors import ModelError
from onnxcal.graph.detect import find_head
from onnxcal.graph.modelfile import open_model
from onnxcal.graph.plan import HeadPatch, PatchPlan
from onnxcal.graph.planner import make_plan
from onnxcal.graph.view import GraphView
from tests.builders import classifier, softmax
from tests.corpus.form import build, node, value, weights


def plan_for(model: onnx.ModelProto, temperature: float = 2.0, **options) -> PatchPlan:
    file = open_model(model)
    return make_plan(GraphView(file), [HeadPatch(find_head(file), (Divide(temperature),), **options)])


def test_making_a_plan_changes_nothing() -> None:
    file = open_model(classifier([softmax()], output="probs"))
    before = file.skeleton.SerializeToString()
    make_plan(GraphView(file), [HeadPatch(find_head(file), (Divide(2.0),), "other", True)])
    assert file.skeleton.SerializeToString() == before


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_temperature_has_the_type_of_the_head(dtype: str) -> None:
    [tensor] = plan_for(classifier([softmax()], output="probs", dtype=dtype), 1.7).initializers
    array = numpy_helper.to_array(tensor)
    assert array.dtype == np.dtype(dtype)
    assert array.tolist() == [np.dtype(dtype).type(1.7)] * (4 if dtype == "float64" else 1)


def test_half_precision_is_divided_in_float32_and_cast_back() -> None:
    plan = plan_for(classifier([softmax()], output="probs", dtype="float16"), 1.7)
    assert numpy_helper.to_array(plan.initializers[0]).dtype == np.float32
    assert [i.node.op_type for i in plan.insertions] == ["Cast", "Div", "Cast"]


@pytest.mark.parametrize("ir_version", [3, 4])
def test_below_ir_4_the_temperature_is_a_constant_node(ir_version: int) -> None:
    plan = plan_for(classifier([softmax()], output="probs", opset=8, ir_version=ir_version))
    kinds = [i.node.op_type for i in plan.insertions]
    assert (kinds, len(plan.initializers)) == ((["Constant", "Div"], 0) if ir_version < 4 else (["Div"], 1))


@pytest.mark.parametrize(
    ("opset", "kinds"), [(12, ["Div", "Transpose", "Softmax", "Transpose"]), (13, ["Div", "Softmax"])]
)
def test_a_softmax_below_opset_13_acts_on_the_last_axis_only(opset: int, kinds: list[str]) -> None:
    model = build(
        [node("Conv", "x w", "logits")],
        [value("x", ["N", 3, 4, 5])],
        [value("logits", ["N", 4, 4, 5])],
        {"w": weights(4, 3, 1, 1)},
        opset=opset,
    )
    assert [i.node.op_type for i in plan_for(model).insertions] == kinds


def test_every_inserted_tensor_and_the_logits_are_declared() -> None:
    """As some converters for microcontrollers need it (design: the portable form of T)."""
    model = classifier([softmax()], output="probs")
    plan = plan_for(model)
    declared = {v.name for v in plan.value_infos} | {v.name for v in model.graph.value_info}
    assert {name for i in plan.insertions for name in i.node.output} <= declared
    assert "logits" in declared


@pytest.mark.parametrize("taken", ["x", "w", "logits", "fc"])
def test_an_output_name_that_is_taken_is_refused(taken: str) -> None:
    with pytest.raises(ModelError, match="taken"):
        plan_for(classifier([softmax()], output="probs"), output_name=taken)


def test_the_name_that_the_output_has_is_no_change() -> None:
    model = classifier([softmax()], output="probs")
    assert plan_for(model, output_name="probs").renamed_outputs in ((), ((0, "probs"),))


@pytest.mark.parametrize("temperature", [1e-320, 1e-39, 1e39])
def test_a_temperature_that_float32_cannot_hold_is_refused(temperature: float) -> None:
    with pytest.raises(ModelError, match="float32"):
        plan_for(classifier([softmax()], output="probs"), temperature)


@pytest.mark.parametrize("ir_version", [8, 9, 10, 11])
def test_every_node_says_who_made_it(ir_version: int) -> None:
    for insertion in plan_for(classifier(ir_version=ir_version)).insertions:
        tags = [p.key for p in insertion.node.metadata_props]
        assert tags == ["onnxcal.role"] if ir_version >= 10 else insertion.node.doc_string.startswith("onnxcal")
