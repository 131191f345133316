"""Applies a plan to a model file, and takes it out again."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from onnxcal.calibrators.steps import Divide
from onnxcal.errors import ModelError
from onnxcal.graph import wire
from onnxcal.graph.division import divides
from onnxcal.graph.edit import is_folded, undo_edit
from onnxcal.graph.head import Head
from onnxcal.graph.mapped import ModelBytes
from onnxcal.graph.metadata import (
    CalibratedHead,
    Undo,
    calibrated_heads,
    is_ours,
    metadata_records,
    undo_of,
)
from onnxcal.graph.modelfile import ONNXRUNTIME_LARGEST, ModelFile
from onnxcal.graph.plan import HeadPatch
from onnxcal.graph.planner import make_plan
from onnxcal.graph.records import edit_for
from onnxcal.graph.skeleton import MODEL_METADATA, MODEL_OPSET_IMPORT
from onnxcal.graph.view import GraphView
from onnxcal.graph.write import Draft, Piece, Trailer, join, write_taking_digest, write_with_digest
from onnxcal.version import __version__

_IN_MEMORY = 1 << 26
READING_TEMPERATURE = 2.0
"""A power of two: to divide and multiply by it loses nothing."""


@dataclass(frozen=True)
class Patch:
    """A patch that is ready to be written: ranges of the unpatched model, new bytes, and the metadata at the end."""

    source: ModelFile
    """The unpatched model."""
    pieces: tuple[Piece, ...]
    """The patched model but for its last bytes."""
    trailer: Trailer
    """The last bytes, given the digest of the source."""
    folded: tuple[str, ...] = ()
    """Names of the weights that T is folded into, in the patched model."""

    def write(self, draft: Draft) -> None:
        """Write and finish a draft."""
        write_with_digest(draft, self.source, self.pieces, self.trailer)

    def to_bytes(self) -> bytes:
        """The patched model in memory."""
        return join(self.source, self.pieces) + self.trailer(self.source.sha256)

    def equals(self, patched: ModelFile) -> bool:
        """Whether a file is what would be written; memory stays small."""
        position = 0
        for piece in (*self.pieces, self.trailer(self.source.sha256)):
            for block in [piece] if isinstance(piece, bytes) else self.source.data.read(*piece):
                if patched.buffer[position : position + len(block)] != block:
                    return False
                position += len(block)
        return position == patched.size


def make_patch(
    model: ModelFile, patches: Sequence[tuple[HeadPatch, Mapping[str, Any]]], *, version: str = __version__
) -> Patch:
    """The patch that puts calibrators before the activations of some heads.

    Parameters
    ----------
    model : the unpatched model (see `unpatched`).
    patches : for each head what to do, and its calibration as JSON data for the metadata.
    version : of onnxcal, for the metadata.

    Raises
    ------
    ModelError
        The heads cannot be patched, or the result would be too large for onnxruntime.
    """
    plan = make_plan(GraphView(model), [patch for patch, _ in patches])
    edit = edit_for(model, plan)
    pieces = tuple(edit.pieces(model))
    undo = edit.undo(model) | ({} if plan.opset is None else {"opset_import": plan.opset})
    heads = [
        CalibratedHead(patch.head.as_json(), calibration, patch.output_name, patch.keep_logits, patch.form, fed)
        for (patch, calibration), fed in zip(patches, plan.temperature_inputs, strict=True)
    ]

    def trailer(sha256: str) -> bytes:
        return _opset_record(plan.opset) + metadata_records(version, heads, undo, sha256)

    size = sum(len(p) if isinstance(p, bytes) else p[1] - p[0] for p in pieces) + len(trailer("0" * 64))
    if size > ONNXRUNTIME_LARGEST >= model.size:
        raise ModelError(
            f"patching {model.name} would make it {size:,} bytes; onnxruntime loads at most {ONNXRUNTIME_LARGEST:,}",
            hint="save the model with external data first",
        )
    return Patch(model, pieces, trailer, tuple(scaling.copy or scaling.tensor for scaling in plan.scalings))


def with_logits(model: ModelFile, heads: Sequence[Head]) -> tuple[ModelFile, tuple[str, ...]]:
    """A model that computes the logits of some heads as tensors of its own, and their names.

    That is the model itself, unless logits are inside an operator, quantised, or only there as probabilities: then it
    is the model patched with `READING_TEMPERATURE`, and the tensors hold the logits divided by that. Read so, they
    are what the patched model will have: onnxruntime fuses operators alike.
    """
    if all(head.is_logits for head in heads):
        return model, tuple(head.logits for head in heads)
    steps = (Divide(READING_TEMPERATURE),)
    plan = make_plan(GraphView(model), [HeadPatch(head, steps) for head in heads])
    data = join(model, edit_for(model, plan).pieces(model)) + _opset_record(plan.opset)
    names = [head.logits if head.is_logits else made for head, made in zip(heads, plan.calibrated, strict=True)]
    return ModelFile(ModelBytes(model.name, data, None, model.folder)), tuple(names)


def check_structure(patched: ModelFile, patches: Sequence[HeadPatch], original: ModelFile | None = None) -> None:
    """Hold a patched file against what was asked, without running it.

    The original is needed only where T is folded into weights.

    Raises
    ------
    ModelError
        A head is not where it should be, does not divide by its temperature, or a name is made twice; weights are not
        what they were, divided by it.
    """
    made = [name for node in patched.graph.node for name in node.output if name]
    if len(made) != len(set(made)):
        raise _broken(patched, "a tensor is computed twice")
    outputs = [value.name for value in patched.graph.output]
    for patch in patches:
        output = patch.output_name or patch.head.output
        if output not in outputs:
            raise _broken(patched, f"there is no output '{output}'")
        if patch.form != "folded" and not divides(patched, output, patch.steps[-1].value):
            raise _broken(patched, f"output '{output}' is not divided by {patch.steps[-1].value}")
    wrong = None if original is None else wrong_weights(original, patched, patches)
    if wrong is not None:
        raise _broken(patched, f"'{wrong}' is not what it was, divided by T")


def wrong_weights(original: ModelFile, patched: ModelFile, patches: Sequence[HeadPatch]) -> str | None:
    """The first of the weights that T is folded into that does not hold the original's, divided; None if all do."""
    if all(patch.form != "folded" for patch in patches):
        return None
    from onnxcal.graph.payload import is_scaled  # NumPy, which a division needs not wait for

    scalings = make_plan(GraphView(original), patches).scalings
    return next((s.copy or s.tensor for s in scalings if not is_scaled(original, patched, s)), None)


