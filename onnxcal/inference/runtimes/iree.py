"""IREE, compiled for this machine's CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.inference.runtimes.parts import Distribution
from onnxcal.inference.runtimes.runtime import Job, Program, Runtime


class _Loaded:
    def __init__(self, job: Job) -> None:
        import iree.runtime
        from iree.compiler.tools import compile_file
        from iree.compiler.tools.import_onnx.__main__ import main as import_onnx
        from iree.compiler.tools.import_onnx.__main__ import parse_arguments

        target = job.folder / f"{job.model.stem}.mlir"
        import_onnx(parse_arguments([os.fspath(job.model), "-o", os.fspath(target)]))
        compiled = compile_file(
            os.fspath(target),
            target_backends=["llvm-cpu"],
            input_type="onnx",
            extra_args=["--iree-llvmcpu-target-cpu=host", "--iree-input-demote-f64-to-f32=false"],
        )
        module = iree.runtime.load_vm_flatbuffer(compiled, driver="local-task")
        names = [n for n in module.vm_module.function_names if not n.startswith("__") and not n.endswith("$async")]
        self._main = module[names[0]]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[Any]:
        results = self._main(*feeds.values())
        return [np.asarray(one) for one in (results if isinstance(results, (list, tuple)) else [results])]


def _load(job: Job) -> Program:
    return _Loaded(job)


RUNTIME = Runtime(
    name="iree",
    what="IREE on the CPU",
    parts=(Distribution(("iree-base-runtime",)), Distribution(("iree-base-compiler",))),
    install="pip install 'onnxcal[iree]'",
    load=_load,
)
