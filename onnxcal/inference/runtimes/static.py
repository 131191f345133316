"""A model in one piece, and for fixed input shapes: for what is compiled rather than interpreted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx.external_data_helper import load_external_data_for_model


def with_weights(model: Path) -> onnx.ModelProto:
    """The model with its external data in it."""
    proto = onnx.ModelProto.FromString(model.read_bytes())
    load_external_data_for_model(proto, str(model.parent))
    return proto


def with_shapes(model: Path, shapes: Mapping[str, tuple[int, ...]]) -> onnx.ModelProto:
    """The model with its external data, all inputs of the given shapes, and other shapes as they follow.

    A size that has a name in an input has the same value wherever it is named.
    """
    proto = with_weights(model)
    sizes: dict[str, int] = {}
    for value in proto.graph.input:
        if value.name in shapes:
            shape = value.type.tensor_type.shape
            while len(shape.dim) < len(shapes[value.name]):
                shape.dim.add()
            for dim, size in zip(shape.dim, shapes[value.name], strict=True):
                if dim.dim_param:
                    sizes[dim.dim_param] = size
                dim.dim_value = size
    for value in (*proto.graph.output, *proto.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]
            elif dim.dim_value < 0:  # as some converters write what they do not know
                dim.Clear()
    try:
        return onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception:  # of no common type; what is declared must do then
        return proto
