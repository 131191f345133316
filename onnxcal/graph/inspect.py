"""`inspect`: what heads a model has, how each ends, and whether it is patched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from onnxcal.calibrators import Calibration
from onnxcal.errors import ModelError
from onnxcal.graph.detect import candidates, check_opset, classifiers
from onnxcal.graph.external import external_locations
from onnxcal.graph.filerecord import FileRecord
from onnxcal.graph.head import Head
from onnxcal.graph.metadata import calibrated_heads
from onnxcal.graph.modelfile import ModelFile, ModelLike, open_model
from onnxcal.graph.tails import Hints
from onnxcal.graph.view import DTYPE_NAMES, GraphView


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
    inputs: tuple[ModelInput, ...]
    """What the model wants to be fed; initializers are left out."""
    opset: Mapping[str, int]
    """Version by operator set; the default one is called `ai.onnx`."""
    ir_version: int
    """Of the file format."""
    external_data: tuple[str, ...]
    """Locations of external data, relative to the model."""
    warnings: tuple[str, ...] = ()
    """Outputs that cannot be calibrated and why, and what is odd about the file."""
    nodes: int = field(default=0)
    """Number of nodes in the main graph."""


def inspect(model: ModelLike) -> Inspection:
    """Look at a model without loading or running it.

    Parameters
    ----------
    model : path or `onnx.ModelProto`.

    Raises
    ------
    ModelError
        The file cannot be read or is no ONNX model.
    """
    file = open_model(model)
    found = candidates(file, Hints())
    heads = classifiers(found)
    warnings = [f"output '{c.output}' {c.reason}" for c in found if c.head is None]
    logits = {head.logits for head in heads}
    raw = [c.output for c in found if c.head is not None and c.head not in heads and c.head.activation == "none"]
    warnings += [f"output '{o}' may hold logits too: --head {o} would calibrate it" for o in raw if o not in logits]
    try:
        check_opset(file)
    except ModelError as error:
        heads, warnings = [], [error.message, *warnings]
    calibrations = tuple(
        replace(
            Calibration.from_dict(entry.calibration, where=f"the metadata of {file.name}"),
            output=entry.output_name or entry.head["output"],
        )
        for entry in calibrated_heads(file)
    )
    return Inspection(
        model=FileRecord.of(file),
        heads=tuple(heads),
        calibration=calibrations[0] if calibrations else None,
        calibrations=calibrations,
        inputs=_inputs(file),
        opset={entry.domain or "ai.onnx": entry.version for entry in file.skeleton.opset_import},
        ir_version=file.skeleton.ir_version,
        external_data=external_locations(file),
        warnings=tuple(warnings),
        nodes=len(file.graph.node),
    )


def input_names(file: ModelFile) -> tuple[str, ...]:
    """What a model is fed, in order; initializers that are listed as inputs (IR 3) are left out."""
    initializers = {tensor.name for tensor in file.graph.initializer}
    return tuple(value.name for value in file.graph.input if value.name not in initializers)


def _inputs(file: ModelFile) -> tuple[ModelInput, ...]:
    view = GraphView(file)
    names = input_names(file)
    types = [view.type_of(name) for name in names]
    return tuple(
        ModelInput(name, DTYPE_NAMES.get(type_.elem_type, "unknown"), type_.shape)
        for name, type_ in zip(names, types, strict=True)
    )
