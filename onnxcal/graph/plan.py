"""From heads and calibrator steps to a `PatchPlan`: what to insert into a graph and which names to change.

Pure: nothing is read, written or run. Nodes are emitted at the model's own opset. The form is the one that every
runtime tried can run: T as an initializer of shape [1] that is no graph input, named nodes, and `value_info` for
every inserted tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnxcal.calibrators.steps import Step
from onnxcal.errors import ModelError
from onnxcal.graph.head import Head
from onnxcal.graph.view import FLOAT_NAMES, GraphView, TensorType

_ELEM_TYPES = {name: elem_type for elem_type, name in FLOAT_NAMES.items()}
_HALF = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16})
Shape: TypeAlias = "tuple[int | str | None, ...] | None"
IR_WITH_INITIALIZERS_APART = 4
"""Below this an initializer must also be a graph input, so constants come from Constant nodes (ONNX IR, IR 4)."""
IR_WITH_NODE_METADATA = 10
"""From here a node has metadata_props; before, the tag goes into doc_string."""

DIVIDE = "divide by temperature"
_ROLE_KEY, _ROLE_PREFIX = "onnxcal.role", "onnxcal: "


@dataclass(frozen=True)
class HeadPatch:
    """What is to be done to one head."""

    head: Head
    """The head, as detected in the unpatched model."""
    steps: tuple[Step, ...]
    """What the calibrator does to its logits."""
    output_name: str | None = None
    """New name of the output; None keeps it."""
    keep_logits: bool = False
    """Whether the calibrated logits become one more output."""


@dataclass(frozen=True)
class Rename:
    """One tensor name changed in one existing node."""

    node: int
    """Position in `graph.node` of the unpatched model."""
    side: Literal["input", "output"]
    """Whether the node reads the tensor (subgraphs included) or makes it."""
    old: str
    """The tensor's name until now."""
    new: str
    """Its name from now on."""


@dataclass(frozen=True)
class Insertion:
    """One new node, to stand before the node that is at `before` in the unpatched model."""

    before: int
    """Position of the node that it stands before."""
    node: onnx.NodeProto
    """The node."""


@dataclass(frozen=True)
class PatchPlan:
    """Everything that a patch changes in the main graph; positions are those of the unpatched model."""

    insertions: tuple[Insertion, ...]
    """New nodes; those before one place stand in this order."""
    renames: tuple[Rename, ...]
    """To be made in this order."""
    initializers: tuple[onnx.TensorProto, ...]
    """New ones: the temperatures."""
    value_infos: tuple[onnx.ValueInfoProto, ...]
    """Types of inserted tensors."""
    new_outputs: tuple[onnx.ValueInfoProto, ...]
    """Outputs to add, behind those there are."""
    renamed_outputs: tuple[tuple[int, str], ...]
    """Position in `graph.output`, and the new name."""


def make_plan(view: GraphView, patches: Sequence[HeadPatch]) -> PatchPlan:
    """The plan for some heads of one model.

    Raises
    ------
    ModelError
        A temperature that the head's element type cannot hold, an output name that is taken, or a layout that the
        model's opset has no node for.
    """
    draft = _Draft(view)
    for patch in patches:
        draft.add(patch)
    return PatchPlan(
        tuple(draft.insertions),
        tuple(draft.renames),
        tuple(draft.initializers),
        tuple(draft.value_infos),
        tuple(draft.new_outputs),
        tuple(draft.renamed_outputs),
    )


def role_of(node: onnx.NodeProto) -> str | None:
    """What an inserted node is for, from its tag; None for nodes that are not ours."""
    tag: str | None = next((prop.value for prop in node.metadata_props if prop.key == _ROLE_KEY), None)
    if tag is None and node.doc_string.startswith(_ROLE_PREFIX):
        tag = node.doc_string.removeprefix(_ROLE_PREFIX)
    return tag


def _divisor_shape(head: Head) -> list[int]:
    """[1]; in float64 one T a class, which onnxruntime cannot fold into a MatMul before it.

    Its MatMulScaleFusion makes a FusedMatMul of MatMul and Div by a single number, whose `alpha` is a float32.
    """
    if (
        head.dtype != "float64"
        or head.num_classes is None
        or head.rank is None
        or head.flatten
        or head.task == "binary"
    ):
        return [1]
    return [head.num_classes] + [1] * (head.rank - 1 - head.axis)


