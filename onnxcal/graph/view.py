"""`GraphView`: who makes and who reads each tensor of the main graph, and its type. Only looks, never changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from onnx.onnx_ml_pb2 import TensorProto

from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.types import TensorType, infer_types

if TYPE_CHECKING:
    import onnx


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
        from onnx import numpy_helper

        proto = self.constant_tensor(tensor)
        if proto is None or proto.data_location == TensorProto.EXTERNAL:
            return None
        try:
            return numpy_helper.to_array(proto)
        except (ValueError, TypeError):  # its payload was left out of the skeleton
            return None

    def constant_tensor(self, tensor: str) -> onnx.TensorProto | None:
        """A small initializer or Constant as it stands in the skeleton; None if it is no constant."""
        return self._constants.get(tensor)

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
        return infer_types(self.model, self.graph, self._sorted(), self.constant)

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
    from onnx import numpy_helper

    return numpy_helper.from_array(np.array(value, dtype))


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
