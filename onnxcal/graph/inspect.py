"""`inspect`: what heads a model has, how each ends, what is unusual about it, and whether it is patched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from onnxcal.calibrators import Calibration
from onnxcal.errors import ModelError
from onnxcal.graph.detect import Candidate, candidates, check_opset, classifiers
from onnxcal.graph.division import other_temperatures
from onnxcal.graph.exclude import after_logits, names_of
from onnxcal.graph.external import external_locations
from onnxcal.graph.filerecord import FileRecord
from onnxcal.graph.head import Complemented, Fed, Head, Selected, Transposed
from onnxcal.graph.metadata import calibrated_heads, recorded_metrics, undo_of, version_of
from onnxcal.graph.modelfile import ModelFile, ModelLike, open_model
from onnxcal.graph.plan import Form
from onnxcal.graph.tails import Hints
from onnxcal.graph.targets import TargetFit, fits
from onnxcal.graph.types import DTYPE_NAMES, FLOAT_NAMES
from onnxcal.graph.view import GraphView
from onnxcal.graph.way import Way, way_of
from onnxcal.metrics.recorded import RecordedMetrics


@dataclass(frozen=True)
class ModelInput:
    """What a model wants."""

    name: str
    """Its name."""
    dtype: str
    """NumPy name of the element type."""
    shape: tuple[int | str | None, ...] | None
    """Sizes or symbols; None where the rank is not declared."""


@dataclass(frozen=True)
class PatchedHead:
    """How one head of a patched model is calibrated."""

    output: str
    """The output, as it is called now."""
    temperature: float
    """T."""
    form: Form
    """How T is in the graph: `division` (by a constant), `folded` (into weights) or `input` (an optional one)."""
    temperature_input: str | None
    """Name of the optional input for T; None if it has none."""
    set_by_hand: bool
    """Whether T was changed by `set_temperature` after it was put in."""


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found."""

    model: FileRecord
    """The file."""
    heads: tuple[Head, ...]
    """Outputs that can be a classifier, in their order."""
    calibration: Calibration | None
    """Of the first calibrated head, if the model is patched."""
    calibrations: tuple[Calibration, ...]
    """Of every calibrated head."""
    patches: tuple[PatchedHead, ...]
    """How each of them is calibrated."""
    nodes_to_exclude: tuple[str, ...]
    """What a quantiser must leave in float, see `nodes_to_exclude`."""
    inputs: tuple[ModelInput, ...]
    """What the model wants to be fed; initializers are left out."""
    opset: Mapping[str, int]
    """Version by operator set; the default one is called `ai.onnx`."""
    ir_version: int
    """Of the file format."""
    external_data: tuple[str, ...]
    """Locations of external data, relative to the model."""
    warnings: tuple[str, ...] = ()
    """Outputs that cannot be calibrated and why, and what is odd about the heads and the file."""
    nodes: int = field(default=0)
    """Number of nodes in the main graph."""
    metrics: tuple[RecordedMetrics | None, ...] = ()
    """Scores of every calibrated head, as they were measured then; None of those that were not."""
    made_from: str | None = None
    """Digest of the model that was patched; None if it is not."""
    made_by: str | None = None
    """Version of onnxcal that patched it."""
    targets: tuple[TargetFit, ...] = ()
    """Whether it fits each target that was asked for."""
    ways: tuple[Way | None, ...] = field(default=(), metadata={"json": False})
    """How each head ends; None where it cannot be patched."""
    others: tuple[ModelInput, ...] = field(default=(), metadata={"json": False})
    """Outputs without floating point numbers, beside the heads: labels."""


