"""Heads without an activation: the output itself holds the logits.

That is believed only of values that come out of a linear operator (a matrix product, a convolution) through operators
that keep them linear or rectify them. A Div or Exp at the end may be a softmax in pieces: those are refused.
"""

from __future__ import annotations

from onnxcal.graph.head import Added, Head
from onnxcal.graph.moves import DEFAULT_DOMAINS, moves_values, source_of
from onnxcal.graph.tails.axes import class_axis, float_type, one_logit_axis
from onnxcal.graph.tails.registry import Ending, Hints, Unclear
from onnxcal.graph.tails.scores import gives_margins
from onnxcal.graph.view import GraphView
from onnxcal.logits import Task

_LINEAR = frozenset(
    {"Gemm", "MatMul", "Conv", "ConvTranspose", "Einsum", "BatchNormalization"}
    | {"QLinearMatMul", "MatMulInteger", "QLinearConv", "ConvInteger"}  # 8-bit
    | {
        f"com.microsoft.{op}"
        for op in ("QGemm", "FusedMatMul", "FusedGemm", "MatMulNBits", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")
    }
)
_SCORES = frozenset(
    f"ai.onnx.ml.{op}"
    for op in (
        "LinearClassifier",
        "LinearRegressor",
        "SVMClassifier",
        "SVMRegressor",
        "TreeEnsemble",
        "TreeEnsembleClassifier",
        "TreeEnsembleRegressor",
    )
)
_KEEPS = frozenset(
    {"Add", "Sub", "Mul", "Div", "Neg", "Sum", "Relu", "LeakyRelu", "Dropout"}  # scale, bias, rectify
    | {"GlobalAveragePool", "AveragePool", "GlobalMaxPool", "MaxPool", "ReduceMean"}  # pool
    | {"Gather", "Slice", "Split"}  # the last time step, or one of several heads
    | {"Resize", "Upsample", "QuantizeLinear", "DequantizeLinear"}
    | {f"com.microsoft.{op}" for op in ("QLinearAdd", "QLinearMul", "QLinearGlobalAveragePool", "QLinearAveragePool")}
    | {f"com.microsoft.{op}" for op in ("QuantizeLinear", "DequantizeLinear")}
)
_PARAMETERS_BEHIND = frozenset(
    {"Dropout", "ReduceMean", "Resize", "Upsample", "QuantizeLinear", "DequantizeLinear", "Gather", "Slice", "Split"}
    | {f"com.microsoft.{op}" for op in ("QuantizeLinear", "DequantizeLinear", "QLinearGlobalAveragePool")}
)
_LOSSES = {op: f"{op}, a loss: it is for training" for op in ("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss")}
_NEEDS_A_CONSTANT = frozenset({"Mul", "Div"})  # of two variable tensors these are no longer linear


def logits_head(view: GraphView, ending: Ending, hints: Hints) -> Head:
    """A head whose output is its logits.

    Raises
    ------
    Unclear
        The values may be something else than logits, or their class axis is not clear.
    """
    output = ending.output if ending.trail.keys is None else ending.trail.tensor
    if hints.activation != "none":
        culprit = _not_linear(view, output, set())
        if culprit is not None:
            raise Unclear(
                f"ends in {_LOSSES[culprit]}" if culprit in _LOSSES else f"ends in {culprit}, which is not understood",
                "pass --activation none if its values are logits, or --activation softmax (sigmoid) if they are "
                "probabilities; else export the model so that it ends in logits, Softmax, LogSoftmax or Sigmoid",
            )
    tensor = view.type_of(output)
    task: Task = hints.task or ("binary" if _one_logit(view, output, hints) else "multiclass")
    axis = one_logit_axis(view, output) if task == "binary" else class_axis(view, output, hints.axis)
    if task == "multiclass" and _one_logit(view, output, hints):
        raise Unclear(
            "has one logit a sample, which is binary, not multiclass", "drop --task, or pass the right --axis"
        )
    producer = view.producer(source_of(view, output))
    made_by = producer[1].op_type if producer else "?"
    return Head(
        output=ending.output,
        logits=output,
        task=task,
        activation="none",
        axis=axis,
        num_classes=2 if task == "binary" else tensor.size(axis),
        dtype=float_type(view, output, output),
        site=Added(output, "logits"),
        rank=tensor.rank,
        keys=ending.trail.keys,
        evidence=f"raw logits out of {made_by}",
    )


def is_linear(view: GraphView, tensor: str) -> bool:
    """Whether values come out of a linear operator, as logits do."""
    return _not_linear(view, tensor, set()) is None


def _one_logit(view: GraphView, output: str, hints: Hints) -> bool:
    tensor = view.type_of(output)
    return tensor.rank == 1 or tensor.size(class_axis(view, output, hints.axis)) == 1


def _not_linear(view: GraphView, tensor: str, seen: set[str]) -> str | None:
    """What keeps a tensor from being believed to hold logits: an operator's name, or None."""
    if tensor in seen:
        return None
    seen.add(tensor)
    producer = view.producer(tensor)
    if producer is None:
        return "an input or weight"
    node = producer[1]
    op = node.op_type if node.domain in DEFAULT_DOMAINS else f"{node.domain}.{node.op_type}"
    if op in _LINEAR or (op in _SCORES and gives_margins(node)):
        return None
    if moves_values(view, node):
        inputs = list(node.input[:1])
    elif op in _KEEPS:
        inputs = list(node.input[:1] if op in _PARAMETERS_BEHIND else node.input)
    else:
        return op
    variable = [name for name in inputs if name and not view.is_constant(name)]
    if op == "Mul" and any(_is_integer_product(view, name) for name in variable):  # times the scales of a dynamic one
        return None
    if not variable or (op in _NEEDS_A_CONSTANT and len(variable) > 1):
        return op
    if op == "Div" and variable[0] != node.input[0]:
        return op
    culprits = (culprit for name in variable if (culprit := _not_linear(view, name, seen)) is not None)
    culprit = next(culprits, None)
    return None if culprit is None else culprit if moves_values(view, node) else f"{op} of what {culprit} makes"


def _is_integer_product(view: GraphView, tensor: str) -> bool:
    producer = view.producer(tensor)
    if producer is not None and producer[1].op_type == "Cast":
        producer = view.producer(producer[1].input[0])
    return producer is not None and producer[1].op_type in ("MatMulInteger", "ConvInteger")
