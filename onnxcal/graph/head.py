"""`Head`: one classification output of a model."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_args

from onnxcal.logits import Task

Activation: TypeAlias = Literal["none", "softmax", "log_softmax", "sigmoid"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)


@dataclass(frozen=True)
class Head:
    """One classification output: where its logits are, and what turns them into probabilities."""

    output: str
    """Name of the model output."""
    logits: str
    """Name of the tensor that holds the logits: the activation's input, or the output itself where there is none."""
    task: Task
    """multiclass, binary or multilabel."""
    activation: Activation
    """What stands between logits and output; `none` if the output is the logits."""
    axis: int
    """The class axis of the logits, ≥ 0."""
    num_classes: int | None
    """Number of classes: 2 for binary; None where the model leaves it open."""
    dtype: str
    """Element type of the logits: float16, bfloat16, float32 or float64."""
    flatten: bool = field(default=False, metadata={"json": False})
    """All axes from `axis` on are one class axis: Softmax and LogSoftmax below opset 13."""
    rank: int | None = field(default=None, metadata={"json": False})
    """Number of axes of the logits; None where it is not known."""
    node: int | None = field(default=None, metadata={"json": False})
    """Position in `graph.node` of the activation; None where there is none."""
    evidence: str = field(default="", metadata={"json": False})
    """How it was recognised, in a few words."""

    def as_json(self) -> dict[str, Any]:
        """The `head` object of the contract, as in `--json` and in the metadata."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.metadata.get("json", True)}