class _Draft:
    """A plan in the making: the names that are taken so far, and what is to change."""

    def __init__(self, view: GraphView) -> None:
        self.view = view
        self.taken = view.names()
        self.insertions: list[Insertion] = []
        self.renames: list[Rename] = []
        self.initializers: list[onnx.TensorProto] = []
        self.value_infos: list[onnx.ValueInfoProto] = []
        self.new_outputs: list[onnx.ValueInfoProto] = []
        self.renamed_outputs: list[tuple[int, str]] = []
        self.raw: dict[str, str] = {}
        """Outputs that held raw logits and now hold probabilities, and what the logits are called instead."""

    def add(self, patch: HeadPatch) -> None:
        """Plan one head."""
        if patch.output_name == patch.head.output:
            patch = replace(patch, output_name=None)
        if patch.output_name is not None:
            if not patch.output_name:
                raise ModelError("the --output-name is empty", hint="pass a name, or leave it out to keep the old one")
            if patch.output_name in self.taken:
                raise ModelError(
                    f"the name '{patch.output_name}' is taken in {self.view.model.name}",
                    hint="choose another --output-name",
                )
            self.taken.add(patch.output_name)
            outputs = enumerate(self.view.graph.output)
            self.renamed_outputs += [(i, patch.output_name) for i, o in outputs if o.name == patch.head.output]
        calibrated = self._add_activation(patch) if patch.head.node is None else self._feed_activation(patch)
        if patch.keep_logits:
            declared = next(value for value in self.value_infos if value.name == calibrated)
            self.value_infos.remove(declared)
            self.new_outputs.append(declared)

    def _feed_activation(self, patch: HeadPatch) -> str:
        """logits → Div → the activation that is there. Other readers of the logits keep reading them as they are."""
        head, node = patch.head, patch.head.node
        assert node is not None
        tensor = self.view.type_of(head.logits)
        logits = self.raw.get(head.logits, head.logits)
        if not self.view.is_declared(head.logits) and tensor.rank is not None:
            self.value_infos.append(helper.make_tensor_value_info(logits, _ELEM_TYPES[head.dtype], tensor.shape))
        tail, calibrated = self._calibrate(node, patch, logits, tensor.shape)
        self.renames.append(Rename(node, "input", logits, calibrated))
        activated = self.view.graph.node[node].output[0]
        if tail != _ELEM_TYPES[head.dtype]:
            as_float = self._declare(f"{activated}_{FLOAT_NAMES[tail]}", tail, tensor.shape)
            self.renames.append(Rename(node, "output", activated, as_float))
            final = patch.output_name if patch.output_name and activated == head.output else activated
            self._insert(node + 1, "Cast", [as_float], final, "cast back", to=_ELEM_TYPES[head.dtype])
        elif patch.output_name and activated == head.output:
            self.renames.append(Rename(node, "output", activated, patch.output_name))
        if patch.output_name:
            if activated != head.output:
                self.renames.append(Rename(self.view.producers[head.output], "output", head.output, patch.output_name))
            self._redirect_readers(head.output, patch.output_name)
        return calibrated

    def _add_activation(self, patch: HeadPatch) -> str:
        """producer → Div → Softmax or Sigmoid → output. The raw logits get a new name, unless the output does."""
        head = patch.head
        tensor = self.view.type_of(head.output)
        producer = self.view.producers[head.output]
        raw = head.output
        if patch.output_name is None:
            raw = self._declare(f"{head.output}_uncalibrated", _ELEM_TYPES[head.dtype], tensor.shape)
            self.raw[head.output] = raw
            self.renames.append(Rename(producer, "output", head.output, raw))
            self._redirect_readers(head.output, raw)
        after = producer + 1
        tail, calibrated = self._calibrate(after, patch, raw, tensor.shape)
        final = patch.output_name or head.output
        activated = final
        if tail != _ELEM_TYPES[head.dtype]:
            activated = self._declare(f"{head.output}_{FLOAT_NAMES[tail]}", tail, tensor.shape)
        if head.task == "multiclass":
            self._insert_softmax(after, head, calibrated, activated, tail, tensor)
        else:
            self._insert(after, "Sigmoid", [calibrated], activated, "activation")
        if activated != final:
            self._insert(after, "Cast", [activated], final, "cast back", to=_ELEM_TYPES[head.dtype])
        return calibrated

    def _calibrate(self, before: int, patch: HeadPatch, logits: str, shape: Shape) -> tuple[int, str]:
        """The nodes of the calibrator's steps; returns their element type and the name of the calibrated logits.

        Half precision goes through float32: T and the quotient keep 24 bits, and every runtime has the kernels.
        """
        own = _ELEM_TYPES[patch.head.dtype]
        tail = TensorProto.FLOAT if own in _HALF else own
        tensor = logits
        if tail != own:
            tensor = self._declare(f"{patch.head.logits}_{FLOAT_NAMES[tail]}", tail, shape)
            self._insert(before, "Cast", [logits], tensor, "cast", to=tail)
        for step in patch.steps:
            divisor = self._constant(before, "onnxcal_temperature", step.value, tail, _divisor_shape(patch.head))
            quotient = self._declare(f"{patch.head.logits}_calibrated", tail, shape)
            self._insert(before, "Div", [tensor, divisor], quotient, DIVIDE)
            tensor = quotient
        return tail, tensor

    def _insert_softmax(self, at: int, head: Head, source: str, target: str, tail: int, tensor: TensorType) -> None:
        """A Softmax over the class axis. Below opset 13 it flattens, so the class axis must be the last one there."""
        if self.view.opset >= 13 or head.axis + 1 == tensor.rank:
            self._insert(at, "Softmax", [source], target, "activation", axis=head.axis)
            return
        if tensor.rank is None or tensor.shape is None:
            raise ModelError(
                f"output '{head.output}' of {self.view.model.name} has an unknown rank, "
                "which a Softmax below opset 13 cannot be added to",
                hint="export it with shapes, or at opset 13 or later",
            )
        order = [a for a in range(tensor.rank) if a != head.axis] + [head.axis]
        back = [order.index(a) for a in range(tensor.rank)]
        moved = tuple(tensor.shape[a] for a in order)
        last = self._declare(f"{head.output}_classes_last", tail, moved)
        probabilities = self._declare(f"{head.output}_classes_last_softmax", tail, moved)
        self._insert(at, "Transpose", [source], last, "classes last", perm=order)
        self._insert(at, "Softmax", [last], probabilities, "activation", axis=tensor.rank - 1)
        self._insert(at, "Transpose", [probabilities], target, "classes back", perm=back)

    def _insert(
        self, before: int, op_type: str, inputs: Sequence[str], output: str, role: str, **attributes: int | list[int]
    ) -> None:
        node = helper.make_node(
            op_type,
            list(inputs),
            [output],
            name=self._fresh(f"onnxcal_{op_type.lower()}"),
            **attributes,  # type: ignore[arg-type]  # these go to the node, not to make_node's own parameters
        )
        if self.view.model.skeleton.ir_version >= IR_WITH_NODE_METADATA:
            node.metadata_props.add(key=_ROLE_KEY, value=role)
        else:
            node.doc_string = _ROLE_PREFIX + role
        self.insertions.append(Insertion(before, node))

    def _constant(self, before: int, name: str, value: float, elem_type: int, shape: Sequence[int]) -> str:
        dtype = helper.tensor_dtype_to_np_dtype(elem_type)
        with np.errstate(over="ignore", under="ignore"):
            array = np.full(shape, value, dtype)
        if not (np.isfinite(array).all() and array.min() >= np.finfo(dtype).tiny):
            raise ModelError(
                f"temperature {value:g} cannot be held in {dtype.name}, the type of the head",
                hint="check the scale of the logits; or export the model in float64",
            )
        name = self._fresh(name)
        tensor = helper.make_tensor(name, elem_type, list(shape), array.tobytes(), raw=True)
        if self.view.model.skeleton.ir_version >= IR_WITH_INITIALIZERS_APART:
            self.initializers.append(tensor)
        else:
            node = helper.make_node("Constant", [], [name], name=self._fresh("onnxcal_constant"), value=tensor)
            node.doc_string = _ROLE_PREFIX + "temperature"
            self.insertions.append(Insertion(before, node))
        return name

    def _declare(self, base: str, elem_type: int, shape: Shape) -> str:
        """A new tensor name, with its value_info; without a shape where the rank is unknown."""
        name = self._fresh(base)
        self.value_infos.append(helper.make_tensor_value_info(name, elem_type, shape))
        return name

    def _redirect_readers(self, old: str, new: str) -> None:
        self.renames += [Rename(node, "input", old, new) for node in self.view.readers(old)]
        for insertion in self.insertions:
            insertion.node.input[:] = [new if name == old else name for name in insertion.node.input]

    def _fresh(self, base: str) -> str:
        name, number = base, 0
        while name in self.taken:
            number += 1
            name = f"{base}_{number}"
        self.taken.add(name)
        return name
