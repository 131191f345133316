"""`Way`: the end of a head, from what makes its logits to the output, with what a patch puts in: for drawing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from onnxcal.calibrators.steps import Divide
from onnxcal.graph.head import Activation, Added, Fed, Head
from onnxcal.graph.moves import MOVES_VALUES
from onnxcal.graph.plan import DIVIDE, HeadPatch, PatchPlan, role_of
from onnxcal.graph.planner import make_plan
from onnxcal.graph.tails.scores import post_transform
from onnxcal.graph.view import GraphView

_PARAMETERS_BEHIND = MOVES_VALUES | {
    "Clip", "Gather", "Slice", "Split", "ArrayFeatureExtractor", "Normalizer", "ZipMap",
    "QuantizeLinear", "DequantizeLinear",
}  # fmt: skip
"""Operators whose first input holds the values."""
_KEEPS_LINEAR = MOVES_VALUES | {"Add", "Sub", "Mul", "Div", "QuantizeLinear", "DequantizeLinear"}
"""Operators behind which the one that makes the logits is looked for."""
_MAKERS = 3

Holds: TypeAlias = Literal["logits", "8-bit logits", "margins", "probabilities", "logits / T"]


@dataclass(frozen=True)
class Stage:
    """A node on the way from logits to an output; or those between two places where that way is one tensor."""

    operators: tuple[str, ...]
    """Their operators, in order."""
    role: Literal["activation", "inserted", "other"]
    """What makes probabilities of logits; what a patch puts in; or what else there is."""
    purpose: str = ""
    """Of inserted ones: what the last one is for."""


@dataclass(frozen=True)
class Way:
    """The end of a head: from what makes its logits to the output, with what a patch puts in where it goes."""

    output: str
    """Name of the model output."""
    activation: Activation
    """Of the head."""
    makers: tuple[str, ...]
    """Operators that make the logits: the last few of them."""
    transform: str
    """The post_transform that a patch takes away from the last maker; empty if none."""
    tensor: str | None
    """Name of the tensor that the way starts from; None where that is the output's, which the probabilities get."""
    shape: tuple[int | str | None, ...] | None
    """Its sizes or symbols; None where the rank is not known."""
    holds: Holds
    """What is in it."""
    beside: tuple[str, ...]
    """What else gets its values as they are: operators, and other outputs."""
    bypassed: tuple[str, ...]
    """Operators that read it, and whose results go nowhere in a patched model."""
    stages: tuple[Stage, ...]
    """From that tensor to the output."""
    temperature: float | None
    """What the logits are divided by; None if the head is not patched."""


@dataclass
class _Wired:
    """A node of the graph as it is, or as it will be when it is patched."""

    operator: str
    reads: list[str]
    """Tensors whose values go into its result; parameters are left out."""
    makes: list[str]
    role: str | None
    """What an inserted node is for."""


class _Wiring:
    """A main graph with what a plan changes; inserted nodes are counted behind the others."""

    def __init__(self, view: GraphView, plan: PatchPlan | None = None) -> None:
        self._view = view
        self._nodes: dict[int, _Wired] = {}
        self._producers: dict[str, int] = {}
        if plan is None:
            return
        for rename in plan.renames:
            node = self[rename.node]
            names = node.reads if rename.side == "input" else node.makes
            names[:] = [rename.new if name == rename.old else name for name in names]
            self._producers.update((name, rename.node) for name in node.makes)
        for index, insertion in enumerate(plan.insertions, len(view.graph.node)):
            new = insertion.node
            self._nodes[index] = _Wired(new.op_type, list(new.input), list(new.output), role_of(new))
            self._producers[new.output[0]] = index

    def __getitem__(self, index: int) -> _Wired:
        if index not in self._nodes:
            node = self._view.graph.node[index]
            reads = node.input[:1] if node.op_type in _PARAMETERS_BEHIND else node.input
            self._nodes[index] = _Wired(_text(node.op_type), list(reads), list(node.output), role_of(node))
        return self._nodes[index]

    def producer(self, tensor: str) -> int | None:
        """The node that makes a tensor."""
        return self._producers.get(tensor, self._view.producers.get(tensor))

    def division_above(self, logits: str) -> int | None:
        """The inserted division that a tensor comes from, past other inserted nodes."""
        index = self.producer(logits)
        while index is not None and (node := self[index]).role is not None and node.reads:
            if node.role == DIVIDE:
                return index
            index = self.producer(node.reads[0])
        return None

    def material_of(self, division: int) -> tuple[str, set[str]]:
        """The tensor of the unpatched model that the dividend is made of, and what the nodes for that are for."""
        tensor, roles = self[division].reads[0], set[str]()
        while (index := self.producer(tensor)) is not None and (role := self[index].role) is not None:
            roles.add(role)
            tensor = self[index].reads[0]
        return tensor, roles

    def makers(self, tensor: str) -> tuple[str, ...]:
        """The operators that make a tensor, back to one that does more than move, scale or shift what it reads."""
        makers: list[str] = []
        index = self.producer(tensor)
        while index is not None and len(makers) < _MAKERS:
            node = self[index]
            makers.insert(0, node.operator)
            computed = [name for name in node.reads if self.producer(name) is not None]
            if len(computed) > 1:
                computed = [name for name in computed if not self._view.is_constant(name)]
            linear = node.operator in _KEEPS_LINEAR and len(computed) == 1
            index = self.producer(computed[0]) if linear else None
        return tuple(makers)

    def between(self, start: str, end: str) -> list[int]:
        """The nodes on all ways from one tensor to another, each behind what it reads."""
        order: list[int] = []
        seen: set[int] = set()
        pending = [(self.producer(end), False)]
        while pending:
            index, done = pending.pop()
            if index is None or (index in seen and not done):
                continue
            if done:
                order.append(index)
                continue
            seen.add(index)
            above = [(self.producer(name), False) for name in self[index].reads if name != start]
            pending += [(index, True), *reversed(above)]
        reached, between = {start}, []
        for index in order:
            if not reached.isdisjoint(self[index].reads):
                reached.update(self[index].makes)
                between.append(index)
        return between

    def cut(self, between: Sequence[int], start: str, end: str) -> Iterator[list[int]]:
        """These nodes, cut wherever all that comes later reads one tensor only."""
        last_read = {name: position for position, index in enumerate(between) for name in self[index].reads}
        last_read[end] = len(between)
        live, group = {start}, list[int]()
        for position, index in enumerate(between):
            group.append(index)
            live = {name for name in live.union(self[index].makes) if last_read.get(name, -1) > position}
            if len(live) <= 1:
                yield group
                group = []
        if group:
            yield group


