"""Operators that only move, cast, clip or requantise values, as between a head's activation and its output."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx.onnx_ml_pb2 import TensorProto

from onnxcal.graph.head import Clipped, Narrowed, Rounded, Selected, TrailStep, Transposed
from onnxcal.graph.types import FLOAT_NAMES
from onnxcal.graph.view import GraphView

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

DEFAULT_DOMAINS = ("", "ai.onnx")
KEEPS_ORDER = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "CastLike", "Dropout"})
_MANY_COLUMNS = 1 << 20
MOVES_VALUES = KEEPS_ORDER | {"Transpose"}


@dataclass(frozen=True)
class Trail:
    """What was passed on the way back from an output."""

    tensor: str
    """Where the way ends: the first tensor that something else makes."""
    steps: tuple[TrailStep, ...]
    """From that tensor to the output."""
    keys: tuple[str | int, ...] | None = None
    """Class labels of a ZipMap at the output."""


def moves_values(view: GraphView, node: onnx.NodeProto) -> bool:
    """Whether a node's first output holds its first input's values: in another shape, order, or float type."""
    if node.domain not in DEFAULT_DOMAINS or node.op_type not in MOVES_VALUES or not node.input:
        return False
    if node.op_type == "Cast":
        return any(a.name == "to" and a.i in FLOAT_NAMES for a in node.attribute)
    if node.op_type == "CastLike":
        return view.type_of(node.output[0]).elem_type in FLOAT_NAMES
    return node.op_type != "Dropout" or not _drops(view, node)


def walk_back(view: GraphView, output: str) -> Trail | None:
    """The way back from an output past every node that moves, clips or requantises values; None if it is a circle."""
    steps: list[TrailStep] = []
    keys: tuple[str | int, ...] | None = None
    tensor = output
    for _ in range(len(view.graph.node) + 1):
        producer = view.producer(tensor)
        if producer is None or not producer[1].input:
            return Trail(tensor, tuple(steps), keys)
        node = producer[1]
        if node.op_type == "ZipMap" and tensor == output:
            keys = tuple(label_values(node))
            tensor = node.input[0]
            continue
        passed = _pass(view, node, tensor)
        if passed is None:
            return Trail(tensor, tuple(steps), keys)
        tensor, step = passed
        if step is not None:
            steps.insert(0, step)
    return None


def source_of(view: GraphView, tensor: str) -> str:
    """The tensor whose values another one holds, past nodes that keep values in order, or repeat them along axes."""
    for _ in range(len(view.graph.node)):
        producer = view.producer(tensor)
        if producer is None or producer[1].op_type == "Transpose":
            return tensor
        if not moves_values(view, producer[1]) and (
            producer[1].op_type != "Expand" or producer[1].domain not in DEFAULT_DOMAINS
        ):
            return tensor
        tensor = producer[1].input[0]
    return tensor


def precision_of(view: GraphView, tensor: str, dtype: str) -> str:
    """The coarsest float type that a tensor's values have been in, as far as casts tell."""
    for _ in range(len(view.graph.node)):
        producer = view.producer(tensor)
        if producer is None or not moves_values(view, producer[1]):
            return dtype
        tensor = producer[1].input[0]
        dtype = coarser(dtype, FLOAT_NAMES.get(view.type_of(tensor).elem_type, dtype))
    return dtype


def coarser(one: str, other: str) -> str:
    """The float type with the fewer bits of precision."""
    order = [FLOAT_NAMES[elem_type] for elem_type in _COARSE]
    return min(one, other, key=order.index)


def label_values(node: onnx.NodeProto) -> Iterator[str | int]:
    """Class labels that an ai.onnx.ml operator carries."""
    for attribute in node.attribute:
        if attribute.name.startswith(("classlabels_int64s", "classlabels_ints")):
            yield from attribute.ints
        elif attribute.name == "classlabels_strings":
            yield from (text.decode(errors="replace") for text in attribute.strings)


