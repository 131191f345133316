"""Apache TVM (Relax), compiled by LLVM for one sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from onnxcal.inference.runtimes.parts import Distribution
from onnxcal.inference.runtimes.runtime import Job, Program, Runtime


class _Loaded:
    def __init__(self, job: Job) -> None:
        import tvm
        from tvm import relax
        from tvm.relax.frontend.onnx import from_onnx

        from onnxcal.inference.runtimes.static import with_shapes

        model = with_shapes(job.model, job.shapes)
        shapes = {name: list(shape) for name, shape in job.shapes.items()}
        module = relax.transform.DecomposeOpsForInference()(from_onnx(model, shape_dict=shapes))
        self._tvm = tvm
        self._main = relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())["main"]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[Any]:
        results = self._main(*(self._tvm.runtime.tensor(array) for array in feeds.values()))
        return [one.numpy() for one in ([results] if hasattr(results, "numpy") else results)]


def _load(job: Job) -> Program:
    return _Loaded(job)


RUNTIME = Runtime(
    name="tvm",
    what="Apache TVM, compiled by LLVM",
    parts=(Distribution(("apache-tvm",)),),
    install="pip install 'onnxcal[tvm]'",
    load=_load,
    single=True,
)