def inspect(model: ModelLike, *, target: str | Sequence[str] = ()) -> Inspection:
    """Look at a model without loading or running it.

    Parameters
    ----------
    model : path or `onnx.ModelProto`.
    target : runtimes such as `onnxruntime==1.17` that must be able to load it; see `targets` of the result.

    Raises
    ------
    ModelError
        The file cannot be read or is no ONNX model.
    UsageError
        A target is not known.
    """
    file = open_model(model)
    targets = fits(file, target)
    view = GraphView(file)
    found = candidates(file, Hints())
    heads = classifiers(found)
    others = tuple(_value(view, c.output) for c in found if heads and c.head is None and _is_label(view, c.output))
    warnings = list(_unused(found, heads, [other.name for other in others]))
    try:
        check_opset(file)
    except ModelError as error:
        heads, warnings = [], [error.message, *warnings]
    ways: list[Way | None] = []
    entries = calibrated_heads(file)
    folded = {e.output_name or e.head["output"]: e.calibration["temperature"] for e in entries if e.form == "folded"}
    for head in heads:
        try:
            ways.append(way_of(view, head, folded.get(head.output)))
        except ModelError as error:
            ways.append(None)
            warnings.append(error.message)
        shared = tuple(_shared(found, head))
        warnings += [sentence for sentence in about(head) if not shared or sentence not in _selection(head)]
        warnings += shared
    calibrations = tuple(
        replace(
            Calibration.from_dict(entry.calibration, where=f"the metadata of {file.name}"),
            output=entry.output_name or entry.head["output"],
        )
        for entry in entries
    )
    warnings += other_temperatures(file)
    return Inspection(
        model=FileRecord.of(file),
        heads=tuple(heads),
        calibration=calibrations[0] if calibrations else None,
        calibrations=calibrations,
        patches=tuple(
            PatchedHead(str(c.output), c.temperature, e.form, e.temperature_input, c.replaced is not None)
            for c, e in zip(calibrations, entries, strict=True)
        ),
        nodes_to_exclude=names_of(after_logits(file)),
        inputs=model_inputs(file),
        opset={entry.domain or "ai.onnx": entry.version for entry in file.skeleton.opset_import},
        ir_version=file.skeleton.ir_version,
        external_data=external_locations(file),
        warnings=tuple(warnings),
        nodes=len(file.graph.node),
        metrics=tuple(recorded_metrics(file, entry) for entry in entries),
        made_from=undo_of(file).sha256 if entries else None,
        made_by=version_of(file) if entries else None,
        ways=tuple(ways),
        others=others,
        targets=targets,
    )


def about(head: Head) -> tuple[str, ...]:
    """What is unusual about a head, one sentence each."""
    return tuple(sentence for look in (_doubling, _flattening, _material, _selection) for sentence in look(head))


def about_forced(original: ModelFile, found: Sequence[Head]) -> Iterator[str]:
    """What it means to take the result of an activation for logits."""
    forced = {head.output for head in found}
    for candidate in candidates(original):
        head = candidate.head
        if candidate.output not in forced or head is None or head.activation == "none":
            continue
        if head.activation == "log_softmax":
            yield (
                f"output '{candidate.output}' holds log-probabilities: they serve as logits, but with "
                "--activation none it will hold probabilities; without that option it keeps its logarithms"
            )
        else:
            yield (
                f"output '{candidate.output}' ends in {head.evidence}: taking it for logits makes a double "
                f"{head.activation}, whose temperature corrects the wrong function"
            )


def _doubling(head: Head) -> Iterator[str]:
    if head.doubled:
        yield (
            f"the {head.activation} of '{head.output}' reads probabilities already ({head.doubled}), so the model ends "
            "in two activations: a temperature between them corrects the wrong function; export it with one"
        )


def _flattening(head: Head) -> Iterator[str]:
    if head.flatten:
        yield (
            f"the {head.activation} of '{head.output}' is below opset 13 and not on the last axis: it normalises over "
            f"all axes from {head.axis} on together, and so does the fit"
        )


