"""Finding the heads of a model: walk back from each output to what makes its values, and ask the tails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnxcal.errors import ModelError
from onnxcal.graph.head import Head
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.moves import moves_values
from onnxcal.graph.tails import Hints, Unclear, find_tail, logits_head
from onnxcal.graph.tails.registry import Ending
from onnxcal.graph.view import FLOAT_NAMES, GraphView

LOWEST_OPSET = 7


@dataclass(frozen=True)
class Candidate:
    """What was found at one output: a head, or why there is none."""

    output: str
    """Name of the model output."""
    head: Head | None
    """The head, if there is one."""
    reason: str = ""
    """Why there is none: the end of a sentence that begins with the output."""
    hint: str = ""
    """What the user can do about it."""


def candidates(model: ModelFile, hints: Hints | None = None) -> tuple[Candidate, ...]:
    """What each output of the model is, in their order; an output listed twice appears once."""
    view = GraphView(model)
    names = dict.fromkeys(output.name for output in model.graph.output)
    return tuple(_look_at(view, name, hints or Hints()) for name in names)


def find_head(model: ModelFile, head: str | None = None, hints: Hints | None = None) -> Head:
    """The head to calibrate: the output named `head`, or the only one that can be a classifier.

    An output with an activation (Softmax, LogSoftmax, Sigmoid) goes before one with raw values.

    Raises
    ------
    ModelError
        No output can be a classifier, several can, `head` is no output, or the operator set is too old.
    """
    check_opset(model)
    if head is not None:
        names = [output.name for output in model.graph.output]
        if head not in names:
            raise ModelError(f"{model.name} has no output '{head}'", hint=f"its outputs are {_listed(names)}")
    found = [c for c in candidates(model, hints) if head is None or c.output == head]
    chosen = classifiers(found)
    if not chosen:
        raise _no_head(model, found)
    if len(chosen) > 1:
        described = "; ".join(f"'{h.output}' ({h.task}, {h.evidence})" for h in chosen)
        raise ModelError(
            f"{model.name} has {len(chosen)} outputs that can be a classifier: {described}",
            hint=f"choose one with --head, for example --head {chosen[0].output}",
        )
    return chosen[0]


def check_opset(model: ModelFile) -> None:
    """Raise ModelError unless the model's operators are ones that a tail can be patched at."""
    opset = model.opset()
    if opset is None:
        raise ModelError(
            f"{model.name} imports no default operator set, so no Softmax can be added to it",
            hint="export it with an opset_import of the domain '' (ai.onnx)",
        )
    if opset < LOWEST_OPSET:
        raise ModelError(
            f"{model.name} uses opset {opset}, which onnxruntime cannot run; {LOWEST_OPSET} or later is needed",
            hint=f"export it again, or convert it with onnx.version_converter.convert_version(model, {LOWEST_OPSET})",
        )


def classifiers(found: Sequence[Candidate]) -> list[Head]:
    """The heads among candidates: those with an activation, each activation once; else those with raw values."""
    heads = [c.head for c in found if c.head is not None]
    with_activation: dict[int | None, Head] = {}
    for head in heads:
        if head.activation != "none":
            with_activation.setdefault(head.node, head)
    return list(with_activation.values()) or heads


def _look_at(view: GraphView, output: str, hints: Hints) -> Candidate:
    tensor = view.type_of(output)
    if tensor.elem_type and tensor.elem_type not in FLOAT_NAMES:
        return Candidate(output, None, "holds no floating point numbers", "choose the output with the probabilities")
    if output not in view.producers:
        value = next(value for value in view.graph.output if value.name == output)
        if value.type.WhichOneof("value") not in (None, "tensor_type"):
            return Candidate(output, None, "is not a tensor", "choose the output with the probabilities")
        return Candidate(output, None, "is a model input or initializer, not computed", "pass another --head")
    try:
        return Candidate(output, _head(view, output, hints))
    except Unclear as unclear:
        return Candidate(output, None, unclear.reason, unclear.hint)


def _head(view: GraphView, output: str, hints: Hints) -> Head:
    ending = _ending(view, output)
    tail = find_tail(ending.node)
    if tail is None or hints.activation == "none":
        if hints.activation not in (None, "none"):
            raise Unclear(
                f"ends in {ending.node.op_type}, and no {hints.activation} was found before it",
                "drop --activation; probabilities whose logits cannot be reached are not supported yet",
            )
        head = logits_head(view, output, hints)
    else:
        head = tail(view, ending, hints)
    if hints.activation is not None and head.activation != hints.activation:
        raise Unclear(f"ends in {ending.node.op_type}, not {hints.activation}", "drop --activation")
    return head


def _ending(view: GraphView, output: str) -> Ending:
    """The node that computes an output, behind those that only move or cast its values."""
    tensor = output
    for _ in range(len(view.graph.node) + 1):
        producer = view.producer(tensor)
        if producer is None:
            raise Unclear("is a model input or initializer, not computed", "pass another --head")
        index, node = producer
        if not moves_values(node):
            if not node.input or not node.input[0]:
                raise Unclear(f"ends in {node.op_type}, which reads nothing", "the graph is broken: export it again")
            if not all(isinstance(name, str) for name in (output, *node.input, *node.output)):
                raise Unclear("has tensors whose names are not UTF-8", "export it again")  # protobuf hands out bytes
            return Ending(output, index, node)
        tensor = node.input[0]
    raise Unclear("is computed in a circle", "the graph is broken: export it again")


def _no_head(model: ModelFile, found: Sequence[Candidate]) -> ModelError:
    if len(found) == 1:
        return ModelError(f"output '{found[0].output}' of {model.name} {found[0].reason}", hint=found[0].hint)
    reasons = "; ".join(f"'{c.output}' {c.reason}" for c in found[:6])
    return ModelError(
        f"no output of {model.name} can be calibrated: {reasons}",
        hint="say which with --head, and what it is with --task, --axis and --activation",
    )


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
