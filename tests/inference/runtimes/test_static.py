"""A model with fixed shapes, for what is compiled."""

from __future__ import annotations

from pathlib import Path

from onnxcal.inference.runtimes.static import with_shapes
from tests import builders


def test_sizes_below_zero_are_unknown_and_follow_from_the_inputs(tmp_path: Path) -> None:
    """Some converters write -1 for a batch of any size."""
    model = builders.classifier([builders.softmax()], output="probs", batch=-1)
    fixed = with_shapes(builders.save(model, tmp_path / "m.onnx"), {"x": (3, 6)})
    for value, shape in ((fixed.graph.input[0], [3, 6]), (fixed.graph.output[0], [3, 4])):
        assert [dim.dim_value for dim in value.type.tensor_type.shape.dim] == shape
