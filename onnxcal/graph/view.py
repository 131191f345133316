"""`GraphView`: who makes and who reads each tensor of the main graph, and its type. Only looks, never changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from onnxcal.graph.modelfile import ModelFile

FLOAT_NAMES: dict[int, str] = {
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
}


DTYPE_NAMES: dict[int, str] = {
    number: FLOAT_NAMES.get(number, name.lower())  # DataType spells all but FLOAT and DOUBLE as NumPy does
    for name, number in TensorProto.DataType.items()
}


_ALIKE = frozenset(
    {"Identity", "Cast", "Softmax", "LogSoftmax", "Sigmoid", "Relu", "Clip", "Dropout", "Exp", "Log", "Neg"}
    | {"Normalizer", "QuantizeLinear", "DequantizeLinear", "QLinearSoftmax", "QLinearSigmoid"}
)
"""Operators whose output has the shape of their first input."""
_SCORES = frozenset({"LinearClassifier", "TreeEnsembleClassifier", "SVMClassifier"})
"""Operators of ai.onnx.ml that give labels, and scores with one column a class."""
_REGRESSORS = frozenset({"LinearRegressor", "TreeEnsembleRegressor", "SVMRegressor", "ArrayFeatureExtractor"})
"""Operators of ai.onnx.ml that give one column a target, or some columns of a matrix."""


_CRASH_INFERENCE = frozenset({"LabelEncoder", "TreeEnsemble", "DictVectorizer", "RegexFullMatch"})
"""Operators at which onnx.shape_inference ends the process where the type of their input is not known (onnx 1.23)."""


@dataclass(frozen=True)
class TensorType:
    """What is known of a tensor before running the model."""

    elem_type: int
    """`TensorProto.DataType`; 0 if unknown."""
    shape: tuple[int | str | None, ...] | None
    """Dimensions: a size, a symbol, or None; None as a whole where the rank is unknown."""

    @property
    def rank(self) -> int | None:
        """Number of axes."""
        return None if self.shape is None else len(self.shape)

    def size(self, axis: int) -> int | None:
        """The size of an axis where it is a known, positive number."""
        if self.shape is None or not -len(self.shape) <= axis < len(self.shape):
            return None
        size = self.shape[axis]
        return size if isinstance(size, int) and size > 0 else None


class GraphView:
    """The main graph of a model, indexed by tensor name."""

    def __init__(self, model: ModelFile) -> None:
        self.model = model
        self.graph = self._make_graph(model)
        self.opset = model.opset() or 1
        self.producers: dict[str, int] = {}
        for index, node in enumerate(self.graph.node):
            for name in node.output:
                if name:
                    self.producers.setdefault(name, index)

    def _make_graph(self, model: ModelFile) -> onnx.GraphProto:
        return model.graph

    def producer(self, tensor: str) -> tuple[int, onnx.NodeProto] | None:
        """The node that makes a tensor, with its position; None for inputs and initializers."""
        index = self.producers.get(tensor)
        return None if index is None else (index, self.graph.node[index])

    def type_of(self, tensor: str) -> TensorType:
        """Element type and shape, declared or inferred."""
        return self._types.get(tensor, TensorType(0, None))

    def constant(self, tensor: str) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None:
        """The value of a small initializer or Constant; None if it is no constant, or too large for the skeleton."""
        proto = self._constants.get(tensor)
        if proto is None or proto.data_location == TensorProto.EXTERNAL:
            return None
        try:
            return numpy_helper.to_array(proto)
        except (ValueError, TypeError):  # its payload was left out of the skeleton
            return None

    def is_declared(self, tensor: str) -> bool:
        """Whether the model itself says the type of a tensor."""
        return any(v.name == tensor for v in (*self.graph.value_info, *self.graph.output, *self.graph.input))

    def is_constant(self, tensor: str) -> bool:
        """Whether a tensor is an initializer, or computed from nothing but initializers and Constant nodes."""
        pending, seen = [tensor], set[str]()
        while pending:
            name = pending.pop()
            if name in seen or name in self._initializers:
                continue
            seen.add(name)
            producer = self.producer(name)
            if producer is None or (producer[1].op_type != "Constant" and not producer[1].input):
                return False
            pending += [source for source in _reads(producer[1]) if source]
        return True

    def readers(self, tensor: str) -> list[int]:
        """Positions of the nodes that read a tensor, directly or from inside a subgraph."""
        return [index for index, node in enumerate(self.graph.node) if tensor in set(_reads(node))]

    def depend_on(self, tensors: Iterable[str]) -> set[str]:
        """Every tensor that is computed from one of `tensors`, these included."""
        reached = set(tensors)
        grown = True
        while grown:  # once for graphs in order, again for those that are not
            grown = False
            for node in self.graph.node:
                if not reached.issuperset(node.output) and not reached.isdisjoint(_reads(node)):
                    reached.update(name for name in node.output if name)
                    grown = True
        return reached

    def names(self) -> set[str]:
        """Every tensor and node name in the model, subgraphs included."""
        taken = self._initializers | {value.name for value in (*self.graph.input, *self.graph.output)}
        taken |= {value.name for value in self.graph.value_info}
        _collect_names(self.graph, taken)
        return taken

    @cached_property
    def _initializers(self) -> set[str]:
        dense = {tensor.name for tensor in self.graph.initializer}
        return dense | {sparse.values.name for sparse in self.graph.sparse_initializer}

    @cached_property
    def _constants(self) -> dict[str, onnx.TensorProto]:
        constants = {tensor.name: tensor for tensor in self.graph.initializer}
        for node in self.graph.node:
            if node.op_type == "Constant" and node.output:
                for attribute in node.attribute:
                    tensor = _constant_tensor(attribute)
                    if tensor is not None:
                        constants[node.output[0]] = tensor
        return constants

    @cached_property
    def _types(self) -> dict[str, TensorType]:
        try:
            graph = onnx.shape_inference.infer_shapes(self._to_infer(), data_prop=True).graph
        except Exception:  # the checker's and the inferrer's errors have no common base; declared types will do
            graph = self.graph
        types = {tensor.name: TensorType(tensor.data_type, tuple(tensor.dims)) for tensor in self.graph.initializer}
        values: list[onnx.ValueInfoProto] = [*graph.value_info, *graph.output, *graph.input]
        for value in values:
            if value.type.HasField("tensor_type"):
                types[value.name] = _tensor_type(value.type.tensor_type)
        self._complete(types)
        return types

    def _as_wide_as(self, node: onnx.NodeProto) -> Iterator[str]:
        """The input of an elementwise operator whose shape its output has, as the other is a single number."""
        if node.op_type in ("Add", "Sub", "Mul", "Div") and len(node.input) == 2:
            for name, other in ((node.input[0], node.input[1]), (node.input[1], node.input[0])):
                number = self.constant(other)
                if number is not None and number.ndim == 0:
                    yield name

    def _sorted(self) -> list[int] | None:
        """Positions of the nodes so that each comes behind what it reads; None if they stand so."""
        order: dict[int, None] = {}
        entered = set[int]()
        for root in range(len(self.graph.node)):
            pending = [root]
            while pending:
                index = pending[-1]
                if index not in entered:
                    entered.add(index)
                    reads = (self.producers.get(name) for name in _reads(self.graph.node[index]))
                    pending += [made for made in reads if made is not None and made not in entered]
                else:
                    order.setdefault(pending.pop())
        return None if list(order) == sorted(order) else list(order)

    def _to_infer(self) -> onnx.ModelProto:
        """The model with this graph, and `ai.onnx` spelled as the empty string, all that shape inference knows."""
        skeleton = self.model.skeleton
        crashing = any(node.op_type in _CRASH_INFERENCE for node in self.graph.node)
        respelled = any(entry.domain == "ai.onnx" for entry in skeleton.opset_import)
        order = self._sorted()
        if self.graph is skeleton.graph and not respelled and not crashing and order is None:
            return skeleton
        copy = onnx.ModelProto()
        copy.CopyFrom(skeleton)
        copy.graph.CopyFrom(self.graph)
        nodes = [self.graph.node[index] for index in order or range(len(self.graph.node))]
        del copy.graph.node[:]
        copy.graph.node.extend(node for node in nodes if node.op_type not in _CRASH_INFERENCE)
        for entry in copy.opset_import:
            entry.domain = "" if entry.domain == "ai.onnx" else entry.domain
        for node in copy.graph.node:
            node.domain = "" if node.domain == "ai.onnx" else node.domain
        return copy

    def _complete(self, types: dict[str, TensorType]) -> None:
        """Shapes that inference leaves open: it knows no ai.onnx.ml operator, and never looks back from an output."""
        unknown = TensorType(0, None)
        alike = [node for node in self.graph.node if node.op_type in _ALIKE and node.input and node.output]
        for node in self.graph.node:
            if node.op_type in _SCORES and len(node.output) > 1 and types.get(node.output[1], unknown).shape is None:
                labels = sum(len(a.ints) + len(a.strings) for a in node.attribute if a.name.startswith("classlabels"))
                types[node.output[1]] = TensorType(TensorProto.FLOAT, (None, labels or None))
            elif node.op_type == "TreeEnsemble" and types.get(node.output[0], unknown).shape is None:
                weights = next((a.t.data_type for a in node.attribute if a.name == "leaf_weights"), TensorProto.FLOAT)
                targets = next((a.i for a in node.attribute if a.name == "n_targets"), None)
                types[node.output[0]] = TensorType(weights, (None, targets))
            elif node.op_type in _REGRESSORS and types.get(node.output[0], unknown).shape is None:
                single = 1 if node.op_type.endswith("Regressor") else None
                targets = next((a.i for a in node.attribute if a.name in ("targets", "n_targets")), single)
                types[node.output[0]] = TensorType(TensorProto.FLOAT, (None, targets))
        pairs = [(node, node.input[0], node.output[0]) for node in alike]
        pairs += [(node, name, node.output[0]) for node in self.graph.node for name in self._as_wide_as(node)]
        for node, source, target in (*pairs, *reversed(pairs)):
            for known, open_ in ((source, target), (target, source)):
                shape, old = types.get(known, unknown).shape, types.get(open_, unknown)
                if shape is not None and old.shape is None:
                    elem_type = types[known].elem_type if node.op_type != "Cast" else 0
                    types[open_] = TensorType(old.elem_type or elem_type, shape)


def _constant_tensor(attribute: onnx.AttributeProto) -> onnx.TensorProto | None:
    """The value of a Constant, in whichever of its attributes it is; None for strings and sparse tensors."""
    if attribute.name == "value":
        return attribute.t
    values = {
        "value_float": (attribute.f, np.float32),
        "value_floats": (attribute.floats, np.float32),
        "value_int": (attribute.i, np.int64),
        "value_ints": (attribute.ints, np.int64),
    }
    if attribute.name not in values:
        return None
    value, dtype = values[attribute.name]
    return numpy_helper.from_array(np.array(value, dtype))


def _tensor_type(proto: onnx.TypeProto.Tensor) -> TensorType:
    if not proto.HasField("shape"):
        return TensorType(proto.elem_type, None)
    sizes: list[int | str | None] = []
    for dim in proto.shape.dim:
        if dim.HasField("dim_value") and dim.dim_value >= 0:
            sizes.append(dim.dim_value)
        else:
            sizes.append(dim.dim_param or None if isinstance(dim.dim_param, str) else None)
    return TensorType(proto.elem_type, tuple(sizes))


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Tensors of the enclosing graph that a node reads, from inside its subgraphs too."""
    yield from node.input
    for graph in _subgraphs(node):
        own = defined_in(graph)
        for inner in graph.node:
            yield from (name for name in _reads(inner) if name not in own)


def defined_in(graph: onnx.GraphProto) -> set[str]:
    """Tensors that a subgraph makes itself; those hide outer ones of the same name."""
    inputs = {value.name for value in graph.input}
    initializers = {tensor.name for tensor in graph.initializer}
    return inputs | initializers | {name for node in graph.node for name in node.output}


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _collect_names(graph: onnx.GraphProto, taken: set[str]) -> None:
    for node in graph.node:
        taken.add(node.name)
        taken.update(node.input)
        taken.update(node.output)
        for inner in _subgraphs(node):
            taken.update(value.name for value in (*inner.input, *inner.output))
            taken.update(tensor.name for tensor in inner.initializer)
            _collect_names(inner, taken)