def _material(head: Head) -> Iterator[str]:
    """What stands in for logits where an activation reads none."""
    output, site = head.output, head.site
    if isinstance(site, Fed):
        return
    if site.material == "probabilities" and head.activation == "sigmoid":
        yield (
            f"'{output}' holds probabilities whose logits cannot be reached: the logarithms of their odds are "
            "calibrated, so the odds p / (1 - p) become their power 1/T"
        )
    elif site.material == "probabilities":
        yield (
            f"'{output}' holds probabilities whose logits cannot be reached: log-probabilities are calibrated, so a "
            "probability p becomes p^(1/T), and each row is scaled to sum to 1"
        )
    elif site.material == "quantized":
        yield (
            f"the 8-bit {head.activation} of '{output}' is passed by: its logits are dequantised, then divided and "
            f"activated in {head.dtype}, so its probabilities are no longer steps of 1/256"
        )
    elif site.material == "logits" and site.column:
        yield (
            f"'{output}' holds margins [-s, s]: they are read as the binary probability sigmoid(s), where a softmax "
            "over both would say sigmoid(2 s)"
        )


def _selection(head: Head) -> Iterator[str]:
    """Some of the classes, as where each has an output of its own; or some of the places."""
    axis = head.axis
    for step in head.trail:
        if isinstance(step, Transposed) and head.rank is not None:
            order = step.order or tuple(range(head.rank))[::-1]
            axis = order.index(axis) if axis in order else axis
        elif isinstance(step, Complemented):
            axis = step.axis
        elif isinstance(step, Selected):
            count = len(step.indices)
            if head.rank is not None and head.rank > 2 and step.axis % head.rank != axis:
                shown = f"{count} places of axis {step.axis % head.rank}" if count > 1 else "one place of an axis"
                yield f"'{head.output}' shows {shown} of its probabilities: the logits of all are calibrated together"
            elif head.num_classes is None or count < head.num_classes:
                index = step.indices[0] % head.num_classes if head.num_classes else step.indices[0]
                classes = f"class {index}" if count == 1 else f"{count} classes"
                yield (
                    f"'{head.output}' shows {classes} of {head.num_classes or 'several'}: the logits of all are "
                    "calibrated together, whichever output shows them"
                )


def input_names(file: ModelFile) -> tuple[str, ...]:
    """What a model is fed, in order; initializers that are listed as inputs (IR 3) are left out."""
    initializers = {tensor.name for tensor in file.graph.initializer}
    return tuple(value.name for value in file.graph.input if value.name not in initializers)


def model_inputs(file: ModelFile) -> tuple[ModelInput, ...]:
    """What a model is fed, in order, and what it declares of each."""
    view = GraphView(file)
    return tuple(_value(view, name) for name in input_names(file))


def _value(view: GraphView, name: str) -> ModelInput:
    type_ = view.type_of(name)
    return ModelInput(name, DTYPE_NAMES.get(type_.elem_type, "unknown"), type_.shape)


def _is_label(view: GraphView, output: str) -> bool:
    """Whether an output is declared to hold no floating point numbers."""
    elem_type = view.type_of(output).elem_type
    return elem_type != 0 and elem_type not in FLOAT_NAMES


def _unused(found: Sequence[Candidate], heads: Sequence[Head], others: Sequence[str]) -> Iterator[str]:
    """Why outputs are no heads; nothing of labels, and of logits that a head's activation reads."""
    logits = {head.logits for head in heads}
    for candidate in found:
        if candidate.output in logits:
            continue
        if candidate.head is None and candidate.output not in others:
            yield f"output '{candidate.output}' {candidate.reason}"
        elif candidate.head is not None and candidate.head not in heads and candidate.head.activation == "none":
            yield f"output '{candidate.output}' may hold logits too: --head {candidate.output} would calibrate it"


def _shared(found: Sequence[Candidate], head: Head) -> Iterator[str]:
    """Which outputs show the probabilities of a head under another name, or others of its classes."""
    same = [f"'{c.output}'" for c in found if c.head is not None and c.head.place == head.place]
    same.remove(f"'{head.output}'")
    if same:
        names = ", ".join(same) if len(same) <= 8 else f"{', '.join(same[:8])} and {len(same) - 8} more"
        show = "shows" if len(same) == 1 else "show"
        yield f"{names} {show} the same head as '{head.output}': what calibrates one calibrates all"