def _pass(view: GraphView, node: onnx.NodeProto, tensor: str) -> tuple[str, TrailStep | None] | None:
    """Where one node takes its values from, and what it does to them; None if that is not understood."""
    if moves_values(view, node):
        if node.op_type != "Transpose":
            before, after = view.type_of(node.input[0]).elem_type, view.type_of(tensor).elem_type
            narrower = after in _COARSE and _COARSE.index(after) < _COARSE.index(
                before if before in _COARSE else _WIDEST
            )
            return node.input[0], Narrowed(FLOAT_NAMES[after]) if narrower else None
        order = next((tuple(a.ints) for a in node.attribute if a.name == "perm"), None)
        return node.input[0], Transposed(node.input[0], order)
    neutral = _NEUTRAL.get(node.op_type) if node.domain in DEFAULT_DOMAINS else None
    if neutral is not None:  # how some converters name an output
        if is_number(view, node.input[1], neutral):
            return node.input[0], None
        if node.op_type in ("Mul", "Add") and is_number(view, node.input[0], neutral):
            return node.input[1], None
    special = _PASSES.get(node.op_type)
    if special is None or (node.domain not in DEFAULT_DOMAINS and node.op_type not in _ANY_DOMAIN):
        return None
    return special(view, node, tensor)


def _clip(view: GraphView, node: onnx.NodeProto, tensor: str) -> tuple[str, TrailStep] | None:
    bounds: list[float] = []
    for position, name, default in ((1, "min", -math.inf), (2, "max", math.inf)):
        bound = next((a.f for a in node.attribute if a.name == name), default)
        if len(node.input) > position and node.input[position]:
            constant = view.constant(node.input[position])
            if constant is None or constant.size != 1:
                return None
            bound = float(constant.reshape(-1)[0])
        bounds.append(bound)
    return node.input[0], Clipped(*bounds)


def _relu(view: GraphView, node: onnx.NodeProto, tensor: str) -> tuple[str, TrailStep] | None:
    return node.input[0], Clipped(0.0, math.inf)


def _dequantize(view: GraphView, node: onnx.NodeProto, tensor: str) -> tuple[str, TrailStep] | None:
    """A QuantizeLinear and a DequantizeLinear, with casts and moves that keep the order between them."""
    inner = node.input[0]
    for _ in range(len(view.graph.node)):
        producer = view.producer(inner)
        if producer is None:
            return None
        if producer[1].op_type == "QuantizeLinear":
            break
        if producer[1].op_type not in KEEPS_ORDER - {"Cast", "CastLike"}:
            return None
        inner = producer[1].input[0]
    else:
        return None
    quantize = producer[1]
    grid = quantized_grid(view, node)
    if grid is None or quantized_grid(view, quantize) != grid:
        return None
    return quantize.input[0], Rounded(*grid)


def quantized_grid(view: GraphView, node: onnx.NodeProto) -> tuple[float, float, float] | None:
    """Scale, smallest and largest value of a per-tensor QuantizeLinear or DequantizeLinear."""
    scale = view.constant(node.input[1]) if len(node.input) > 1 else None
    if scale is None or scale.size != 1:
        return None
    zero: NDArray[Any] = np.zeros(1, np.uint8)
    if len(node.input) > 2 and node.input[2]:
        found = view.constant(node.input[2])
        if found is None or found.size != 1 or found.dtype.kind not in "iu":
            return None
        zero = found
    step, offset, limits = float(scale.reshape(-1)[0]), int(zero.reshape(-1)[0]), np.iinfo(zero.dtype)
    return step, (int(limits.min) - offset) * step, (int(limits.max) - offset) * step


def _gather(view: GraphView, node: onnx.NodeProto, tensor: str) -> tuple[str, TrailStep] | None:
    axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
    return _selected(view, node.input[0], axis, view.constant(node.input[1]))


