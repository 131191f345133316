"""Outputs that hold logits: believed of linear operators only, and which axis counts classes."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcal.errors import ModelError
from onnxcal.graph.detect import find_head
from onnxcal.graph.modelfile import open_model
from onnxcal.graph.tails import Hints
from tests.corpus.form import build, ints, node, value, weights

IMAGE = value("x", ["N", 3, 4, 5])
KERNEL = {"k": weights(4, 3, 1, 1)}


def head_of(nodes, inputs, shape, constants=None, hints: Hints | None = None, opset: int = 13):
    return find_head(open_model(build(nodes, inputs, [value("y", shape)], constants, opset=opset)), None, hints)


LINEAR = {
    "MatMul": ([node("MatMul", "x w", "y")], ["N", 4]),
    "MatMul and bias": ([node("MatMul", "x w", "a"), node("Add", "a b", "y")], ["N", 4]),
    "bias first": ([node("MatMul", "x w", "a"), node("Add", "b a", "y")], ["N", 4]),
    "scaled": ([node("MatMul", "x w", "a"), node("Mul", "a b", "y")], ["N", 4]),
    "divided": ([node("MatMul", "x w", "a"), node("Div", "a b", "y")], ["N", 4]),
    "rectified": ([node("MatMul", "x w", "a"), node("Relu", "a", "y")], ["N", 4]),
    "two products": ([node("MatMul", "x w", "a"), node("MatMul", "x w", "c"), node("Add", "a c", "y")], ["N", 4]),
    "dropout": ([node("MatMul", "x w", "a"), node("Dropout", "a", "y")], ["N", 4]),
    "quantised": (
        [node("MatMul", "x w", "a"), node("QuantizeLinear", "a s z", "q"), node("DequantizeLinear", "q s z", "y")],
        ["N", 4],
    ),
    "scaled by a Constant of one number": (
        [node("Constant", [], "c", value_float=2.0), node("MatMul", "x w", "a"), node("Mul", "a c", "y")],
        ["N", 4],
    ),
    "bias that is dequantised": (
        [node("DequantizeLinear", "qb s", "bias"), node("MatMul", "x w", "a"), node("Add", "a bias", "y")],
        ["N", 4],
    ),
    "the last step": (
        [node("Unsqueeze", "x i1", "a"), node("MatMul", "a w", "c"), node("Gather", "c last", "y", axis=1)],
        ["N", 4],
    ),
    "one of several heads": (
        [node("MatMul", "x w9", "a"), node("Split", "a sizes", "y other", axis=1)],
        ["N", 4],
    ),
    "some columns": ([node("MatMul", "x w9", "a"), node("Slice", "a i1 five i1", "y")], ["N", 4]),
}
CONSTANTS = {
    "w": weights(6, 4),
    "w9": weights(6, 9),
    "i1": ints(1),
    "five": ints(5),
    "last": np.array(-1),
    "sizes": ints(4, 5),
    "b": np.array([1, 2, 3, 4], np.float32),
    "lo": np.float32(-9),
    "hi": np.float32(9),
    "s": np.float32(0.1),
    "z": np.int8(0),
    "qb": np.array([1, 2, 3, 4], np.int32),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear_ends_are_believed(name: str) -> None:
    nodes, shape = LINEAR[name]
    head = head_of(nodes, [value("x", ["N", 6])], shape, CONSTANTS)
    assert (head.activation, head.task, head.axis, head.num_classes) == ("none", "multiclass", 1, 4)


@pytest.mark.parametrize("op", ["Exp", "Tanh", "Sqrt", "HardSigmoid", "Softplus", "Log", "Abs", "Reciprocal"])
def test_other_ends_are_not(op: str) -> None:
    nodes = [node("MatMul", "x w", "a"), node(op, "a", "y")]
    with pytest.raises(ModelError, match=op):
        head_of(nodes, [value("x", ["N", 6])], ["N", 4], {"w": weights(6, 4)})


@pytest.mark.parametrize("op", ["Mul", "Div"])
def test_products_and_quotients_of_two_computed_tensors_are_not(op: str) -> None:
    nodes = [node("MatMul", "x w", "a"), node("Relu", "a", "c"), node(op, "a c", "y")]
    with pytest.raises(ModelError, match=op):
        head_of(nodes, [value("x", ["N", 6])], ["N", 4], {"w": weights(6, 4)})


def test_rows_of_a_table_are_not() -> None:
    """An embedding: weights that are looked up, not multiplied."""
    with pytest.raises(ModelError, match="Gather"):
        head_of([node("Gather", "w x", "y")], [value("x", ["N"], "int64")], ["N", 4], {"w": weights(6, 4)})


def test_a_constant_over_a_tensor_is_not() -> None:
    nodes = [node("MatMul", "x w", "a"), node("Div", "one a", "y")]
    with pytest.raises(ModelError, match="Div"):
        head_of(nodes, [value("x", ["N", 6])], ["N", 4], {"w": weights(6, 4), "one": np.ones(1, np.float32)})


def test_the_largest_score_alone_is_no_logit() -> None:
    """max over classes of the logits has one column, but no label 0 or 1 belongs to it."""
    nodes = [node("MatMul", "x w", "a"), node("ReduceMax", "a", "y", axes=[1], keepdims=0)]
    with pytest.raises(ModelError):
        head_of(nodes, [value("x", ["N", 6])], ["N"], {"w": weights(6, 4)})


AXES = {
    "convolution": ([node("Conv", "x k", "y")], ["N", 4, 4, 5], 1),
    "convolution, then channels last": (
        [node("Conv", "x k", "a"), node("Transpose", "a", "y", perm=[0, 2, 3, 1])],
        ["N", 4, 5, 4],
        3,
    ),
    "convolution, channels last and back": (
        [
            node("Conv", "x k", "a"),
            node("Transpose", "a", "b", perm=[0, 2, 3, 1]),
            node("Relu", "b", "c"),
            node("Transpose", "c", "y", perm=[0, 3, 1, 2]),
        ],
        ["N", 4, 4, 5],
        1,
    ),
    "product over the last axis": ([node("MatMul", "x w5", "y")], ["N", 3, 4, 2], 3),
    "product, then classes second": (
        [node("MatMul", "x w5", "a"), node("Transpose", "a", "y", perm=[0, 3, 1, 2])],
        ["N", 2, 3, 4],
        1,
    ),
    "product with the weights on the left": ([node("MatMul", "w8 x", "y")], ["N", 3, 8, 5], 2),
    "product with the weights on the left, then classes last": (
        [node("MatMul", "w8 x", "a"), node("Transpose", "a", "y", perm=[0, 1, 3, 2])],
        ["N", 3, 5, 8],
        3,
    ),
    "convolution, pooled": ([node("Conv", "x k", "a"), node("GlobalAveragePool", "a", "y")], ["N", 4, 1, 1], 1),
}


@pytest.mark.parametrize("name", AXES)
def test_the_operator_tells_the_class_axis(name: str) -> None:
    nodes, shape, axis = AXES[name]
    assert head_of(nodes, [IMAGE], shape, KERNEL | {"w5": weights(5, 2), "w8": weights(8, 4)}).axis == axis


TWO_AXES = {
    "weights on the left": ([node("MatMul", "u x", "y")], [4, "N"], 0),
    "weights on the left, in a Gemm": ([node("Gemm", "u x b", "y")], [4, "N"], 0),
    "weights on the left, then samples first": ([node("MatMul", "u x", "a"), node("Transpose", "a", "y")], ["N", 4], 1),
    "weights on the right": ([node("Transpose", "x", "a"), node("Gemm", "a w", "y")], ["N", 4], 1),
    "weights on the right, then classes first": (
        [node("Transpose", "x", "a"), node("MatMul", "a w", "c"), node("Transpose", "c", "y")],
        [4, "N"],
        0,
    ),
}


@pytest.mark.parametrize("name", TWO_AXES)
def test_of_two_axes_too(name: str) -> None:
    nodes, shape, axis = TWO_AXES[name]
    constants = {"u": weights(4, 6), "w": weights(6, 4), "b": weights(4, 1)}
    head = head_of(nodes, [value("x", [6, "N"])], shape, constants)
    assert (head.task, head.axis, head.num_classes) == ("multiclass", axis, 4)


def test_a_product_of_two_computed_tensors_does_not_tell_the_class_axis() -> None:
    """Queries by keys: either may count classes."""
    for shape, order in ((["N", 3, 5], [0, 2, 1]), (["N", 7, 3, 5], [0, 1, 3, 2])):
        nodes = [node("MatMul", "x w5", "q"), node("Transpose", "q", "k", perm=order), node("MatMul", "q k", "y")]
        inputs, constants = [value("x", shape)], {"w5": weights(5, 2)}
        with pytest.raises(ModelError, match="nothing says which axis counts classes") as caught:
            head_of(nodes, inputs, [*shape[:-1], 3], constants)
        assert "--axis" in (caught.value.hint or "")
        assert head_of(nodes, inputs, [*shape[:-1], 3], constants, Hints(axis=-1)).axis == len(shape) - 1


@pytest.mark.parametrize(("hints", "axis"), [(Hints(axis=3), 3), (Hints(axis=-1), 3), (Hints(axis=2), 2)])
def test_the_user_may_say_the_axis(hints: Hints, axis: int) -> None:
    assert head_of([node("Conv", "x k", "y")], [IMAGE], ["N", 4, 4, 5], KERNEL, hints).axis == axis


@pytest.mark.parametrize("shape", [["N"], ["N", 1]])
def test_one_logit_a_sample_is_binary(shape: list) -> None:
    nodes = [node("MatMul", "x w", "a"), node("Reshape", "a s", "y")]
    constants = {"w": weights(6, 1), "s": ints(*([-1] if len(shape) == 1 else [-1, 1]))}
    head = head_of(nodes, [value("x", ["N", 6])], shape, constants)
    assert (head.task, head.num_classes) == ("binary", 2)
    with pytest.raises(ModelError, match="binary"):
        head_of(nodes, [value("x", ["N", 6])], shape, constants, Hints(task="multiclass"))