def unpatched(model: ModelFile, original: ModelFile | None = None) -> ModelFile:
    """The model without its patch: itself if it has none. Weights that T is folded into are taken from `original`.

    A large one is kept in a temporary file that goes with it.

    Raises
    ------
    ModelError
        Its graph was changed after it was patched, or T is folded into its weights and there is no `original`.
    """
    if not calibrated_heads(model):
        return model
    pieces = _original_pieces(model, undo_of(model), original)
    size = sum(len(p) if isinstance(p, bytes) else p[1] - p[0] for p in pieces)
    if size <= _IN_MEMORY:
        return ModelFile(ModelBytes(model.name, join(model, pieces), None, model.folder))
    with tempfile.TemporaryFile(prefix="onnxcal-") as file:  # has no name; the map outlives it
        for piece in pieces:
            for block in [piece] if isinstance(piece, bytes) else model.data.read(*piece):
                file.write(block)
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return ModelFile(ModelBytes(model.name, mapped, None, model.folder))


def write_original(model: ModelFile, draft: Draft) -> tuple[str, bool]:
    """Write the unpatched model into a draft; returns its digest, and whether it is the original byte for byte."""
    undo = undo_of(model)
    pieces = _original_pieces(model, undo)
    digest = write_taking_digest(draft, model, pieces)
    return digest, digest == undo.sha256


def check_made_from(patched: ModelFile, original: ModelFile) -> None:
    """Raise ModelError if a patched model was made from another one."""
    why = not_made_from(patched, original)
    if why is not None:
        raise ModelError(why, hint="pass that model as --original; sha256sum finds it")


def not_made_from(patched: ModelFile, original: ModelFile) -> str | None:
    """That a patched model was made from another one, in a sentence; None if it was made from this one."""
    expected = undo_of(patched).sha256
    if original.sha256 == expected:
        return None
    return (
        f"{original.name} is not the model that {patched.name} was made from: its SHA-256 begins with "
        f"{original.sha256[:12]}, not with {expected[:12]}"
    )


def has_folded_weights(model: ModelFile) -> bool:
    """Whether T is folded into the weights of a patched model, so that only the original brings it back."""
    return is_folded(undo_of(model).edit)


def _original_pieces(model: ModelFile, undo: Undo, original: ModelFile | None = None) -> list[Piece]:
    edit, lengths = undo_edit(model, undo.edit, original)
    pieces = edit.pieces(model, lengths=lengths if len(lengths) == len(model.graphs) else None)
    props = zip(model.top_records(MODEL_METADATA), model.skeleton.metadata_props, strict=True)
    ours = [(record.start, record.end) for record, prop in props if is_ours(prop.key)]
    if "opset_import" in undo.edit:
        imports = zip(model.top_records(MODEL_OPSET_IMPORT), model.skeleton.opset_import, strict=True)
        ours += [(record.start, record.end) for record, entry in imports if entry.domain == ""]
    return without(pieces, sorted(ours))


def _opset_record(version: int | None) -> bytes:
    """The import of the default operator set, for a model that has none."""
    if version is None:
        return b""
    return wire.bytes_field(MODEL_OPSET_IMPORT, onnx.OperatorSetIdProto(version=version).SerializeToString())


def without(pieces: Sequence[Piece], gaps: Sequence[tuple[int, int]]) -> list[Piece]:
    """The pieces less some ranges of the source."""
    out: list[Piece] = list(pieces)
    for start, stop in gaps:
        cut: list[Piece] = []
        for piece in out:
            if isinstance(piece, bytes) or piece[1] <= start or piece[0] >= stop:
                cut.append(piece)
            else:
                cut += [part for part in ((piece[0], start), (stop, piece[1])) if part[0] < part[1]]
        out = cut
    return out


def _broken(patched: ModelFile, what: str) -> ModelError:
    return ModelError(
        f"the patched file failed its structure check: {what}", hint="this is a bug in onnxcal: please report the model"
    )
