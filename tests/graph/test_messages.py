"""Messages that are made without `onnx.helper`, held against those that it makes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcal.graph.messages import SMALLEST_NORMAL, held, make_node, make_tensor, make_value_info, numbers_of

TYPES = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT16: np.float16,
    TensorProto.INT64: np.int64,
}


@pytest.mark.parametrize(
    "attributes", [{}, {"axis": -1}, {"perm": [0, 2, 1]}, {"starts": [1], "axes": [0], "ends": [2]}]
)
def test_a_node_is_the_one_of_the_helper(attributes: dict[str, Any]) -> None:
    expected = helper.make_node("Slice", ["a", ""], ["b"], name="n", **attributes)
    assert make_node("Slice", ["a", ""], ["b"], "n", **attributes).SerializeToString() == expected.SerializeToString()


@pytest.mark.parametrize("elem_type", TYPES)
@pytest.mark.parametrize("dims", [[1], [3], [4, 1, 1]])
@pytest.mark.parametrize("value", [1, 2, 1.7, 2.0**-14])
def test_a_tensor_is_the_one_of_the_helper(elem_type: int, dims: list[int], value: float) -> None:
    if elem_type == TensorProto.INT64:
        value = int(value)
    array = np.full(dims, value, TYPES[elem_type])
    expected = helper.make_tensor("t", elem_type, dims, array.tobytes(), raw=True)
    made = make_tensor("t", elem_type, dims, value)
    assert made.SerializeToString() == expected.SerializeToString()
    assert numbers_of(made) == tuple(array.reshape(-1).astype(np.float64))


@pytest.mark.parametrize("value", [1.0, 2.0**-23])
def test_a_bfloat16_number_reads_back(value: float) -> None:
    read = numpy_helper.to_array(make_tensor("t", TensorProto.BFLOAT16, [2], value))
    assert read.astype(np.float64).tolist() == [value, value]


@pytest.mark.parametrize("shape", [None, (), ("N", 4), (None, 3, "height")])
def test_a_type_is_the_one_of_the_helper(shape: Any) -> None:
    expected = helper.make_tensor_value_info("v", TensorProto.FLOAT, shape)
    assert make_value_info("v", TensorProto.FLOAT, shape).SerializeToString() == expected.SerializeToString()


@pytest.mark.parametrize("elem_type", SMALLEST_NORMAL)
def test_what_a_type_holds_is_what_numpy_says(elem_type: int) -> None:
    dtype = TYPES[elem_type]
    assert SMALLEST_NORMAL[elem_type] == np.finfo(dtype).tiny
    assert held(elem_type, 1.7) == float(dtype(1.7))
    if elem_type != TensorProto.DOUBLE:
        with pytest.raises(OverflowError):
            held(elem_type, 2 * float(np.finfo(dtype).max))


def test_a_tensor_of_another_form_has_no_numbers_here() -> None:
    assert numbers_of(TensorProto(data_type=TensorProto.STRING, string_data=[b"x"])) is None
    assert numbers_of(TensorProto(data_type=TensorProto.FLOAT, raw_data=b"abc")) is None
