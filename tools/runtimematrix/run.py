"""One graph through all runtimes, by `onnxcal.verify` itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnxcal
from onnxcal.verification import RuntimeCheck, verify
from runtimematrix.graphs import FORMS, TEMPERATURE, Graph

BATCH_SIZE = 8
"""Samples a run where a graph takes any number."""


@dataclass(frozen=True)
class Row:
    """What came of one graph."""

    graph: Graph
    """Which."""
    checks: tuple[RuntimeCheck, ...] = ()
    """One for each runtime and each way to run it."""
    refusal: str = ""
    """Why there is no patched model: what onnxcal said."""
    wrong: str = ""
    """Which of onnxcal's own checks said no, and why."""


def row(graph: Graph, runtimes: Sequence[str], timeout: float) -> Row:
    """Patch a graph, and run it before and after in each runtime."""
    model, data = graph.model(), graph.data()
    try:
        patched = onnxcal.patch(model, temperature=TEMPERATURE, **FORMS[graph.form]).proto  # type: ignore[arg-type]
        assert patched is not None
        verification = verify(
            model, patched, data, runtime=runtimes, runtime_samples=len(data), runtime_timeout=timeout,
            batch_size=BATCH_SIZE,
        ).verification  # fmt: skip
    except onnxcal.OnnxcalError as error:
        return Row(graph, refusal=error.message)
    own = [check for check in verification.checks if not check.name.startswith("runtime ") and not check.passed]
    return Row(graph, verification.runtimes[1:], wrong="; ".join(f"{check.name}: {check.detail}" for check in own))
