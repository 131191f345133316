"""MNN, converted and run in float32.

The converter is called as the module `_tools`: the package's command `mnnconvert` installs packages and reports home.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.inference.runtimes.parts import Distribution
from onnxcal.inference.runtimes.runtime import Conversion, Job, Program, Runtime

SUFFIX = ".mnn"


def convert(model: str, target: str, *, compress: bool = False) -> None:
    """Write an ONNX model as .mnn, in float32; with float16 weights if `compress`.

    Raises
    ------
    RuntimeError
        MNN cannot convert it; why stands on stderr.
    """
    import _tools

    words = ["mnnconvert", "-f", "ONNX", "--modelFile", model, "--MNNModel", target, "--bizCode", "onnxcal"]
    _tools.mnnconvert([*words, "--fp16"] if compress else words)
    if not os.path.isfile(target):
        raise RuntimeError("MNN cannot convert the model")


class _Loaded:
    def __init__(self, job: Job) -> None:
        import MNN

        self._mnn = MNN
        path = os.fspath(job.model)
        if job.model.suffix != SUFFIX:
            path = os.fspath(job.folder / f"{job.model.stem}{SUFFIX}")
            convert(os.fspath(job.model), path)
        self._net = MNN.Interpreter(path)
        self._session = self._net.createSession({"precision": "high", "numThread": 1})
        if self._session is None:
            raise RuntimeError("MNN cannot make a session of the model")
        self._outputs = job.outputs
        self._shapes: dict[str, tuple[int, ...]] = {}

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[Any]:
        mnn, layout = self._mnn, self._mnn.Tensor_DimensionType_Caffe
        inputs = self._net.getSessionInputAll(self._session)
        shapes = {name: array.shape for name, array in feeds.items()}
        if shapes != self._shapes:
            for name, shape in shapes.items():
                self._net.resizeTensor(inputs[name], shape)
            self._net.resizeSession(self._session)
            self._shapes = shapes
        for name, array in feeds.items():
            host = _narrowed(name, array)
            inputs[name].copyFrom(mnn.Tensor(host.shape, self._kind(host.dtype), host, layout))
        self._net.runSession(self._session)
        found = self._net.getSessionOutputAll(self._session)
        tensors = [found[name] for name in self._outputs] if set(self._outputs) <= set(found) else found.values()
        return [self._array(tensor) for tensor in tensors]

    def _kind(self, dtype: np.dtype[Any]) -> Any:
        kinds = {"float32": "Float", "int32": "Int", "uint8": "Uint8"}
        if dtype.name not in kinds:
            raise TypeError(f"MNN takes no inputs of {dtype}")
        return getattr(self._mnn, f"Halide_Type_{kinds[dtype.name]}")

    def _array(self, tensor: Any) -> NDArray[Any]:
        shape = tensor.getShape()
        kind = tensor.getDataType()
        dtype = np.int32 if kind == self._mnn.Halide_Type_Int else np.float32
        host = self._mnn.Tensor(shape, kind, np.zeros(shape, dtype), self._mnn.Tensor_DimensionType_Caffe)
        tensor.copyToHostTensor(host)
        array: NDArray[Any] = np.array(host.getNumpyData(), dtype).reshape(shape)
        return array


def _narrowed(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """What MNN is to be given for an input: its converter makes 32 bits of integers of 64."""
    if array.dtype != np.int64:
        return array
    limits = np.iinfo(np.int32)
    if array.size and not limits.min <= array.min() <= array.max() <= limits.max:
        raise ValueError(f"MNN has integers of 32 bits, and input '{name}' has larger ones")
    return array.astype(np.int32)


def _load(job: Job) -> Program:
    return _Loaded(job)


def _convert(conversion: Conversion) -> None:
    convert(os.fspath(conversion.job.model), os.fspath(conversion.target), compress=conversion.compress)


RUNTIME = Runtime(
    name="mnn",
    what="MNN, in float32",
    parts=(Distribution(("mnn",)),),
    install="pip install 'onnxcal[mnn]'",
    load=_load,
    convert=_convert,
)
