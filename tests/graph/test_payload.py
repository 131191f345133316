"""Numbers of tensors, read and written in every place and type that they may be in."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcal.graph.modelfile import open_model
from onnxcal.graph.payload import held, rounded, scaled_constant, scaled_initializer, tensor_values, values_in

NUMPY = {
    TensorProto.BFLOAT16: ml_dtypes.bfloat16,
    TensorProto.FLOAT16: np.float16,
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
}
VALUES = np.concatenate(
    [
        np.random.default_rng(0).normal(size=500) * 10.0 ** np.random.default_rng(1).integers(-9, 9, 500),
        [0.0, -0.0, np.inf, -np.inf, np.nan, 65504.0, 65520.0, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-11, 3.4e38],
    ]
)


@pytest.mark.parametrize("elem_type", NUMPY)
def test_numbers_are_rounded_as_numpy_and_ml_dtypes_round_them(elem_type: int) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        expected = VALUES.astype(np.float32).astype(NUMPY[elem_type]) if elem_type == TensorProto.BFLOAT16 else (
            VALUES.astype(NUMPY[elem_type])
        )  # fmt: skip
    raw = rounded(VALUES, elem_type)
    back = values_in(raw, TensorProto(data_type=elem_type, dims=VALUES.shape))
    np.testing.assert_array_equal(back, expected.astype(np.float64))


def test_what_loses_digits_is_not_held() -> None:
    assert held(np.array([6.2e-5]), TensorProto.FLOAT16) is not None
    for value in (6e-5, 1e-9, 7e4):
        assert held(np.array([value]), TensorProto.FLOAT16) is None


def in_typed_field(name: str, elem_type: int, values: list[float]) -> onnx.TensorProto:
    return helper.make_tensor(name, elem_type, [len(values)], values)


def in_model(*tensors: onnx.TensorProto, nodes: tuple[onnx.NodeProto, ...] = ()) -> onnx.ModelProto:
    graph = helper.make_graph([*nodes, helper.make_node("Identity", ["x"], ["y"])], "g", [], [], list(tensors))
    return helper.make_model(graph)


@pytest.mark.parametrize("elem_type", NUMPY)
def test_numbers_are_read_from_raw_and_typed_fields(elem_type: int) -> None:
    values = [1.5, -2.0, 0.25]
    raw = helper.make_tensor("r", elem_type, [3], np.array(values).astype(NUMPY[elem_type]).tobytes(), raw=True)
    file = open_model(in_model(in_typed_field("t", elem_type, values), raw))
    for name in ("t", "r"):
        np.testing.assert_array_equal(tensor_values(file, name), values)


@pytest.mark.parametrize("attribute", ["value", "value_float", "value_floats"])
def test_numbers_of_a_constant_are_read_and_replaced(attribute: str) -> None:
    value = {
        "value": numpy_helper.from_array(np.array([1.5], np.float32)),
        "value_float": 1.5,
        "value_floats": [1.5],
    }[attribute]
    node = helper.make_node("Constant", [], ["c"], name="kept", **{attribute: value})
    file = open_model(in_model(nodes=(node,)))
    np.testing.assert_array_equal(tensor_values(file, "c").ravel(), [1.5])
    record = scaled_constant(node.SerializeToString(), np.float32([3]).tobytes())
    changed = onnx.NodeProto.FromString(record)
    assert changed.name == "kept"
    assert changed.SerializeToString() == record  # what reads and writes it leaves it as it is
    np.testing.assert_array_equal(tensor_values(open_model(in_model(nodes=(changed,))), "c").ravel(), [3])


def test_a_record_keeps_all_but_its_numbers() -> None:
    tensor = in_typed_field("t", TensorProto.FLOAT, [1.0, 2.0])
    tensor.doc_string = "kept"
    unknown = b"\xfa\x3f\x03abc"  # a field that onnx does not know
    record = tensor.SerializeToString() + unknown
    changed = scaled_initializer(record, np.float32([3, 4]).tobytes())
    parsed = onnx.TensorProto.FromString(changed)
    assert (parsed.name, list(parsed.dims), parsed.doc_string) == ("t", [2], "kept")
    np.testing.assert_array_equal(numpy_helper.to_array(parsed), [3, 4])
    assert changed.endswith(unknown)
