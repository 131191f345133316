"""What the patch does in a runtime, apart from what the runtime makes of the model.

The patched outputs are held against the runtime's own unpatched ones, calibrated in float64. Probabilities that are 0
or 1, or rounded to 8 bits, do not say what their logits were: then the unpatched model is run there once more, with its
logits as outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx.helper

from onnxcal.graph import wire
from onnxcal.graph.mapped import ModelBytes
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.skeleton import GRAPH_OUTPUT, MODEL_GRAPH
from onnxcal.graph.view import GraphView
from onnxcal.inference.expected import activated, logits_of
from onnxcal.verification.elsewhere import RuntimeComparison, difference
from onnxcal.verification.reference import Seen, logits_form
from onnxcal.verification.side import Malformed, Values, as_logits


class Tails:
    """Running totals, one a head: how far patched outputs are from what the patch should make of unpatched ones.

    Parameters
    ----------
    comparisons : of the patched model.
    """

    def __init__(self, comparisons: Sequence[RuntimeComparison]) -> None:
        self._comparisons = comparisons
        self._errors = [0.0] * len(comparisons)

    @property
    def right(self) -> bool:
        """Whether every head's is within tolerance."""
        return all(error <= c.tolerance for error, c in zip(self._errors, self._comparisons, strict=True))

    def add(self, before: Values | None, after: Values, *, raw: bool = False) -> None:
        """Take in a batch of unpatched values, which are logits if `raw`, and patched ones; None if there are none."""
        if before is None:
            self._errors = [np.inf] * len(self._errors)
            return
        for number, (comparison, theirs, ours) in enumerate(zip(self._comparisons, before, after, strict=True)):
            head = comparison.head
            z = as_logits(theirs, head, raw=raw or head.activation == "none")
            with np.errstate(all="ignore"):
                expected = activated(z, head, comparison.temperature)
            error = difference(ours, expected, head)
            known = error[~np.isnan(ours) & ~np.isnan(theirs)]
            largest = float(np.where(np.isnan(known), np.inf, known).max(initial=0.0))
            self._errors[number] = max(self._errors[number], largest)


def showing_logits(original: ModelFile, comparisons: Sequence[RuntimeComparison]) -> tuple[ModelFile, Sequence[str]]:
    """The unpatched model with its logits among its outputs, and the name of each head's."""
    form, names = logits_form(original, [c.head for c in comparisons])
    view, there = GraphView(form), {value.name for value in form.graph.output}
    added = b""
    for name in dict.fromkeys(names):
        if name not in there:
            kind = view.type_of(name)
            value = onnx.helper.make_tensor_value_info(name, kind.elem_type, kind.shape)
            added += wire.bytes_field(GRAPH_OUTPUT, value.SerializeToString())
    data = form.to_bytes() + wire.bytes_field(MODEL_GRAPH, added)  # messages that follow each other are merged
    return ModelFile(ModelBytes(original.name, data, None, original.folder)), names


def read_logits(
    outputs: Mapping[str, Any], names: Sequence[str], comparisons: Sequence[RuntimeComparison], seen: Seen
) -> Values:
    """The logits of each head among a runtime's outputs, in the layout of the reference's; infinite if no numbers.

    Raises
    ------
    Malformed
        They are something else.
    """
    found = []
    for name, comparison, z in zip(names, comparisons, seen.logits, strict=True):
        there = np.asarray(outputs[name])
        if there.size != np.size(z) or there.dtype.kind not in "fV":
            raise Malformed(f"'{name}' has shape {there.shape} and type {there.dtype}")
        logits = np.asarray(logits_of(there.reshape(np.shape(z)).astype(np.float64), comparison.head))
        found.append(np.where(np.isnan(logits), np.inf, logits))
    return found
