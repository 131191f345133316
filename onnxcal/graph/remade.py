"""A patch as the metadata of a patched file record it: its heads, and the same patch made anew.

A file is what its metadata say if onnxcal, told the same of the original, writes the same bytes.
"""

from __future__ import annotations

from onnxcal.calibrators import Calibration
from onnxcal.errors import OnnxcalError
from onnxcal.graph.detect import find_head
from onnxcal.graph.head import Head
from onnxcal.graph.metadata import CalibratedHead, calibrated_heads, version_of
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.patch import Patch, make_patch
from onnxcal.graph.plan import HeadPatch
from onnxcal.graph.tails import Hints


def recorded_head(original: ModelFile, entry: CalibratedHead) -> Head:
    """The head of the unpatched model that a calibration was put before."""
    told = entry.head
    return find_head(original, told["output"], Hints(told["task"], told["axis"], told["activation"]))


def recorded_patch(original: ModelFile, patched: ModelFile, entry: CalibratedHead) -> HeadPatch:
    """What was done to one head of a patched file."""
    calibration = Calibration.from_dict(entry.calibration, where=f"the metadata of {patched.name}")
    head = recorded_head(original, entry)
    return HeadPatch(head, calibration.steps(), entry.output_name, entry.keep_logits, entry.form)


def remade(original: ModelFile, patched: ModelFile) -> Patch | None:
    """The patch that `patched` says it carries, made anew for `original`; None if onnxcal would make none of it."""
    try:
        entries = calibrated_heads(patched)
        patches = [(recorded_patch(original, patched, entry), entry.calibration) for entry in entries]
        return make_patch(original, patches, version=version_of(patched)) if patches else None
    except OnnxcalError:
        return None


def is_remade(original: ModelFile, patched: ModelFile) -> bool:
    """Whether `patched` is, byte for byte, what onnxcal writes for the calibration that it carries."""
    patch = remade(original, patched)
    return patch is not None and patch.equals(patched)
