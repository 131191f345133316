"""`Head`: one classification output of a model, and the `Site` where a calibrator goes."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_args

from onnxcal.logits import Task

Activation: TypeAlias = Literal["none", "softmax", "log_softmax", "sigmoid"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)

SMALLEST_PROBABILITY = 2.0**-23
"""What a probability counts as at least where its logarithm serves as logit: the spacing of float32 at 1."""


@dataclass(frozen=True)
class Fed:
    """The activation is there: what reads the logits for it will read calibrated logits instead."""

    readers: tuple[int, ...]
    """Positions in `graph.node` of the nodes that make the probabilities out of the logits and read them."""
    activated: str
    """The tensor with the probabilities, in the layout of the logits."""
    single: bool
    """Whether one node does it all, and thus can do it in another float type."""
    column: bool = False
    """The tensor has the two columns [−s, s], of which s is the logit."""


Material: TypeAlias = Literal["logits", "probabilities", "quantized", "scores"]


@dataclass(frozen=True)
class Added:
    """There is no activation to feed: one is added, and its result takes the place of a tensor."""

    target: str
    """The tensor that probabilities are to stand in for."""
    material: Material
    """What the logits are made of: the target's own values; their logarithms; a quantised tensor; or the scores of an
    ai.onnx.ml operator whose `post_transform` is set to NONE."""
    column: bool = False
    """The material has the two columns [−s, s] of which s is the logit; probabilities are [1 − p, p]."""
    node: int | None = None
    """Position of the ai.onnx.ml operator, or of the quantised activation."""
    grid: tuple[float, float, float] | None = None
    """Scale, least and greatest value of what a quantised activation makes."""


Site: TypeAlias = Fed | Added


@dataclass(frozen=True)
class Transposed:
    """A Transpose."""

    tensor: str
    """Its input, whose shape is needed to repeat it."""
    order: tuple[int, ...] | None
    """Its permutation; None reverses the axes."""


@dataclass(frozen=True)
class Complemented:
    """p becomes [1 − p, p]."""

    tensor: str | None
    """What is joined, whose shape is needed; None for the layout of the logits."""
    axis: int
    """The axis along which it is joined."""
    reverse: bool = False
    """[p, 1 − p] instead."""


@dataclass(frozen=True)
class Selected:
    """Some entries along an axis."""

    tensor: str
    """What is selected from, whose shape is needed."""
    axis: int
    """The axis."""
    indices: tuple[int, ...]
    """Which entries, in this order; negative ones count from the end."""


@dataclass(frozen=True)
class Clipped:
    """Values are brought into a range."""

    low: float
    """The least value."""
    high: float
    """The greatest value."""


@dataclass(frozen=True)
class Rounded:
    """Values are quantised and dequantised."""

    scale: float
    """Distance of two steps."""
    lowest: float
    """Smallest value that can be held."""
    highest: float
    """Largest value that can be held."""


@dataclass(frozen=True)
class Narrowed:
    """Values are cast to a narrower float type."""

    dtype: str
    """float16, bfloat16 or float32."""


TrailStep: TypeAlias = Narrowed | Transposed | Complemented | Selected | Clipped | Rounded
"""What a graph does to probabilities on the way to an output, besides reshaping and casting them."""


@dataclass(frozen=True)
class Head:
    """One classification output: where its logits are, and what turns them into probabilities."""

    output: str
    """Name of the model output."""
    logits: str
    """Name of the tensor that holds the logits, or what they are made of: the activation's input, the output itself
    where there is no activation, probabilities whose logits cannot be reached, or the scores of an ai.onnx.ml operator.
    """
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
    site: Site = field(metadata={"json": False})
    """Where a calibrator goes."""
    flatten: bool = field(default=False, metadata={"json": False})
    """All axes from `axis` on are one class axis: Softmax and LogSoftmax below opset 13."""
    rank: int | None = field(default=None, metadata={"json": False})
    """Number of axes of the logits; None where it is not known."""
    trail: tuple[TrailStep, ...] = field(default=(), metadata={"json": False})
    """From the probabilities to the output, in this order."""
    keys: tuple[str | int, ...] | None = field(default=None, metadata={"json": False})
    """Class labels, where the output is a sequence of maps from label to probability (ZipMap)."""
    classes: tuple[str | int, ...] | None = field(default=None, metadata={"json": False})
    """What the model calls its classes, where it says; labels may be given as these."""
    precision: str = field(default="", metadata={"json": False})
    """The coarsest float type that logits or probabilities are in on the way; a cast back does not bring bits back."""
    quantized: bool = field(default=False, metadata={"json": False})
    """Whether the logits are dequantised 8-bit numbers."""
    doubled: str = field(default="", metadata={"json": False})
    """How the logits were recognised as probabilities themselves, in a few words; empty where they were not."""
    evidence: str = field(default="", metadata={"json": False})
    """How it was recognised, in a few words."""

    @property
    def is_logits(self) -> bool:
        """Whether `logits` is a tensor of the unpatched model that holds the logits, and can be read as it is.

        8-bit logits cannot: what else reads a dequantised tensor decides how onnxruntime fuses the operators before it.
        """
        if self.quantized:
            return False
        return isinstance(self.site, Fed) or (self.site.material == "logits" and not self.site.column)

    @property
    def place(self) -> str:
        """The tensor with the probabilities: heads that share it share their calibration."""
        return self.site.activated if isinstance(self.site, Fed) else self.site.target

    def shares_calibration(self, other: Head) -> bool:
        """Whether calibrating the other head calibrates this one too."""
        if self.place == other.place:
            return True
        mine, theirs = self.site, other.site
        if not (isinstance(mine, Fed) and isinstance(theirs, Fed) and self.logits == other.logits):
            return False
        return set(mine.readers) <= set(theirs.readers)

    def as_json(self) -> dict[str, Any]:
        """The `head` object of the contract, as in `--json` and in the metadata."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.metadata.get("json", True)}
