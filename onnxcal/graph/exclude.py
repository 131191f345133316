"""Which nodes of a patched model later conversions must leave in float."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from onnxcal.errors import ModelError
from onnxcal.graph.detect import find_head
from onnxcal.graph.metadata import CalibratedHead, calibrated_heads
from onnxcal.graph.modelfile import ModelFile, ModelLike, open_model
from onnxcal.graph.plan import DIVIDE, role_of
from onnxcal.graph.tails import Hints
from onnxcal.graph.view import GraphView

if TYPE_CHECKING:
    import onnx


def nodes_to_exclude(model: ModelLike) -> tuple[str, ...]:
    """Names of the nodes that a quantiser must leave alone, or T is rounded to a few bits: from the logits on.

    For the argument of that name of onnxruntime's `quantize_static`, and for `node_block_list` of float16 converters.
    Those are the nodes that onnxcal put in, and what stands between them (or the logits, where T is folded) and the
    output. Of nodes without a name no quantiser can be told: they are left out, with a `UserWarning`.

    Parameters
    ----------
    model : the patched model; of one that is not patched there are none.

    Raises
    ------
    ModelError
        The file cannot be read.
    """
    nodes = after_logits(open_model(model))
    nameless = ", ".join(dict.fromkeys(node.op_type for node in nodes if not node.name))
    if nameless:
        said = f"{nameless} after the logits has no name, so no quantiser can be told to leave it in float"
        warnings.warn(f"{said}: name the nodes of the model, then calibrate it", stacklevel=2)
    return names_of(nodes)


def names_of(nodes: Sequence[onnx.NodeProto]) -> tuple[str, ...]:
    """The names of nodes that have one."""
    return tuple(node.name for node in nodes if node.name)


def after_logits(file: ModelFile) -> list[onnx.NodeProto]:
    """The nodes that onnxcal put into a patched model, and what stands between them and the calibrated outputs."""
    view = GraphView(file)
    nodes = {i for i, node in enumerate(view.graph.node) if role_of(node) is not None}
    for entry in calibrated_heads(file):
        output = entry.output_name or entry.head["output"]
        above = _above(view, output)
        if entry.form == "folded":
            logits = _logits(file, output, entry)  # or an optional input that is left out, which has no name either
            starts = [i for i in view.readers(logits) if i in above] if logits else []
        else:
            starts = [i for i in above if role_of(view.graph.node[i]) == DIVIDE]
        below = view.depend_on([name for i in starts for name in view.graph.node[i].output])
        nodes |= {i for i in above if not below.isdisjoint(view.graph.node[i].output)}
    return [view.graph.node[i] for i in sorted(nodes)]


def _above(view: GraphView, tensor: str) -> set[int]:
    """The nodes that a tensor is computed by."""
    above, pending = set[int](), [tensor]
    while pending:
        producer = view.producer(pending.pop())
        if producer is not None and producer[0] not in above:
            above.add(producer[0])
            pending += producer[1].input
    return above


def _logits(file: ModelFile, output: str, entry: CalibratedHead) -> str:
    """The tensor with the logits of a head that T is folded into; empty if it cannot be found any more."""
    activation = entry.head["activation"]
    hints = Hints(entry.head["task"], entry.head["axis"], None if activation == "none" else activation)
    try:
        return find_head(file, output, hints).logits
    except ModelError:
        return ""
