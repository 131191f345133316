"""onnx.reference, the operators as their specification says, in NumPy."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from onnxcal.inference.runtimes.parts import Distribution
from onnxcal.inference.runtimes.runtime import Job, Program, Runtime


class _Loaded:
    def __init__(self, job: Job) -> None:
        from onnx.reference import ReferenceEvaluator

        self._evaluator = ReferenceEvaluator(os.fspath(job.model))

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[Any]:
        return list(self._evaluator.run(None, dict(feeds)))


def _load(job: Job) -> Program:
    return _Loaded(job)


RUNTIME = Runtime(
    name="onnx-reference",
    what="onnx's own evaluator, in NumPy: slow",
    parts=(Distribution(("onnx",)),),
    install="pip install onnx",
    load=_load,
)
