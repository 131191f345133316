"""Another temperature in a patched file: the numbers of one small tensor, and the metadata that tell of it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from onnxcal.errors import ModelError, UsageError
from onnxcal.graph import wire
from onnxcal.graph.edit import FieldEdit, GraphEdit, fingerprint
from onnxcal.graph.metadata import CalibratedHead, calibrated_heads, is_ours, metadata_records, undo_of
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.patch import without
from onnxcal.graph.payload import held, scaled_constant, scaled_initializer
from onnxcal.graph.plan import DIVIDE, role_of
from onnxcal.graph.skeleton import GRAPH_INITIALIZER, GRAPH_NODE, MODEL_METADATA
from onnxcal.graph.types import FLOAT_NAMES
from onnxcal.graph.view import GraphView
from onnxcal.graph.write import Piece
from onnxcal.version import __version__


@dataclass(frozen=True)
class Retuned:
    """A patched file with another temperature, ready to be written."""

    entry: CalibratedHead
    """The head, with what the file said of it until now."""
    tensor: str
    """The tensor that holds T."""
    pieces: tuple[Piece, ...]
    """Ranges of the old file, and new bytes."""


def chosen_entry(file: ModelFile, head: str | None) -> CalibratedHead:
    """The calibrated head of an output, by its name now or before; the only one if none is named.

    Raises
    ------
    ModelError
        The file is not patched, has several calibrated heads, or none of that name.
    """
    entries = calibrated_heads(file)
    if not entries:
        raise ModelError(
            f"{file.name} was not patched by onnxcal: there is no temperature to set",
            hint="onnxcal patch MODEL --temperature T puts one in",
        )
    names = [entry.output_name or str(entry.head["output"]) for entry in entries]
    fitting = [e for e, name in zip(entries, names, strict=True) if head in (None, name, e.head["output"])]
    if len(fitting) != 1:
        what = "several calibrated heads" if head is None else f"no calibrated head '{head}'"
        listed = ", ".join(names)
        raise ModelError(f"{file.name} has {what}", hint=f"pass --head with one of {listed}")
    return fitting[0]


def retuned(file: ModelFile, entry: CalibratedHead, temperature: float, calibration: Mapping[str, Any]) -> Retuned:
    """Another temperature for a head of a patched file.

    Parameters
    ----------
    file : the patched model.
    entry : the head, see `chosen_entry`.
    temperature : T.
    calibration : what the metadata are to say of it.

    Raises
    ------
    ModelError
        T is folded into weights, or is not where it was put.
    UsageError
        T cannot be held in the type that it is stored in.
    """
    output = entry.output_name or str(entry.head["output"])
    if entry.form == "folded":
        raise ModelError(
            f"T is folded into the weights of {file.name}, and cannot be set any more",
            hint="patch the model it was made from again: onnxcal patch MODEL --temperature T --fold",
        )
    name, number, index = _place(file, output)
    edit, undo = _edit(file, output, number, index, temperature)
    entries = [replace(e, calibration=calibration) if e == entry else e for e in calibrated_heads(file)]
    props = zip(file.top_records(MODEL_METADATA), file.skeleton.metadata_props, strict=True)
    ours = sorted((record.start, record.end) for record, prop in props if is_ours(prop.key))
    pieces = without(edit.pieces(file), ours)
    records = metadata_records(__version__, entries, undo, undo_of(file).sha256)
    return Retuned(entry, name, (*pieces, records))


def _place(file: ModelFile, output: str) -> tuple[str, int, int]:
    """The tensor that holds T, and the field and position of the record that it is in."""
    view = GraphView(file)
    divisors = {
        node.input[1]
        for node in view.graph.node
        if role_of(node) == DIVIDE and output in view.depend_on(node.output) and len(node.input) > 1
    }
    for index, tensor in enumerate(file.graph.initializer):
        if {tensor.name} == divisors:
            return tensor.name, GRAPH_INITIALIZER, index
    for index, node in enumerate(file.graph.node):
        if node.op_type == "Constant" and set(node.output) == divisors:
            return node.output[0], GRAPH_NODE, index
    raise ModelError(
        f"the temperature of '{output}' is not where onnxcal put it in {file.name}: its graph was changed since",
        hint="patch the model it was made from again, and convert it after that",
    )


def _edit(
    file: ModelFile, output: str, number: int, index: int, temperature: float
) -> tuple[GraphEdit, Mapping[str, Any]]:
    """The record with T changed, and the undo that knows it again."""
    record = file.graph_records(number)[index]
    payload = file.buffer[record.payload : record.end]
    if number == GRAPH_INITIALIZER:
        tensor = onnx.TensorProto.FromString(payload)
    else:
        tensor = next(a.t for a in onnx.NodeProto.FromString(payload).attribute if a.name == "value")
    if tensor.data_type not in FLOAT_NAMES:
        raise ModelError(
            f"the temperature of '{output}' in {file.name} was quantised", hint="patch first, and leave T out of it"
        )
    raw = held(np.full(tuple(tensor.dims), temperature), tensor.data_type)
    if raw is None:
        raise UsageError(
            f"temperature {temperature:g} cannot be held in {FLOAT_NAMES[tensor.data_type]}, in which {file.name} has "
            "it",
            hint="pass one nearer to 1",
        )
    changed = (scaled_initializer if number == GRAPH_INITIALIZER else scaled_constant)(payload, raw)
    new = wire.bytes_field(number, changed)
    edit = GraphEdit({number: FieldEdit(replaced=((index, new),))})
    undo = deepcopy(dict(undo_of(file).edit))
    old_mark = fingerprint(number, file.buffer[record.start : record.end])
    for place in undo.get("graph", {}).get(str(number), {}).get("added", []):
        if place == [index, old_mark]:
            place[1] = fingerprint(number, new)
    return edit, undo
