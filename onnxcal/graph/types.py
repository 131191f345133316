"""Element types and shapes of tensors, declared, inferred, and where inference leaves them open, completed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import onnx
from onnx.onnx_ml_pb2 import TensorProto

from onnxcal.graph.modelfile import ModelFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

Constants: TypeAlias = Callable[[str], "NDArray[Any] | None"]
"""The value of a tensor, if it is a small constant."""

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
_RETYPE = frozenset({"Cast", "QuantizeLinear", "DequantizeLinear"})
"""Those of them that change the element type."""
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
    completed: bool = False
    """Whether the shape is more than onnx infers: a patch must not let it meet a wrong declaration."""

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


def infer_types(
    model: ModelFile, graph: onnx.GraphProto, order: list[int] | None, constant: Constants
) -> dict[str, TensorType]:
    """What is known of each tensor of a graph; `order` sorts its nodes, if they do not stand so."""
    try:
        inferred = _inferred(_to_infer(model, graph, order)).graph
    except Exception:  # the checker's and the inferrer's errors have no common base; declared types will do
        inferred = graph
    types = {tensor.name: TensorType(tensor.data_type, tuple(tensor.dims)) for tensor in graph.initializer}
    values: list[onnx.ValueInfoProto] = [*inferred.value_info, *inferred.output, *inferred.input]
    for value in values:
        if value.type.HasField("tensor_type"):
            types[value.name] = _tensor_type(value.type.tensor_type)
    for value in graph.output:
        if value.type.HasField("tensor_type"):
            types[value.name] = _agreed(_tensor_type(value.type.tensor_type), types.get(value.name))
    _complete(types, graph, constant)
    return types


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """`onnx.shape_inference.infer_shapes(model, data_prop=True)`, which would import all of onnx, and NumPy with it."""
    from onnx.onnx_cpp2py_export import shape_inference

    check_type, strict_mode, data_prop = False, False, True
    found = shape_inference.infer_shapes(model.SerializeToString(), check_type, strict_mode, data_prop)
    return onnx.ModelProto.FromString(found)


def _to_infer(model: ModelFile, graph: onnx.GraphProto, order: list[int] | None) -> onnx.ModelProto:
    """The model with this graph, and `ai.onnx` spelled as the empty string, all that shape inference knows.

    Its outputs have no declared shape: inference would keep that, and not say that their producer contradicts it.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model.skeleton)
    copy.graph.CopyFrom(graph)
    for value in copy.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    nodes = [graph.node[index] for index in order or range(len(graph.node))]
    del copy.graph.node[:]
    copy.graph.node.extend(node for node in nodes if node.op_type not in _CRASH_INFERENCE)
    for entry in copy.opset_import:
        entry.domain = "" if entry.domain == "ai.onnx" else entry.domain
    for node in copy.graph.node:
        node.domain = "" if node.domain == "ai.onnx" else node.domain
    return copy


def _agreed(declared: TensorType, inferred: TensorType | None) -> TensorType:
    """What is known of an output: its producer is believed rather than its declaration, which may be wrong."""
    if inferred is None:
        return declared
    elem_type = declared.elem_type or inferred.elem_type
    if inferred.shape is None or declared.shape is None:
        return TensorType(elem_type, inferred.shape if declared.shape is None else declared.shape)
    if len(inferred.shape) != len(declared.shape):
        return TensorType(elem_type, inferred.shape, True)
    pairs = list(zip(declared.shape, inferred.shape, strict=True))
    contradicted = any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs)
    return TensorType(elem_type, tuple(b if isinstance(b, int) or a is None else a for a, b in pairs), contradicted)


def _complete(types: dict[str, TensorType], graph: onnx.GraphProto, constant: Constants) -> None:
    """Shapes that inference leaves open: it knows no ai.onnx.ml operator, and never looks back from an output."""
    unknown = TensorType(0, None)
    alike = [node for node in graph.node if node.op_type in _ALIKE and node.input and node.output]
    for node in graph.node:
        if node.op_type in _SCORES and len(node.output) > 1 and types.get(node.output[1], unknown).shape is None:
            labels = sum(len(a.ints) + len(a.strings) for a in node.attribute if a.name.startswith("classlabels"))
            types[node.output[1]] = TensorType(TensorProto.FLOAT, (None, labels or None), True)
        elif node.op_type == "TreeEnsemble" and types.get(node.output[0], unknown).shape is None:
            weights = next((a.t.data_type for a in node.attribute if a.name == "leaf_weights"), TensorProto.FLOAT)
            targets = next((a.i for a in node.attribute if a.name == "n_targets"), None)
            types[node.output[0]] = TensorType(weights, (None, targets), True)
        elif node.op_type in _REGRESSORS and types.get(node.output[0], unknown).shape is None:
            single = 1 if node.op_type.endswith("Regressor") else None
            targets = next((a.i for a in node.attribute if a.name in ("targets", "n_targets")), single)
            types[node.output[0]] = TensorType(TensorProto.FLOAT, (None, targets), True)
    pairs = [(node, node.input[0], node.output[0]) for node in alike]
    pairs += [(node, name, node.output[0]) for node in graph.node for name in _as_wide_as(node, constant)]
    for node, source, target in (*pairs, *reversed(pairs)):
        for known, open_ in ((source, target), (target, source)):
            shape, old = types.get(known, unknown).shape, types.get(open_, unknown)
            if shape is not None and old.shape is None:
                elem_type = 0 if node.op_type in _RETYPE else types[known].elem_type
                types[open_] = TensorType(old.elem_type or elem_type, shape, True)


def _as_wide_as(node: onnx.NodeProto, constant: Constants) -> Iterator[str]:
    """The input of an elementwise operator whose shape its output has, as the other is a single number."""
    if node.op_type in ("Add", "Sub", "Mul", "Div") and len(node.input) == 2:
        for name, other in ((node.input[0], node.input[1]), (node.input[1], node.input[0])):
            number = constant(other)
            if number is not None and number.ndim == 0:
                yield name


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
