"""`PatchPlan`: what to insert into a graph and which names to change, as data. `planner.py` makes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from onnxcal.calibrators.steps import Step
from onnxcal.graph.head import Head

if TYPE_CHECKING:
    import onnx

DIVIDE = "divide by temperature"
ROLE_KEY, ROLE_PREFIX = "onnxcal.role", "onnxcal: "
_DIVISION_NAME = re.compile(r"onnxcal_div(_\d+)?")


Form: TypeAlias = Literal["division", "folded", "input"]
"""How T gets into a graph: as a constant divisor; into the weights that make the logits; as an optional input."""


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
    form: Form = "division"
    """How T gets into the graph."""


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
class Scaling:
    """A float initializer or Constant whose numbers are divided."""

    tensor: str
    """Its name."""
    divisor: float
    """What by: T; 1/T of what divides itself."""
    precision: str
    """The float type that the logits are as good as."""
    copy: str | None = None
    """Name of the initializer that holds the result, where others read the tensor too; None changes it in its place."""
    before: int = 0
    """Position of the first node that reads the copy."""


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
    calibrated: tuple[str, ...]
    """For each head the tensor with its calibrated logits."""
    scalings: tuple[Scaling, ...] = ()
    """Weights that 1/T is folded into."""
    inputs: tuple[onnx.ValueInfoProto, ...] = ()
    """Graph inputs to add: temperatures that may be fed."""
    temperature_inputs: tuple[str | None, ...] = ()
    """For each head the name of the input for its temperature; None where it has none."""


def role_of(node: onnx.NodeProto) -> str | None:
    """What an inserted node is for, from its tag; None for nodes that are not ours.

    Simplifiers drop tags and keep names: a division is known by its name too.
    """
    tag: str | None = next((prop.value for prop in node.metadata_props if prop.key == ROLE_KEY), None)
    if tag is None and node.doc_string.startswith(ROLE_PREFIX):
        tag = node.doc_string.removeprefix(ROLE_PREFIX)
    if tag is None and node.op_type == "Div" and _DIVISION_NAME.fullmatch(node.name):
        tag = DIVIDE
    return tag
