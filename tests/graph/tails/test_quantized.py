"""8-bit activations and rounded probabilities: what is passed by, and what does not fit together."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from onnxcal.errors import ModelError
from onnxcal.graph.detect import find_head
from onnxcal.graph.head import Added, Fed, Head, Rounded
from onnxcal.graph.modelfile import open_model
from onnxcal.graph.tails import Hints
from tests.corpus.form import build, ints, node, value, weights
from tests.corpus.forms.quantized import MS, contrib, grid, quantized_activation

SCALES = grid("z", 0.0625, 0, "int8") | grid("p", 1 / 256, -128, "int8") | grid("other", 1 / 128, -128, "int8")


def head_of(*nodes: onnx.NodeProto, hints: Hints | None = None, shape: Any = ("N", 4), **constants: np.ndarray) -> Head:
    """x → MatMul → `z` → nodes → `y`."""
    all_constants = SCALES | {"w": weights(6, 4)} | constants
    read = {name for made in nodes for name in made.input} | {"w"}
    used = {name: array for name, array in all_constants.items() if name in read}
    body = [node("MatMul", "x w", "z"), *nodes]
    made = build(body, [value("x", ["N", 6])], [value("y", list(shape))], used, opset=13)
    return find_head(open_model(contrib(made)), None, hints)


SOFTMAX = node("Softmax", "z", "p")
QUANTIZE = node("QuantizeLinear", "p p_scale p_zero", "p8")


def test_the_grid_behind_the_softmax_is_kept_in_mind() -> None:
    head = head_of(SOFTMAX, QUANTIZE, node("DequantizeLinear", "p8 p_scale p_zero", "y"))
    assert head.site == Fed((1,), "p", single=True)
    assert head.trail == (Rounded(1 / 256, 0.0, 255 / 256),)


def test_logits_that_were_dequantised_are_said_to_be() -> None:
    nodes = [node("QuantizeLinear", "z z_scale z_zero", "z8"), node("DequantizeLinear", "z8 z_scale z_zero", "a")]
    head = head_of(*nodes, node("Softmax", "a", "y"))
    assert (head.logits, head.quantized, head.trail) == ("a", True, ())


GRIDS: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray]]] = {
    "another scale": ([QUANTIZE, node("DequantizeLinear", "p8 other_scale p_zero", "y")], {}),
    "another zero point": ([QUANTIZE, node("DequantizeLinear", "p8 p_scale z_zero", "y")], {}),
    "a scale a class": (
        [
            node("QuantizeLinear", "p scales zeros", "p8", axis=1),
            node("DequantizeLinear", "p8 scales zeros", "y", axis=1),
        ],
        {"scales": np.full(4, 1 / 256, np.float32), "zeros": np.full(4, -128, np.int8)},
    ),
    "a scale that is computed": (
        [
            node("ReduceMax", "p", "top", keepdims=0),
            node("QuantizeLinear", "p top p_zero", "p8"),
            node("DequantizeLinear", "p8 top p_zero", "y"),
        ],
        {},
    ),
    "8-bit numbers that are cast": (
        [
            QUANTIZE,
            node("Cast", "p8", "c", to=onnx.TensorProto.BOOL),
            node("Cast", "c", "t8", to=onnx.TensorProto.INT8),
            node("DequantizeLinear", "t8 p_scale p_zero", "y"),
        ],
        {},
    ),
    "a Transpose of 8-bit numbers": (
        [QUANTIZE, node("Transpose", "p8", "t8"), node("DequantizeLinear", "t8 p_scale p_zero", "y")],
        {},
    ),
}


@pytest.mark.parametrize("what", GRIDS)
def test_probabilities_on_a_grid_that_is_not_one_are_refused(what: str) -> None:
    nodes, constants = GRIDS[what]
    with pytest.raises(ModelError, match=r"[Qq]uantize"):
        head_of(SOFTMAX, *nodes, shape=(4, "N") if "Transpose" in what else ("N", 4), **constants)


def test_a_quantised_output_is_refused() -> None:
    """Whoever reads 8-bit numbers would have to be told of them."""
    made = build(
        [node("MatMul", "x w", "z"), SOFTMAX, QUANTIZE],
        [value("x", ["N", 6])],
        [onnx.helper.make_tensor_value_info("p8", onnx.TensorProto.INT8, ["N", 4])],
        {"w": weights(6, 4)} | grid("p", 1 / 256, -128, "int8"),
        opset=13,
    )
    with pytest.raises(ModelError, match="int8"):
        find_head(open_model(made))


# QLinearSoftmax and QLinearSigmoid


def activation_head(op: str, classes: int = 4, hints: Hints | None = None, **attributes: Any) -> Head:
    model = quantized_activation(op, classes=classes, dtype="int8", opset=13, **attributes)
    return find_head(open_model(model), None, hints)


def test_a_quantised_softmax_is_passed_by() -> None:
    model = quantized_activation("QLinearSoftmax", classes=4, dtype="int8", opset=13, axis=-1)
    model.graph.node[2].attribute.append(onnx.helper.make_attribute("opset", 13))
    head = find_head(open_model(model))
    assert (head.task, head.activation, head.logits, head.axis, head.num_classes) == (
        "multiclass",
        "softmax",
        "logits",
        1,
        4,
    )
    assert isinstance(head.site, Added)
    assert (head.site.target, head.site.material, head.site.node) == ("probs", "quantized", 2)
    assert head.dtype == "float32"


def test_a_quantised_sigmoid_is_passed_by() -> None:
    for classes, expected in ((1, ("binary", 2)), (4, ("multilabel", 4))):
        head = activation_head("QLinearSigmoid", classes)
        assert (head.task, head.num_classes) == expected
        assert isinstance(head.site, Added)
        assert (head.site.target, head.site.material, head.site.node) == ("probs", "quantized", 2)


@pytest.mark.parametrize(
    ("op", "task"), [("QLinearSoftmax", "binary"), ("QLinearSoftmax", "multilabel"), ("QLinearSigmoid", "multiclass")]
)
def test_a_task_that_it_cannot_have_is_refused(op: str, task: Any) -> None:
    with pytest.raises(ModelError, match=task):
        activation_head(op, hints=Hints(task=task))


def test_a_flattening_quantised_softmax_over_more_axes_is_refused() -> None:
    nodes = [
        node("Reshape", "z s", "a"),
        node("QuantizeLinear", "a z_scale z_zero", "a8"),
        node("QLinearSoftmax", "a8 z_scale z_zero p_scale p_zero", "p8", domain=MS, axis=1, opset=11),
        node("DequantizeLinear", "p8 p_scale p_zero", "y"),
    ]
    with pytest.raises(ModelError, match="opset 12") as error:
        head_of(*nodes, shape=("N", 2, 2), s=ints(-1, 2, 2))
    assert "nodes_to_exclude" in error.value.hint


def test_other_quantised_operators_are_no_activation() -> None:
    nodes = [
        node("QuantizeLinear", "z z_scale z_zero", "z8"),
        node("QLinearLeakyRelu", "z8 z_scale z_zero p_scale p_zero", "p8", domain=MS, alpha=0.1),
        node("DequantizeLinear", "p8 p_scale p_zero", "y"),
    ]
    with pytest.raises(ModelError, match="QLinearLeakyRelu"):
        head_of(*nodes)
