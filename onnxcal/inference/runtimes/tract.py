"""tract, an inference engine in Rust for small devices."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from onnxcal.inference.runtimes.parts import Distribution
from onnxcal.inference.runtimes.runtime import Job, Program, Runtime


class _Loaded:
    def __init__(self, job: Job) -> None:
        import tract

        self._model = tract.onnx().load(os.fspath(job.model)).into_model().into_runnable()

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[Any]:
        return [tensor.to_numpy() for tensor in self._model.run(list(feeds.values()))]


def _load(job: Job) -> Program:
    return _Loaded(job)


RUNTIME = Runtime(
    name="tract",
    what="tract, in Rust",
    parts=(Distribution(("tract",)),),
    install="pip install 'onnxcal[tract]'",
    load=_load,
)
