"""`GraphDraft`: names, nodes, constants and renames of a patch in the making; `planner.py` decides which."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, TypeAlias

from onnxcal.graph.messages import make_node, make_tensor, make_value_info
from onnxcal.graph.plan import ROLE_KEY, ROLE_PREFIX, Insertion, NoPostTransform, Rename, Scaling
from onnxcal.graph.types import FLOAT_NAMES
from onnxcal.graph.view import GraphView

if TYPE_CHECKING:
    import onnx

Shape: TypeAlias = "tuple[int | str | None, ...] | None"
ELEM_TYPES = {name: elem_type for elem_type, name in FLOAT_NAMES.items()}
IR_WITH_INITIALIZERS_APART = 4
"""Below this an initializer must also be a graph input, so constants come from Constant nodes (ONNX IR, IR 4)."""
IR_WITH_NODE_METADATA = 10
"""From here a node has metadata_props; before, the tag goes into doc_string."""
OPSET_TO_IMPORT = 8
"""The version that came out with IR 3, which models without a default operator set are usually in."""


class GraphDraft:
    """What is planned so far: the names that are taken so far, and what is to change."""

    def __init__(self, view: GraphView) -> None:
        self.view = view
        self.taken = view.names()
        self.opset = view.model.opset() or OPSET_TO_IMPORT
        self.insertions: list[Insertion] = []
        self.renames: list[Rename] = []
        self.initializers: list[onnx.TensorProto] = []
        self.value_infos: list[onnx.ValueInfoProto] = []
        self.new_outputs: list[onnx.ValueInfoProto] = []
        self.renamed_outputs: list[tuple[int, str]] = []
        self.transforms: list[NoPostTransform] = []
        self.calibrated: list[str] = []
        self.scalings: list[Scaling] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.temperature_inputs: list[str | None] = []
        self.shapeless = False
        """Whether declared shapes are left out, for those of the head are more than onnx infers."""
        self.raw: dict[str, str] = {}
        """Outputs that held raw logits and now hold probabilities, and what the logits are called instead."""

    def insert(
        self, before: int, op_type: str, inputs: Sequence[str], output: str, role: str, **attributes: int | list[int]
    ) -> None:
        """A new node before the one at a position, named, and tagged with what it is for."""
        node = make_node(
            op_type,
            inputs,
            [output],
            self.fresh(f"onnxcal_{op_type.lower()}"),
            **attributes,
        )
        if self.view.model.skeleton.ir_version >= IR_WITH_NODE_METADATA:
            node.metadata_props.add(key=ROLE_KEY, value=role)
        else:
            node.doc_string = ROLE_PREFIX + role
        self.insertions.append(Insertion(before, node))

    def tensor(self, before: int, name: str, elem_type: int, value: float, dims: Sequence[int] = (1,)) -> str:
        """A constant tensor that holds one number everywhere; returns its name.

        Raises
        ------
        OverflowError
            The type has no such large numbers.
        """
        name = self.fresh(name)
        tensor = make_tensor(name, elem_type, dims, value)
        if self.view.model.skeleton.ir_version >= IR_WITH_INITIALIZERS_APART:
            self.initializers.append(tensor)
        else:
            self.insertions.append(Insertion(before, constant_node(tensor, self.fresh("onnxcal_constant"))))
        return name

    def declare(self, base: str, elem_type: int, shape: Shape) -> str:
        """A new tensor name, with its value_info; without a shape where the rank is unknown."""
        name = self.fresh(base)
        self.value_infos.append(make_value_info(name, elem_type, None if self.shapeless else shape))
        return name

    def redirect_readers(self, old: str, new: str, but: Collection[int] = ()) -> None:
        """Let whatever reads one tensor read another, except some nodes."""
        self.renames += [Rename(node, "input", old, new) for node in self.view.readers(old) if node not in but]
        for insertion in self.insertions:
            insertion.node.input[:] = [new if name == old else name for name in insertion.node.input]

    def fresh(self, base: str) -> str:
        """A name that nothing in the model has."""
        name, number = base, 0
        while name in self.taken:
            number += 1
            name = f"{base}_{number}"
        self.taken.add(name)
        return name


def constant_node(tensor: onnx.TensorProto, name: str) -> onnx.NodeProto:
    """A Constant that makes a tensor under its own name, for models in which initializers are inputs."""
    node = make_node("Constant", [], [tensor.name], name, value=tensor)
    node.doc_string = ROLE_PREFIX + "constant"
    return node
