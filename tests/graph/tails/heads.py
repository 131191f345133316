"""What detection says of a few nodes behind a linear layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest

from onnxcal.errors import ModelError
from onnxcal.graph.detect import find_head
from onnxcal.graph.head import Head
from onnxcal.graph.modelfile import open_model
from onnxcal.graph.tails import Hints
from tests.corpus.form import Shape, build, ints, node, value, weights

CONSTANTS = {
    "v": weights(6, 4, seed=3),
    "nil": np.float32([0]),
    "one": np.float32([1]),
    "two": np.float32([2]),
    "minus": np.float32([-1]),
    "i0": ints(0),
    "i1": ints(1),
    "both": ints(0, 1),
}
"""What the nodes may read."""


def behind_logits(
    nodes: Sequence[onnx.NodeProto],
    shape: Shape = ("N", 4),
    constants: Mapping[str, np.ndarray] | None = None,
    *,
    classes: int = 4,
    opset: int = 17,
    dtype: str = "float32",
) -> onnx.ModelProto:
    """x → MatMul → `z` → nodes → `y`."""
    read = {name for made in nodes for name in made.input}
    used = {name: array for name, array in CONSTANTS.items() if name in read} | dict(constants or {})
    if "v" in used:
        used["v"] = weights(6, classes, seed=3)
    body = [node("MatMul", "x w", "z"), *nodes]
    output = value("y", None if shape is None else list(shape), dtype)
    return build(body, [value("x", ["N", 6])], [output], {"w": weights(6, classes)} | used, opset=opset)


def head_of(*args: object, hints: Hints | None = None, **kwargs: object) -> Head:
    """The head of `behind_logits`."""
    return find_head(open_model(behind_logits(*args, **kwargs)), None, hints)  # type: ignore[arg-type]


def refuse(match: str, *args: object, hints: Hints | None = None, **kwargs: object) -> None:
    """It is refused."""
    with pytest.raises(ModelError, match=match):
        head_of(*args, hints=hints, **kwargs)


def told(head: Head) -> tuple[str, str, str, int, int | None]:
    """What matters of a head."""
    return head.task, head.activation, head.logits, head.axis, head.num_classes
