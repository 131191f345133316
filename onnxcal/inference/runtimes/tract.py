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

        model = tract.onnx().load(os.fspath(job.model))
        for number in range(model.input_count()):
            *sizes, kind = str(model.input_fact(number)).split(",")
            if "?" in sizes:  # a size without a name, which tract wants to be told
                known = ("N", *job.shapes[model.input_name(number)][1:])
                told = [size if size != "?" else str(known[axis]) for axis, size in enumerate(sizes)]
                model.set_input_fact(number, ",".join((*told, kind)))
        self._model = model.into_model().into_runnable()

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