def _feature_extractor(view: GraphView, node: onnx.NodeProto, tensor: str) -> tuple[str, TrailStep] | None:
    return _selected(view, node.input[0], -1, view.constant(node.input[1]))


def _slice(view: GraphView, node: onnx.NodeProto, tensor: str) -> tuple[str, TrailStep] | None:
    given = {a.name: list(a.ints) for a in node.attribute}
    for position, name in ((1, "starts"), (2, "ends"), (3, "axes"), (4, "steps")):
        if len(node.input) > position and node.input[position]:
            constant = view.constant(node.input[position])
            if constant is None:
                return None
            given[name] = [int(i) for i in constant.reshape(-1)]
    starts, ends = given.get("starts", []), given.get("ends", [])
    axes = given.get("axes", list(range(len(starts))))
    if len(starts) != 1 or len(ends) != 1 or len(axes) != 1:
        return None
    size = view.type_of(node.input[0]).size(axes[0])
    if size is None:  # of an ai.onnx.ml operator's scores, one column a time
        if not 0 <= starts[0] < ends[0] <= _MANY_COLUMNS or given.get("steps", [1]) != [1]:
            return None
        size = ends[0]
    indices = np.arange(size)[slice(starts[0], ends[0], given.get("steps", [1])[0])]
    return _selected(view, node.input[0], axes[0], indices)


def _split(view: GraphView, node: onnx.NodeProto, tensor: str) -> tuple[str, TrailStep] | None:
    axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
    size = view.type_of(node.input[0]).size(axis)
    sizes = next((list(a.ints) for a in node.attribute if a.name == "split"), None)
    if len(node.input) > 1 and node.input[1]:
        constant = view.constant(node.input[1])
        sizes = None if constant is None else [int(i) for i in constant.reshape(-1)]
        if sizes is None:
            return None
    if sizes is None:
        parts = len(node.output)
        if size is None:
            return None
        each = -(-size // parts)
        sizes = [min(each, size - each * i) for i in range(parts)]
    position = list(node.output).index(tensor)
    start = sum(sizes[:position])
    return _selected(view, node.input[0], axis, np.arange(start, start + sizes[position]))


def _selected(
    view: GraphView, source: str, axis: int, indices: np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None
) -> tuple[str, TrailStep] | None:
    if indices is None or indices.dtype.kind not in "iu":
        return None
    rank = view.type_of(source).rank
    if rank != 1 and axis in (0, None if rank is None else -rank):  # selects samples, not classes
        return None
    return source, Selected(source, axis, tuple(int(i) for i in indices.reshape(-1)))


_PASSES: dict[str, Callable[[GraphView, onnx.NodeProto, str], tuple[str, TrailStep] | None]] = {
    "Clip": _clip,
    "Relu": _relu,
    "DequantizeLinear": _dequantize,
    "Gather": _gather,
    "ArrayFeatureExtractor": _feature_extractor,
    "Slice": _slice,
    "Split": _split,
}
_WIDEST = TensorProto.DOUBLE
_COARSE: list[int] = [TensorProto.BFLOAT16, TensorProto.FLOAT16, TensorProto.FLOAT, _WIDEST]
"""Float types, the coarsest first."""
_NEUTRAL = {"Mul": 1.0, "Div": 1.0, "Add": 0.0, "Sub": 0.0}
_ANY_DOMAIN = frozenset({"ArrayFeatureExtractor", "DequantizeLinear"})


def is_number(view: GraphView, tensor: str, number: float) -> bool:
    """Whether a tensor is a constant with this value everywhere."""
    value = view.constant(tensor)
    return value is not None and value.size > 0 and bool((value == number).all())


def _drops(view: GraphView, node: onnx.NodeProto) -> bool:
    """Whether a Dropout is in training mode."""
    if len(node.input) < 3 or not node.input[2]:
        return False
    training = view.constant(node.input[2])
    return training is None or bool(training.any())
