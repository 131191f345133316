"""Whose fault it is that a calibrated model is wrong in a runtime: the runtime's, or the patch's."""

from __future__ import annotations

from onnxcal.verification.checks import Blame
from onnxcal.verification.side import Side
from onnxcal.verification.tolerances import Precision

_BODIES = {"8-bit": "quantised body", "float16": "float16 body", "bfloat16": "bfloat16 body"}


def blame(before: Side, after: Side, tail_error: float, spread: float, precision: Precision) -> tuple[Blame, str]:
    """Who is to blame for `after`, which failed; and why, in a few words.

    Parameters
    ----------
    before, after : the unpatched and the patched model in the runtime.
    tail_error : largest difference of the patched outputs from what the runtime's own unpatched outputs are when
        calibrated in float64; infinite if that is not known.
    spread : how far onnxruntime itself moves on this model.
    precision : of the model.
    """
    body = _BODIES.get(precision, "model")
    if after.failed is not None:
        if before.failed is not None:
            return "runtime", f"does not run before or after: {after.failed}"
        return "patch", f"runs the unpatched model, but not the patched one: {after.failed}"
    if before.failed is not None:
        return "unknown", f"wrong, and the unpatched model does not run here: {before.failed}"
    if not before.passed_with(spread):
        return "runtime", f"wrong before and after: this runtime mis-runs the {body}"
    if tail_error <= after.worst.tolerance:
        return "runtime", f"small errors before, which T = {after.worst.temperature:.3g} enlarges: those of the {body}"
    return "patch", "wrong only after: the patch"
