"""From heads and calibrator steps to a `PatchPlan`: what to insert into a graph and which names to change.

Pure: nothing is read, written or run. Nodes are emitted at the model's own opset. The form is the one that every
runtime tried can run: T as an initializer of shape [1] that is no graph input, named nodes, and `value_info` for
every inserted tensor.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from onnxcal.calibrators.steps import Step
from onnxcal.errors import ModelError
from onnxcal.graph.head import SMALLEST_PROBABILITY, Added, Fed, Head
from onnxcal.graph.view import FLOAT_NAMES, GraphView, TensorType

_ELEM_TYPES = {name: elem_type for elem_type, name in FLOAT_NAMES.items()}
_HALF = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16})
Shape: TypeAlias = "tuple[int | str | None, ...] | None"
IR_WITH_INITIALIZERS_APART = 4
"""Below this an initializer must also be a graph input, so constants come from Constant nodes (ONNX IR, IR 4)."""
IR_WITH_NODE_METADATA = 10
"""From here a node has metadata_props; before, the tag goes into doc_string."""

_OPSET_TO_IMPORT = 8
"""The version that came out with IR 3, which models without a default operator set are usually in."""

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
class NoPostTransform:
    """An ai.onnx.ml operator that is to give its scores as they are."""

    node: int
    """Position in `graph.node` of the unpatched model."""


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
    transforms: tuple[NoPostTransform, ...]
    """Operators whose post_transform goes."""
    opset: int | None
    """Version of the default operator set to import, where the model imports none."""
    logits: tuple[str, ...]
    """For each head the tensor of the patched model with the logits, before they are calibrated."""


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
        tuple(draft.transforms),
        _OPSET_TO_IMPORT if view.model.opset() is None else None,
        tuple(draft.logits),
    )


def role_of(node: onnx.NodeProto) -> str | None:
    """What an inserted node is for, from its tag; None for nodes that are not ours."""
    tag: str | None = next((prop.value for prop in node.metadata_props if prop.key == _ROLE_KEY), None)
    if tag is None and node.doc_string.startswith(_ROLE_PREFIX):
        tag = node.doc_string.removeprefix(_ROLE_PREFIX)
    return tag


def _known_shape(shape: Shape, head: Head, site: Added) -> Shape:
    """The shape of what is calibrated: of an ai.onnx.ml operator it is known although shape inference does not say."""
    if shape is not None or head.rank is None:
        return shape
    columns = 2 if site.column else None if head.task == "binary" else head.num_classes
    return tuple(columns if axis == head.axis else None for axis in range(head.rank))


def _numpy_type(elem_type: int) -> np.dtype[Any]:
    return np.dtype(helper.tensor_dtype_to_np_dtype(elem_type))


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
        self._opset = view.model.opset() or _OPSET_TO_IMPORT
        self.insertions: list[Insertion] = []
        self.renames: list[Rename] = []
        self.initializers: list[onnx.TensorProto] = []
        self.value_infos: list[onnx.ValueInfoProto] = []
        self.new_outputs: list[onnx.ValueInfoProto] = []
        self.renamed_outputs: list[tuple[int, str]] = []
        self.transforms: list[NoPostTransform] = []
        self.logits: list[str] = []
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
        if isinstance(patch.head.site, Fed):
            calibrated = self._feed(patch, patch.head.site)
        else:
            calibrated = self._add_activation(patch, patch.head.site)
        if patch.keep_logits:
            declared = next(value for value in self.value_infos if value.name == calibrated)
            self.value_infos.remove(declared)
            self.new_outputs.append(declared)

    def _feed(self, patch: HeadPatch, site: Fed) -> str:
        """logits → Div → the activation that is there. Other readers of the logits keep reading them as they are."""
        head, own = patch.head, _ELEM_TYPES[patch.head.dtype]
        tensor = self.view.type_of(head.logits)
        logits = self.raw.get(head.logits, head.logits)
        self.logits.append(logits)
        if not self.view.is_declared(head.logits) and tensor.rank is not None:
            self.value_infos.append(helper.make_tensor_value_info(logits, own, tensor.shape))
        first = min(site.readers)
        tail, calibrated = self._calibrate(first, patch, logits, tensor.shape)
        fed = calibrated
        if tail != own and not site.single:
            fed = self._declare(f"{head.logits}_calibrated_{head.dtype}", own, tensor.shape)
            self._insert(first, "Cast", [calibrated], fed, "cast back", to=own)
        self.renames += [Rename(node, "input", logits, fed) for node in site.readers]
        activated = site.activated
        renamed = bool(patch.output_name) and activated == head.output
        if tail != own and site.single:
            as_float = self._declare(f"{activated}_{FLOAT_NAMES[tail]}", tail, tensor.shape)
            self.renames.append(Rename(first, "output", activated, as_float))
            final = patch.output_name if patch.output_name and renamed else activated
            self._insert(first + 1, "Cast", [as_float], final, "cast back", to=own)
        elif patch.output_name and renamed:
            self.renames.append(Rename(self.view.producers[activated], "output", activated, patch.output_name))
        self._rename_output(patch, made_here=renamed)
        return calibrated

    def _add_activation(self, patch: HeadPatch, site: Added) -> str:
        """producer → logits → Div → Softmax or Sigmoid → the target. What the target held gets a new name."""
        head, target = patch.head, site.target
        tensor = TensorType(_ELEM_TYPES[head.dtype], _known_shape(self.view.type_of(target).shape, head, site))
        producer = self.view.producers[target]
        own = _ELEM_TYPES[head.dtype]
        final, material = target, target
        if patch.output_name is not None and target == head.output:
            final = patch.output_name
        else:
            material = self._declare(f"{target}_uncalibrated", own, tensor.shape)
            self.raw[target] = material
            self.renames.append(Rename(producer, "output", target, material))
        if site.material == "logits":  # raw logits stay what they are for whoever else reads them
            self._redirect_readers(target, material, but=self._way(head.output, target))
        elif final != target:
            self._redirect_readers(target, final)
        after = producer + 1
        logits, shape = self._logits(after, head, site, material, tensor.shape)
        self.logits.append(logits)
        tail, calibrated = self._calibrate(after, patch, logits, shape)
        made = self._activate(after, head, site, calibrated, shape, tail, final if tail == own else None)
        if tail != own:
            self._insert(after, "Cast", [made], final, "cast back", to=own)
        if target != head.output:
            self._rename_output(patch, made_here=False)
        return calibrated

    def _logits(self, at: int, head: Head, site: Added, material: str, shape: Shape) -> tuple[str, Shape]:
        """The nodes that make logits of what there is; returns their name and shape."""
        own = _ELEM_TYPES[head.dtype]
        if site.material == "quantized":
            assert site.node is not None
            quantized = self.view.graph.node[site.node]
            material = self._declare(f"{head.logits}_dequantized", own, shape)
            self._insert(at, "DequantizeLinear", list(quantized.input[:3]), material, "dequantize logits")
        if site.material == "scores":
            assert site.node is not None
            self.transforms.append(NoPostTransform(site.node))
        if site.material == "probabilities":
            material = self._log_odds(at, head, material, shape)
        if not site.column:
            return material, shape
        shape = None if shape is None else (*shape[: head.axis], 1, *shape[head.axis + 1 :])
        column = self._declare(f"{head.logits}_margin", own, shape)
        index = self._tensor(at, "onnxcal_second_column", np.array([1], np.int64))
        self._insert(at, "Gather", [material, index], column, "second column", axis=head.axis)
        return column, shape

    def _log_odds(self, at: int, head: Head, p: str, shape: Shape) -> str:
        """log p for a softmax, log p − log(1 − p) for a sigmoid, of probabilities that are kept off 0."""
        own = _ELEM_TYPES[head.dtype]
        if self._opset < 8:
            raise ModelError(
                f"output '{head.output}' of {self.view.model.name} holds probabilities, and opset {self._opset} has no "
                "Max to keep their logarithms finite",
                hint="export it at opset 8 or later",
            )
        least = self._tensor(at, "onnxcal_smallest", np.array([SMALLEST_PROBABILITY], _numpy_type(own)))

        def log(values: str, base: str) -> str:
            kept = self._declare(f"{base}_kept", own, shape)
            logs = self._declare(f"{base}_log", own, shape)
            self._insert(at, "Max", [values, least], kept, "keep off zero")
            self._insert(at, "Log", [kept], logs, "logarithm")
            return logs

        logs = log(p, head.logits)
        if head.activation != "sigmoid":
            return logs
        one = self._tensor(at, "onnxcal_one", np.array([1], _numpy_type(own)))
        complement = self._declare(f"{head.logits}_complement", own, shape)
        self._insert(at, "Sub", [one, p], complement, "complement")
        odds = self._declare(f"{head.logits}_log_odds", own, shape)
        self._insert(at, "Sub", [logs, log(complement, f"{head.logits}_complement")], odds, "log odds")
        return odds

    def _activate(
        self, at: int, head: Head, site: Added, calibrated: str, shape: Shape, tail: int, final: str | None
    ) -> str:
        """The activation, and the second column where one is missing; `final` None makes a new name."""
        whole = shape if not site.column or shape is None else (*shape[: head.axis], 2, *shape[head.axis + 1 :])
        made = final or self._declare(f"{head.output}_{FLOAT_NAMES[tail]}", tail, whole)
        if head.task == "multiclass":
            self._insert_softmax(at, head, calibrated, made, tail, TensorType(tail, shape))
            return made
        if not site.column:
            self._insert(at, "Sigmoid", [calibrated], made, "activation")
            return made
        p = self._declare(f"{head.output}_positive", tail, shape)
        less = self._declare(f"{head.output}_negative", tail, shape)
        one = self._tensor(at, "onnxcal_one", np.array([1], _numpy_type(tail)))
        self._insert(at, "Sigmoid", [calibrated], p, "activation")
        self._insert(at, "Sub", [one, p], less, "complement")
        self._insert(at, "Concat", [less, p], made, "both columns", axis=head.axis)
        return made

    def _rename_output(self, patch: HeadPatch, *, made_here: bool) -> None:
        """Give the output its new name where it is made, and where it is read."""
        if not patch.output_name:
            return
        output = patch.head.output
        if not made_here:
            self.renames.append(Rename(self.view.producers[output], "output", output, patch.output_name))
        self._redirect_readers(output, patch.output_name)

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
            divisor = self._temperature(before, step.value, tail, _divisor_shape(patch.head))
            quotient = self._declare(f"{patch.head.logits}_calibrated", tail, shape)
            self._insert(before, "Div", [tensor, divisor], quotient, DIVIDE)
            tensor = quotient
        return tail, tensor

    def _insert_softmax(self, at: int, head: Head, source: str, target: str, tail: int, tensor: TensorType) -> None:
        """A Softmax over the class axis. Below opset 13 it flattens, so the class axis must be the last one there."""
        if self._opset >= 13 or head.axis + 1 == tensor.rank:
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

    def _temperature(self, before: int, value: float, elem_type: int, shape: Sequence[int]) -> str:
        dtype = _numpy_type(elem_type)
        with np.errstate(over="ignore", under="ignore"):
            array = np.full(shape, value, dtype)
        if not (np.isfinite(array).all() and array.min() >= np.finfo(dtype).tiny):
            raise ModelError(
                f"temperature {value:g} cannot be held in {dtype.name}, the type of the head",
                hint="check the scale of the logits; or export the model in float64",
            )
        return self._tensor(before, "onnxcal_temperature", array)

    def _tensor(self, before: int, name: str, array: NDArray[Any]) -> str:
        """A constant tensor; returns its name."""
        name = self._fresh(name)
        elem_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor = helper.make_tensor(name, elem_type, list(array.shape), array.tobytes(), raw=True)
        if self.view.model.skeleton.ir_version >= IR_WITH_INITIALIZERS_APART:
            self.initializers.append(tensor)
        else:
            node = helper.make_node("Constant", [], [name], name=self._fresh("onnxcal_constant"), value=tensor)
            node.doc_string = _ROLE_PREFIX + "constant"
            self.insertions.append(Insertion(before, node))
        return name

    def _declare(self, base: str, elem_type: int, shape: Shape) -> str:
        """A new tensor name, with its value_info; without a shape where the rank is unknown."""
        name = self._fresh(base)
        self.value_infos.append(helper.make_tensor_value_info(name, elem_type, shape))
        return name

    def _way(self, output: str, target: str) -> set[int]:
        """The nodes between a tensor and the output that its values go to."""
        way = set[int]()
        while output != target:
            index = self.view.producers[output]
            way.add(index)
            output = self.view.graph.node[index].input[0]
        return way

    def _redirect_readers(self, old: str, new: str, but: Collection[int] = ()) -> None:
        self.renames += [Rename(node, "input", old, new) for node in self.view.readers(old) if node not in but]
        for insertion in self.insertions:
            insertion.node.input[:] = [new if name == old else name for name in insertion.node.input]

    def _fresh(self, base: str) -> str:
        name, number = base, 0
        while name in self.taken:
            number += 1
            name = f"{base}_{number}"
        self.taken.add(name)
        return name
