"""What a patched model says about itself, in `metadata_props`: which heads are calibrated, and how to undo it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from onnxcal.errors import ModelError
from onnxcal.graph import wire
from onnxcal.graph.head import ACTIVATIONS
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.plan import Form
from onnxcal.graph.skeleton import MODEL_METADATA
from onnxcal.logits import TASKS
from onnxcal.metrics.recorded import RecordedMetrics

CALIBRATION_KEY = "onnxcal.calibration"
UNDO_KEY = "onnxcal.undo"
FORMAT = 1
"""Of these entries; raised when an older onnxcal could no longer read them."""
PATCH_FORMAT = 1
"""Of what a patch writes; raised when the same model and calibration are given other nodes or entries than before, so
that a build makes its models anew."""
RECIPE = "recipe"
"""Key of a calibration under which a build keeps what it was made from."""


@dataclass(frozen=True)
class CalibratedHead:
    """One head of a patched model, and the calibration that was put before its activation, as plain JSON data."""

    head: Mapping[str, Any]
    """The head in the unpatched model: output, logits, task, activation, axis, …"""
    calibration: Mapping[str, Any]
    """method, temperature, stderr, …; and `metrics`, where it was measured."""
    output_name: str | None = None
    """The name that the output was given; None if it kept its own."""
    keep_logits: bool = False
    """Whether the calibrated logits were made an output."""
    form: Form = "division"
    """How T got into the graph."""
    temperature_input: str | None = None
    """The optional input for T; None if there is none."""

    def as_json(self) -> dict[str, Any]:
        """The entry in the metadata; what is as usual is left out where an older onnxcal did not write it."""
        entry: dict[str, Any] = {
            "head": dict(self.head),
            "calibration": dict(self.calibration),
            "output_name": self.output_name,
            "keep_logits": self.keep_logits,
        }
        if self.form != "division":
            entry |= {"form": self.form, "temperature_input": self.temperature_input}
        return entry


@dataclass(frozen=True)
class Undo:
    """How to get the original file back."""

    edit: Mapping[str, Any]
    """For `edit.undo_edit`."""
    sha256: str
    """Digest of the original file."""


def metadata_records(version: str, heads: Sequence[CalibratedHead], undo: Mapping[str, Any], sha256: str) -> bytes:
    """The fields to append to a model: the same bytes for the same arguments, on any day."""
    calibration = {"format": FORMAT, "version": version, "heads": [head.as_json() for head in heads]}
    entries = {CALIBRATION_KEY: calibration, UNDO_KEY: {"format": FORMAT, "sha256": sha256, "edit": undo}}
    return b"".join(metadata_record(key, value) for key, value in entries.items())


def metadata_record(key: str, value: Mapping[str, Any]) -> bytes:
    """One entry of `metadata_props` as a field of a model."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return wire.bytes_field(MODEL_METADATA, wire.bytes_field(1, key.encode()) + wire.bytes_field(2, text.encode()))


def calibrated_heads(model: ModelFile) -> tuple[CalibratedHead, ...]:
    """The calibrated heads of a patched model; none if it is not patched.

    Raises
    ------
    ModelError
        The entry is there, but cannot be read.
    """
    document = _entry(model, CALIBRATION_KEY)
    if document is None:
        return ()
    try:
        return tuple(_calibrated_head(entry) for entry in document["heads"])
    except (KeyError, TypeError, ValueError):
        raise _damaged(model, CALIBRATION_KEY) from None


def undo_of(model: ModelFile) -> Undo:
    """How to take the patch out.

    Raises
    ------
    ModelError
        The model is not patched, or the entry cannot be read.
    """
    document = _entry(model, UNDO_KEY)
    if document is None:
        raise ModelError(
            f"{model.name} was not patched by onnxcal: there is nothing to take out",
            hint="pass a file that onnxcal calibrate or onnxcal patch wrote",
        )
    try:
        return Undo(document["edit"], str(document["sha256"]))
    except (KeyError, TypeError):
        raise _damaged(model, UNDO_KEY) from None


def with_metrics(calibration: Mapping[str, Any], metrics: RecordedMetrics | None) -> dict[str, Any]:
    """A calibration as JSON data, and its scores if they are known: what `CalibratedHead.calibration` holds."""
    return {**calibration, **({} if metrics is None else {"metrics": RecordedMetrics.of(metrics).as_json()})}


def recorded_metrics(model: ModelFile, head: CalibratedHead) -> RecordedMetrics | None:
    """The scores that a patched model carries of a head; None if there are none, as where T was given.

    Raises
    ------
    ModelError
        They cannot be read.
    """
    values = head.calibration.get("metrics")
    if values is None:
        return None
    try:
        return RecordedMetrics.from_dict(values)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _damaged(model, CALIBRATION_KEY) from None


def version_of(model: ModelFile) -> str:
    """The onnxcal that patched a model; empty if none did."""
    return str((_entry(model, CALIBRATION_KEY) or {}).get("version", ""))


def is_ours(key: str) -> bool:
    """Whether a metadata key is onnxcal's, and goes when the patch is taken out."""
    return key in (CALIBRATION_KEY, UNDO_KEY)


def _entry(model: ModelFile, key: str) -> dict[str, Any] | None:
    values = [prop.value for prop in model.skeleton.metadata_props if prop.key == key]
    if not values:
        return None
    try:
        document = json.loads(values[-1])
    except ValueError:
        raise _damaged(model, key) from None
    if not isinstance(document, dict):
        raise _damaged(model, key)
    if document.get("format") != FORMAT:
        raise ModelError(
            f"{model.name} was patched by another version of onnxcal ({document.get('version', 'unknown')})",
            hint="use that version, or start from the model it was made from",
        )
    return document


def _calibrated_head(entry: Mapping[str, Any]) -> CalibratedHead:
    """Raises KeyError, TypeError or ValueError where something is missing or of another type."""
    head, calibration, name = entry["head"], entry["calibration"], entry["output_name"]
    form, temperature_input = entry.get("form", "division"), entry.get("temperature_input")
    typed = (
        isinstance(head["output"], str)
        and head["task"] in TASKS
        and head["activation"] in ACTIVATIONS
        and type(head["axis"]) is int
        and type(calibration["temperature"]) in (int, float)
        and (name is None or isinstance(name, str))
        and type(entry["keep_logits"]) is bool
        and form in get_args(Form)
        and (temperature_input is None or isinstance(temperature_input, str))
    )
    if not typed:
        raise TypeError("a value has another type")
    return CalibratedHead(dict(head), dict(calibration), name, entry["keep_logits"], form, temperature_input)


def _damaged(model: ModelFile, key: str) -> ModelError:
    return ModelError(
        f"the metadata entry {key} of {model.name} cannot be read", hint="start from the model it was made from"
    )


def unpatched_name(model: ModelFile, head: str | None) -> str | None:
    """What an output of a patched model was called before."""
    renamed = {entry.output_name: str(entry.head["output"]) for entry in calibrated_heads(model) if entry.output_name}
    return renamed.get(head, head) if head is not None else None
