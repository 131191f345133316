"""Finding the heads of a model: walk back from each output to what makes its values, and ask the tails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from onnxcal.errors import ModelError
from onnxcal.graph.head import Added, Fed, Head, Narrowed
from onnxcal.graph.inline import InlinedView
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.moves import DEFAULT_DOMAINS, coarser, label_values, precision_of, source_of
from onnxcal.graph.spill import spills_into
from onnxcal.graph.tails import Ending, Hints, Unclear, ending_of, find_tail, is_linear, logits_head, probabilities_head
from onnxcal.graph.tails.registry import Tail, recognise
from onnxcal.graph.types import DTYPE_NAMES, FLOAT_NAMES
from onnxcal.graph.view import GraphView

LOWEST_OPSET = 7
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})


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
    spills: bool = False
    """Whether there are probabilities, but calibrating them would change another output as well."""


def candidates(model: ModelFile, hints: Hints | None = None) -> tuple[Candidate, ...]:
    """What each output of the model is, in their order; an output listed twice appears once."""
    view = InlinedView(model) if model.skeleton.functions else GraphView(model)
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
        if all(node.domain not in DEFAULT_DOMAINS for node in model.graph.node):
            return  # nothing of it is used; the patch imports what it adds
        raise ModelError(
            f"{model.name} uses the default operator set but does not import it",
            hint="export it with an opset_import of the domain '' (ai.onnx)",
        )
    if opset < LOWEST_OPSET:
        raise ModelError(
            f"{model.name} uses opset {opset}, which is too old to be patched; {LOWEST_OPSET} or later is needed",
            hint=f"export it again, or convert it with onnx.version_converter.convert_version(model, {LOWEST_OPSET})",
        )


def classifiers(found: Sequence[Candidate]) -> list[Head]:
    """The heads among candidates: those with an activation, each activation once; else those with raw values.

    None with raw values where an activation was found that cannot be calibrated: they are no logits of a missing one.
    """
    heads = [c.head for c in found if c.head is not None]
    with_activation: dict[str, Head] = {}
    for head in heads:
        if head.activation != "none":
            with_activation.setdefault(head.place, head)
    return list(with_activation.values()) or ([] if any(c.spills for c in found) else heads)


def changed_first(model: ModelFile, heads: Sequence[Head]) -> list[str]:
    """The tensors that a calibration changes before all others."""
    tensors = []
    for head in heads:
        if isinstance(head.site, Added):
            if head.site.material != "logits":
                tensors.append(head.site.target)
            elif head.output != head.site.target:  # other readers of raw logits keep reading them
                tensors.append(head.output)
        else:
            tensors += [name for reader in head.site.readers for name in model.graph.node[reader].output]
    return tensors


def changed_besides(model: ModelFile, heads: Sequence[Head]) -> list[str]:
    """Outputs with floats that are computed from what is calibrated, besides those that show a calibrated head."""
    view = GraphView(model)
    derived = view.depend_on(changed_first(model, heads))
    showing = {
        candidate.output
        for candidate in candidates(model)
        if candidate.head is not None and any(candidate.head.shares_calibration(head) for head in heads)
    }
    return [
        output.name
        for output in model.graph.output
        if output.name in derived - showing - {head.output for head in heads}
        and view.type_of(output.name).elem_type in (0, *FLOAT_NAMES)
    ]


def _look_at(view: GraphView, output: str, hints: Hints) -> Candidate:
    tensor = view.type_of(output)
    if tensor.elem_type and tensor.elem_type not in FLOAT_NAMES:
        name = DTYPE_NAMES.get(tensor.elem_type, "unknown")
        return Candidate(
            output,
            None,
            f"holds {name} values, not floats",
            "a head holds numbers of 16, 32 or 64 bits",
        )
    try:
        head = _head(view, output, hints)
        other = spills_into(view, head)
        if other is not None:
            raise Unclear(
                f"shares pieces of its activation with output '{other}', which is not computed from probabilities",
                f"export the model with its activation as one node, or without output '{other}'",
                spills=True,
            )
        return Candidate(output, view.in_main_graph(head) if isinstance(view, InlinedView) else head)
    except Unclear as unclear:
        return Candidate(output, None, unclear.reason, unclear.hint, unclear.spills)
    except (IndexError, ValueError):  # an operator without the inputs that its specification has
        return Candidate(
            output, None, "ends in nodes that lack inputs or attributes", "the graph is broken: run onnx.checker on it"
        )


def _head(view: GraphView, output: str, hints: Hints) -> Head:
    ending = ending_of(view, output, output)
    if ending.node.op_type in _CONTROL_FLOW and ending.node.domain in DEFAULT_DOMAINS and hints.activation is None:
        raise Unclear(
            f"is made inside {ending.node.op_type}, where no activation is looked for",
            "pass --activation none if its values are logits, or --activation softmax (sigmoid) if they are "
            "probabilities; else export the model without control flow around its classifier",
        )
    if isinstance(view, InlinedView) and view.calls_function(ending.node):
        raise Unclear(
            f"ends in the local function {ending.node.op_type}, which has control flow or an operator set of its own",
            "inline it first: import onnx.inliner; onnx.inliner.inline_local_functions(model)",
        )
    value = next((value for value in view.graph.output if value.name == output), None)
    if value is not None and value.type.WhichOneof("value") not in (None, "tensor_type") and ending.trail.keys is None:
        raise Unclear("is not a tensor", "choose the output with the probabilities")
    tail = find_tail(ending.node)
    head = None if tail is None else _of_tail(tail, view, ending, hints)
    if head is None and hints.activation in ("softmax", "sigmoid") and is_linear(view, output):
        raise Unclear("holds raw logits, not probabilities", "drop --activation: the patch adds what is missing")
    if head is None and (hints.activation in ("softmax", "sigmoid") or _is_mapped(hints, ending)):
        head = probabilities_head(view, ending, hints, f"out of a {ending.node.op_type}")
    if head is None and hints.activation in (None, "none"):
        head = logits_head(view, ending, hints)
    if head is None or (hints.activation is not None and head.activation != hints.activation):
        raise Unclear(f"ends in {ending.node.op_type}, not {hints.activation}", "drop --activation")
    precision = precision_of(view, head.logits, head.dtype)
    for step in head.trail:
        precision = coarser(precision, step.dtype) if isinstance(step, Narrowed) else precision
    made_by = view.producer(source_of(view, head.logits))
    return replace(
        head,
        classes=head.keys or _classes(view, head),
        precision=precision,
        quantized=made_by is not None and made_by[1].op_type == "DequantizeLinear",
        doubled=_activation_before(view, head),
    )


def _activation_before(view: GraphView, head: Head) -> str:
    """Of an activation whose logits are what another one made: how that one was recognised."""
    if not isinstance(head.site, Fed):
        return ""
    try:
        inner = recognise(view, head.output, head.logits, Hints())
    except (Unclear, IndexError, ValueError):
        return ""
    return "" if inner is None or inner.activation not in ("softmax", "sigmoid") else inner.evidence


def _classes(view: GraphView, head: Head) -> tuple[str | int, ...] | None:
    """The class labels of the ai.onnx.ml classifier that a head comes out of, perhaps through a Normalizer."""
    producer = view.producer(head.place)
    if producer is not None and producer[1].op_type == "Normalizer":
        producer = view.producer(producer[1].input[0])
    return None if producer is None else tuple(label_values(producer[1])) or None


def _of_tail(tail: Tail, view: GraphView, ending: Ending, hints: Hints) -> Head | None:
    """What a tail says; where the user says that there is no activation, only what has none: margins are logits too."""
    try:
        head = tail(view, ending, hints)
    except Unclear:
        if hints.activation == "none":
            return None
        raise
    return None if hints.activation == "none" and head is not None and head.activation != "none" else head


def _is_mapped(hints: Hints, ending: Ending) -> bool:
    """Whether values go into a ZipMap, as probabilities do."""
    return hints.activation is None and ending.trail.keys is not None


def _no_head(model: ModelFile, found: Sequence[Candidate]) -> ModelError:
    telling = [c for c in found if c.spills] or [c for c in found if not c.reason.endswith("not floats")] or found[:1]
    if len(telling) == 1:  # beside outputs that are labels
        return ModelError(f"output '{telling[0].output}' of {model.name} {telling[0].reason}", hint=telling[0].hint)
    reasons = "; ".join(f"'{c.output}' {c.reason}" for c in found[:6])
    return ModelError(
        f"no output of {model.name} can be calibrated: {reasons}",
        hint="say which with --head, and what it is with --task, --axis and --activation",
    )


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
