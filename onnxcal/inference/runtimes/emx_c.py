"""C for microcontrollers: emx-onnx-cgen writes it for one sample, and the system's compiler compiles it."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.inference.runtimes.parts import Command, Distribution
from onnxcal.inference.runtimes.runtime import Conversion, Job, Program, Runtime

if TYPE_CHECKING:
    import onnx

COMPILER = Command(("cc", "gcc", "clang"))
SUFFIX = ".c"
_FUNCTION = "classify"


def convert(model: onnx.ModelProto, target: Path) -> None:
    """Write a model of fixed shapes as one C file, its weights included."""
    from emx_onnx_cgen.compiler import Compiler, CompilerOptions

    del model.metadata_props[:]  # would be copied into a comment, where it may end one
    options = CompilerOptions(model_name=_FUNCTION, large_weight_threshold=0)  # weights stay in the C file
    target.write_text(Compiler(options).compile(model), encoding="utf-8")


class _Loaded:
    def __init__(self, job: Job) -> None:
        import onnx

        from onnxcal.inference.runtimes.static import with_shapes

        model = with_shapes(job.made_from or job.model, job.shapes)
        source, library = job.folder / f"{job.model.stem}.c", job.folder / f"{job.model.stem}.so"
        if job.model.suffix == SUFFIX:
            source = job.model
        else:
            convert(model, source)
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


def _convert(conversion: Conversion) -> None:
    from onnxcal.inference.runtimes.static import with_shapes

    convert(with_shapes(conversion.job.model, conversion.job.shapes), conversion.target)


RUNTIME = Runtime(
    name="emx-c",
    what="C by emx-onnx-cgen and your compiler",
    parts=(Distribution(("emx-onnx-cgen",)), COMPILER),
    install="pip install 'onnxcal[emx-c]' (and a C compiler, such as gcc)",
    load=_load,
    convert=_convert,
    single=True,
)
