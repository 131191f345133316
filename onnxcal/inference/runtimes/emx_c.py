"""C for microcontrollers: emx-onnx-cgen writes it for one sample, and the system's compiler compiles it."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.inference.runtimes.parts import Command, Distribution
from onnxcal.inference.runtimes.runtime import Job, Program, Runtime

COMPILER = Command(("cc", "gcc", "clang"))
_FUNCTION = "classify"


class _Loaded:
    def __init__(self, job: Job) -> None:
        import onnx
        from emx_onnx_cgen.compiler import Compiler, CompilerOptions

        from onnxcal.inference.runtimes.static import with_shapes

        model = with_shapes(job.model, job.shapes)
        del model.metadata_props[:]  # would be copied into a comment, where it may end one
        options = CompilerOptions(model_name=_FUNCTION, large_weight_threshold=0)  # weights stay in the C file
        source, library = job.folder / f"{job.model.stem}.c", job.folder / f"{job.model.stem}.so"
        source.write_text(Compiler(options).compile(model), encoding="utf-8")
        compiler = COMPILER.path()
        if compiler is None:
            raise FileNotFoundError("there is no C compiler")
        done = subprocess.run(
            [compiler, "-O1", "-std=c11", "-fPIC", "-shared", "-o", library, source, "-lm"],
            capture_output=True, text=True, check=False, cwd=job.folder,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"the C compiler failed: {done.stderr.strip().splitlines()[0]}")
        self._run = getattr(ctypes.CDLL(str(library)), _FUNCTION)
        self._run.restype = None
        self._outputs = [
            (
                [dim.dim_value for dim in value.type.tensor_type.shape.dim],
                onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
            )
            for value in model.graph.output
        ]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[Any]:
        results = [np.empty(shape, dtype) for shape, dtype in self._outputs]
        arrays = [np.ascontiguousarray(array) for array in feeds.values()] + results
        self._run(*(ctypes.c_void_p(array.ctypes.data) for array in arrays))
        return results


def _load(job: Job) -> Program:
    return _Loaded(job)


RUNTIME = Runtime(
    name="emx-c",
    what="C by emx-onnx-cgen and your compiler",
    parts=(Distribution(("emx-onnx-cgen",)), COMPILER),
    install="pip install 'onnxcal[emx-c]' (and a C compiler, such as gcc)",
    load=_load,
    single=True,
)
