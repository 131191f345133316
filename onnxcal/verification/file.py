"""What can be checked of a patched file without running it."""

from __future__ import annotations

import filecmp
import os

import onnx

from onnxcal.errors import ModelError
from onnxcal.graph.external import external_locations
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.patch import has_folded_weights, unpatched
from onnxcal.verification.checks import Check


def check_untouched(original: ModelFile, patched: ModelFile) -> Check:
    """Without its patch, the patched file is the original byte for byte; so is its external data."""
    name = "untouched bytes"
    try:
        same = unpatched(patched, original).sha256 == original.sha256
    except ModelError as error:
        return Check(name, False, None, None, error.message)
    if not same:
        return Check(name, False, None, None, "without its patch the file is not the original byte for byte")
    still = external_locations(patched)  # folded weights are in the file itself
    for location in (location for location in external_locations(original) if location in still):
        ours, theirs = (None if file.folder is None else file.folder / location for file in (patched, original))
        if ours is None or theirs is None or not filecmp.cmp(ours, theirs, shallow=False):
            return Check(name, False, None, None, f"external data '{location}' differ")
    weights = " but for the weights that T is folded into" if has_folded_weights(patched) else ""
    return Check(name, True, None, None, f"without its patch the file is the original byte for byte{weights}")


def check_checker(original: ModelFile, patched: ModelFile) -> Check:
    """onnx.checker says nothing of the patched model that it does not say of the original."""
    complaint = _checker_complaint(patched)
    if complaint is None:
        return Check("onnx.checker", True, None, None, "the patched model is well formed")
    if _checker_complaint(original) is not None:
        return Check("onnx.checker", True, None, None, f"the original already fails: {complaint}")
    return Check("onnx.checker", False, None, None, f"the original passes, the patched model fails: {complaint}")


def _checker_complaint(model: ModelFile) -> str | None:
    try:
        onnx.checker.check_model(os.fspath(model.path) if model.path is not None else model.to_bytes())
    except Exception as error:  # ValidationError, or whatever the C++ side throws
        return str(error).strip().splitlines()[0][:200]
    return None