def way_of(view: GraphView, head: Head, folded: float | None = None) -> Way:
    """How a head ends, with the division that is there, or else with what a patch would put in.

    Parameters
    ----------
    view : the model, patched or not.
    head : the head, as it is there.
    folded : the T that is in the weights of a patched model; then there is no division, and none to put in.

    Raises
    ------
    ModelError
        It cannot be patched.
    """
    wiring, plan, site = _Wiring(view), None, head.site
    division = wiring.division_above(head.logits)
    divisor = None if division is None else view.constant(view.graph.node[division].input[1])
    if division is None and folded is None:
        plan = make_plan(view, [HeadPatch(head, (Divide(1.0),))])
        wiring = _Wiring(view, plan)
        roles = [role_of(insertion.node) for insertion in plan.insertions]
        division = len(view.graph.node) + roles.index(DIVIDE)
    start, purposes = (head.logits, set[str]()) if division is None else wiring.material_of(division)
    between = wiring.between(start, head.output)
    tensor = start if plan is None else head.logits
    beside: list[str] = []
    bypassed: list[str] = []
    if folded is None and (plan is None or isinstance(site, Fed) or site.material in ("logits", "quantized")):
        beside = [f"output '{_text(o.name)}'" for o in view.graph.output if o.name == tensor != head.output]
        for index in view.readers(tensor):
            if index not in between:
                passed = _is_bypassed(view, head, index, patched=plan is None)
                (bypassed if passed else beside).append(wiring[index].operator)
    holds: Holds = "logits" if folded is None else "logits / T"
    if purposes & {"logarithm", "log odds"}:
        holds = "probabilities"
    elif "second column" in purposes or (isinstance(site, Fed) and site.column):
        holds = "margins"
    elif "dequantize logits" in purposes:
        holds = "8-bit logits"
    return Way(
        output=head.output,
        activation=head.activation,
        makers=wiring.makers(start),
        transform=post_transform(view.graph.node[plan.transforms[0].node]) if plan and plan.transforms else "",
        tensor=None if tensor == head.output else _text(tensor),
        shape=view.type_of(tensor).shape,
        holds=holds,
        beside=tuple(dict.fromkeys(beside)),
        bypassed=tuple(dict.fromkeys(bypassed)),
        stages=tuple(_stages(wiring, list(wiring.cut(between, start, head.output)), head)),
        temperature=folded if divisor is None else float(divisor.reshape(-1)[0]),
    )


def _stages(wiring: _Wiring, groups: Sequence[Sequence[int]], head: Head) -> Iterator[Stage]:
    """The way as stages; what makes the probabilities is one of them, however many nodes it has."""
    activated = head.site.activated if isinstance(head.site, Fed) else None
    first = next((n + 1 for n, group in enumerate(groups) if any(wiring[i].role == DIVIDE for i in group)), 0)
    last = next((n for n, group in enumerate(groups) if any(activated in wiring[i].makes for i in group)), -1)
    composed = [n for n, group in enumerate(groups) if n > last >= 0 and wiring[group[-1]].operator in ("Exp", "Log")]
    last = max((last, *composed))
    activation = [i for group in groups[first : last + 1] for i in group if wiring[i].role is None]
    for group in groups:
        operators, role = tuple(wiring[i].operator for i in group), wiring[group[-1]].role
        if role is not None:
            yield Stage(operators, "inserted", role)
        elif group[0] not in activation:
            yield Stage(operators, "other")
        elif group[0] == activation[0]:
            yield Stage(tuple(wiring[i].operator for i in activation), "activation")


def _is_bypassed(view: GraphView, head: Head, index: int, *, patched: bool) -> bool:
    """Whether what a reader of the logits makes goes nowhere, or will not when the head is patched."""
    if not patched:
        return isinstance(head.site, Added) and head.site.material == "quantized" and index == head.site.node
    return view.depend_on(view.graph.node[index].output).isdisjoint(value.name for value in view.graph.output)


def _text(name: str | bytes) -> str:
    """A name; protobuf hands out bytes where it is not UTF-8."""
    return name if isinstance(name, str) else name.decode(errors="replace")
