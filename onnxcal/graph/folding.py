"""Where 1/T can go without a node of its own: the constants of the last linear operators before a head's logits.

Only names are worked out here; `payload.py` divides the numbers. From the logits the way is followed back through
operators f with f(x/T) = f(x)/T, to operators that are linear in one of their constants.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnxcal.errors import ModelError
from onnxcal.graph.head import Added, Fed, Head
from onnxcal.graph.moves import DEFAULT_DOMAINS, moves_values
from onnxcal.graph.plan import Rename, Scaling
from onnxcal.graph.types import FLOAT_NAMES
from onnxcal.graph.view import GraphView

if TYPE_CHECKING:
    import onnx

_PASSES = frozenset({"Neg", "Relu", "LeakyRelu", "Gather", "Slice", "Expand", "ReduceMean", "ReduceSum"}) | frozenset(
    {"AveragePool", "GlobalAveragePool", "MaxPool", "GlobalMaxPool"}
)
"""Operators with f(x/T) = f(x)/T for T > 0, in their first input."""
_SUMS = frozenset({"Add", "Sub", "Sum", "Concat"})
"""Operators with f(x/T, y/T, …) = f(x, y, …)/T."""
_LINEAR: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "Gemm": ((1, 0), (2,)),
    "MatMul": ((1, 0), ()),
    "Conv": ((1,), (2,)),
    "ConvTranspose": ((1,), (2,)),
    "BatchNormalization": ((1,), (2,)),
    "DequantizeLinear": ((1,), ()),
    "com.microsoft.DequantizeLinear": ((1,), ()),
    "com.microsoft.FusedMatMul": ((1, 0), ()),
    "com.microsoft.DynamicQuantizeMatMul": ((2,), (4,)),
    "com.microsoft.MatMulIntegerToFloat": ((3, 2), (6,)),
}
"""Operators that are linear in one of some inputs (the first of them that is constant) together with others."""
_INDIFFERENT = frozenset({"ArgMax", "ArgMin", "Shape", "Size"})
"""Operators to which a positive factor makes no difference."""
_HINT = "leave out --fold: a division costs next to nothing"


@dataclass(frozen=True)
class Folding:
    """How 1/T gets into the weights of a head."""

    scalings: tuple[Scaling, ...]
    """Constants to divide."""
    renames: tuple[Rename, ...]
    """Nodes that read a copy from now on."""


@dataclass(frozen=True)
class _Use:
    """A constant as one node reads it."""

    tensor: str
    reader: int
    inverse: bool
    """Whether it is to be multiplied by T, for it divides."""


def folding_of(view: GraphView, head: Head, temperature: float, fresh: Callable[[str], str]) -> Folding:
    """What has to be divided by T, so that the logits of a head are.

    Parameters
    ----------
    view : the unpatched model.
    temperature : T.
    fresh : gives a name that nothing else has.

    Raises
    ------
    ModelError
        The logits do not come out of an operator that is linear in its weights, or something else reads them.
    """
    if isinstance(head.site, Added) and head.site.material != "logits":
        raise _refused(view, head, f"its logits are not there as a tensor, but as {_MATERIALS[head.site.material]}")
    search = _Search(view, head)
    search.logits()
    scalings, renames = [], []
    groups: dict[tuple[str, bool], list[int]] = {}
    for use in search.uses:
        groups.setdefault((use.tensor, use.inverse), []).append(use.reader)
    for (tensor, inverse), readers in groups.items():
        alone = set(view.readers(tensor)) == set(readers) and not _is_output(view, tensor)
        copy = None if alone else fresh(f"{tensor}_folded")
        divisor = 1 / temperature if inverse else temperature
        scalings.append(Scaling(tensor, divisor, head.precision, copy, min(readers)))
        if copy is not None:
            renames += [Rename(reader, "input", tensor, copy) for reader in sorted(set(readers))]
    return Folding(tuple(scalings), tuple(renames))


def overridable(view: GraphView, scalings: Collection[Scaling]) -> list[Scaling]:
    """Those of constants that are listed as inputs as well, so that a caller may feed others instead."""
    listed = {value.name for value in view.graph.input}
    return [scaling for scaling in scalings if scaling.tensor in listed]


_MATERIALS = {
    "probabilities": "probabilities",
    "quantized": "8-bit numbers that an 8-bit activation reads",
    "scores": "scores inside an ai.onnx.ml operator",
}


class _Search:
    """The way back from a head's logits to constants."""

    def __init__(self, view: GraphView, head: Head) -> None:
        self.view, self.head = view, head
        self.uses: list[_Use] = []

    def logits(self) -> None:
        """Start from the logits, which only the activation and labels may read."""
        view, head, site = self.view, self.head, self.head.site
        start = head.logits
        activation = set(site.readers) if isinstance(site, Fed) else self._way(start)
        for node in (view.graph.node[i] for i in view.readers(start) if i not in activation):
            if not _is_indifferent(node):
                raise self.refused(f"'{start}' is read by {node.op_type} as well, which wants raw logits")
        if _is_output(view, start) and start != head.output:
            raise self.refused(f"its raw logits '{start}' are an output of their own")
        self._made(start, False)

    def _way(self, start: str) -> set[int]:
        """The nodes behind the logits that only lead to the output."""
        behind = self.view.depend_on([start])
        return {
            index
            for index in self.view.readers(start)
            if start != self.head.output
            and self.head.output in behind & self.view.depend_on(self.view.graph.node[index].output)
        }

    def _scale(self, tensor: str, reader: int, inverse: bool) -> None:
        """Let a node read a tensor that is divided by T (`inverse`: multiplied)."""
        view, node = self.view, self.view.graph.node[reader]
        if list(node.input).count(tensor) > 1:
            raise self.refused(f"{node.op_type} reads '{tensor}' twice")
        producer = view.producer(tensor)
        if producer is None or producer[1].op_type == "Constant":
            self._check_constant(tensor)
            self.uses.append(_Use(tensor, reader, inverse))
            return
        others = (view.graph.node[i] for i in view.readers(tensor) if i != reader)
        if not all(map(_is_indifferent, others)) or _is_output(view, tensor):
            raise self.refused(f"'{tensor}', which they are made of, is read by something else as well")
        self._made(tensor, inverse)

    def _made(self, tensor: str, inverse: bool) -> None:
        """Divide what the node that makes a tensor reads."""
        producer = self.view.producer(tensor)
        if producer is None:
            raise self.refused(f"'{tensor}' is an input of the model")
        index, node = producer
        op = node.op_type if node.domain in DEFAULT_DOMAINS else f"{node.domain}.{node.op_type}"
        if op != "Dropout" and sum(map(bool, node.output)) > 1:
            raise self.refused(f"{op}, which makes '{tensor}', has other results too")
        if op in _PASSES or moves_values(self.view, node):
            self._scale(node.input[0], index, inverse)
        elif op in _SUMS:
            for name in node.input:
                self._scale(name, index, inverse)
        elif op == "Mul":
            self._factor(node, index, inverse)
        elif op == "Div":
            over = node.input[1]
            if self.view.is_constant(over):
                self._scale(over, index, not inverse)
            else:
                self._scale(node.input[0], index, inverse)
        elif op in _LINEAR:
            self._linear(op, node, index, inverse)
        else:
            raise self.refused(f"'{tensor}' is made by {op}, which is not linear in any weights")

    def _linear(self, op: str, node: onnx.NodeProto, index: int, inverse: bool) -> None:
        factors, summands = _LINEAR[op]
        names = dict(enumerate(node.input))
        weights = next((names[i] for i in factors if names.get(i) and self.view.is_constant(names[i])), None)
        if weights is None:
            raise self.refused(f"{op}, which makes them, has no constant weights")
        self._scale(weights, index, inverse)
        for position in summands:
            if names.get(position):
                self._scale(names[position], index, inverse)

    def _factor(self, node: onnx.NodeProto, index: int, inverse: bool) -> None:
        """The first of two factors that this works for, constants before others."""
        one, other = node.input
        if self.view.is_constant(one) and not self.view.is_constant(other):
            one, other = other, one
        found = list(self.uses)
        try:
            self._scale(other, index, inverse)
        except ModelError:
            self.uses = found
            self._scale(one, index, inverse)

    def _check_constant(self, tensor: str) -> None:
        """Raise unless a leaf is a float initializer or Constant with numbers of its own."""
        view = self.view
        if not view.is_constant(tensor):
            raise self.refused(f"'{tensor}', which is added or multiplied, is an input of the model")
        if tensor in {sparse.values.name for sparse in view.graph.sparse_initializer}:
            raise self.refused(f"the weights '{tensor}' are sparse")
        elem_type = view.type_of(tensor).elem_type
        if elem_type not in FLOAT_NAMES:
            raise self.refused(f"the weights '{tensor}' are no floating point numbers")

    def refused(self, why: str) -> ModelError:
        """The error for a head that nothing can be folded into."""
        return _refused(self.view, self.head, why)


def _refused(view: GraphView, head: Head, why: str) -> ModelError:
    return ModelError(f"1/T cannot be folded into {view.model.name} for output '{head.output}': {why}", hint=_HINT)


def _is_indifferent(node: onnx.NodeProto) -> bool:
    return node.op_type in _INDIFFERENT and node.domain in DEFAULT_DOMAINS


def _is_output(view: GraphView, tensor: str) -> bool:
    return any(value.name == tensor for value in view.graph.output)
