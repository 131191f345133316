"""Which axis of a tensor of logits counts classes, and what its element type is: shared by the tails."""

from __future__ import annotations

from onnxcal.graph.moves import DEFAULT_DOMAINS
from onnxcal.graph.tails.registry import Unclear
from onnxcal.graph.types import FLOAT_NAMES
from onnxcal.graph.view import GraphView

_CLASSES_LAST = frozenset({"MatMul", "Gemm", "LayerNormalization"})
_CLASSES_SECOND = frozenset(
    {"Conv", "ConvTranspose", "Resize", "Upsample", "BatchNormalization", "InstanceNormalization"}
)
_SAME_LAYOUT = frozenset(
    {"Identity", "Cast", "Add", "Sub", "Mul", "Div", "Relu", "LeakyRelu", "Clip", "Dropout", "DequantizeLinear"}
)


def positive_axis(axis: int, rank: int | None) -> int:
    """`axis` counted from the front.

    Raises
    ------
    Unclear
        There is no such axis, or it is counted from the back of an unknown rank.
    """
    if rank is None:
        if axis < 0:
            raise Unclear("has an unknown rank", "pass --axis counted from 0")
        return axis
    if rank == 0:
        raise Unclear("is a single number, not one row a sample", "choose an output with one row a sample")
    if not -rank <= axis < rank:
        raise Unclear(f"has {rank} axes, so none is axis {axis}", f"pass an --axis from 0 to {rank - 1}")
    return axis % rank


def class_axis(view: GraphView, tensor: str, asked: int | None) -> int:
    """The class axis of logits that no Softmax tells it of.

    (N,) leaves no choice. Else the operator that made them decides: a matrix product puts them where its weights are,
    on the right last, on the left last but one; a convolution second. Otherwise (N, K) and (N, K, d1, d2, …) have them
    second, and three axes are ambiguous.

    Raises
    ------
    Unclear
        Nothing decides.
    """
    rank = view.type_of(tensor).rank
    if asked is not None:
        return positive_axis(asked, rank)
    if rank is None:
        raise Unclear("has no declared or inferable shape", "pass --task and --axis")
    if rank == 0:
        raise Unclear("is a single number, not one row a sample", "choose an output with one row a sample")
    if rank == 1:
        return 0
    axis = _axis_by_producer(view, tensor, rank)
    if axis is not None:
        return axis
    if rank == 2:
        return 1
    if rank == 3:
        raise Unclear("has three axes, and nothing says which counts classes", "pass --axis 1 or --axis 2")
    return 1


def one_logit_axis(view: GraphView, tensor: str) -> int:
    """The class axis of a binary head: 1, where it has length 1; or 0 for (N,).

    Raises
    ------
    Unclear
        (N, K) holds several logits a sample.
    """
    found = view.type_of(tensor)
    columns = found.size(1) if found.rank == 2 else None
    if columns is not None and columns > 1:
        raise Unclear(f"has {columns} logits a sample, and binary means one", "drop --task, or pass --task multilabel")
    column = one_column(view, tensor)
    return column if column is not None else 0 if found.rank == 1 else 1


def one_column(view: GraphView, tensor: str) -> int | None:
    """The only axis of length 1 behind the first, in a tensor of three axes; the first of them in (N, 1, 1)."""
    found = view.type_of(tensor)
    if found.rank != 3:
        return None
    single = [axis for axis in (1, 2) if found.size(axis) == 1]
    return single[0] if single else None


def float_type(view: GraphView, logits: str, output: str, default: int = 0) -> str:
    """The logits' element type by its NumPy name.

    Raises
    ------
    Unclear
        It is known and is not floating point.
    """
    elem_type = view.type_of(logits).elem_type or view.type_of(output).elem_type or default
    if elem_type not in FLOAT_NAMES:
        raise Unclear(
            "has logits that are not floating point", "only float16, bfloat16, float32 and float64 heads are known"
        )
    return FLOAT_NAMES[elem_type]


def _axis_by_producer(view: GraphView, tensor: str, rank: int) -> int | None:
    """Where the operator that made the logits put the classes, through transpositions; None if that is not known."""
    orders: list[list[int]] = []
    for _ in range(len(view.graph.node)):
        producer = view.producer(tensor)
        if producer is None or producer[1].domain not in DEFAULT_DOMAINS:
            return None
        node = producer[1]
        if node.op_type in _CLASSES_LAST | _CLASSES_SECOND:
            axis = rank - 1 if node.op_type in _CLASSES_LAST else 1
            if node.op_type in ("MatMul", "Gemm"):  # rows are those of the left operand, columns of the right
                weights = [view.is_constant(name) for name in node.input[:2]]
                if weights not in ([True, False], [False, True]):
                    if rank == 2:
                        return None
                    raise Unclear(
                        f"comes out of a {node.op_type} of two computed tensors, and nothing says which axis counts "
                        "classes",
                        f"pass --axis, from 1 to {rank - 1}",
                    )
                axis = rank - 2 if weights[0] else rank - 1
            for order in reversed(orders):
                axis = order.index(axis)
            return axis
        if node.op_type == "Transpose":
            reverse = list(range(rank))[::-1]
            orders.append(next((list(a.ints) for a in node.attribute if a.name == "perm"), reverse))
        elif node.op_type not in _SAME_LAYOUT:
            return None
        variable = [name for name in node.input if name and not view.is_constant(name)]
        if not variable:
            return None
        tensor = variable[0]
    return None
