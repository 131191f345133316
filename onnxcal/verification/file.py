"""What can be checked of a patched file without running it."""

from __future__ import annotations

import os

import onnx

from onnxcal.graph.diff import untouched
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.patch import has_folded_weights
from onnxcal.verification.checks import Check


def check_untouched(original: ModelFile, patched: ModelFile) -> Check:
    """The patched file is the original and its patch, byte for byte, and nothing else; so is its external data."""
    why = untouched(original, patched)
    weights = " but for the weights that T is folded into" if has_folded_weights(patched) else ""
    said = f"without its patch the file is the original byte for byte{weights}" if why is None else why
    return Check("untouched bytes", why is None, None, None, said)


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
