"""Whose fault it is that a calibrated model is wrong in a runtime: the runtime's, or the patch's."""

from __future__ import annotations

from typing import Literal, TypeAlias

from onnxcal.verification.checks import Blame
from onnxcal.verification.elsewhere import LARGEST_SPREAD
from onnxcal.verification.side import Side
from onnxcal.verification.tolerances import Precision

RightFrom: TypeAlias = Literal["probabilities", "logits"]
"""From which of a runtime's unpatched values the patch makes there what it should."""

_BODIES = {"8-bit": "quantised body", "float16": "float16 body", "bfloat16": "bfloat16 body"}


def blame(
    before: Side, after: Side, tail: RightFrom | None, precision: Precision, *, changed: bool
) -> tuple[Blame, str]:
    """Who is to blame for `after`, which failed; and why, in a few words.

    Parameters
    ----------
    before, after : the unpatched and the patched model in the runtime.
    tail : whether the patch does there what it should, with values that may be wrong themselves.
    precision : of the model.
    changed : whether the patched file was changed after it was calibrated.
    """
    body = _BODIES.get(precision, "model")
    if after.failed is not None:
        if before.failed is None:
            return "patch", f"runs the unpatched model, but not the patched one: {after.failed}"
        if after.malformed and before.malformed:
            return "runtime", f"wrong before and after: {after.failed}"
        return "runtime", f"does not run before or after: {after.failed}"
    if before.failed is not None:
        return "unknown", f"wrong, and the unpatched model does not run here: {before.failed}"
    if tail is not None and after.within_spread and after.spread > LARGEST_SPREAD:
        said = f"not to be told: without optimisations, onnxruntime's own probabilities move by {after.spread:.2g}"
        narrow = " (8-bit sums saturate on some CPUs: quantise with reduce_range)" if precision == "8-bit" else ""
        return "unknown", said + narrow
    if not before.passed:
        return "runtime", f"wrong before and after: this runtime mis-runs the {body}"
    if tail == "logits":
        return "runtime", (
            f"its logits are wrong before and after, which unpatched probabilities near 0 and 1 do not show: this "
            f"runtime mis-runs the {body}"
        )
    if tail == "probabilities":
        return "runtime", f"small errors before, which T = {after.worst.temperature:.3g} enlarges: those of the {body}"
    return "patch", "wrong only after: the patch" + (", or what changed the file since" if changed else "")
