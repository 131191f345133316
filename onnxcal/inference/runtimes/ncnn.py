"""ncnn in float32, converted by pnnx for one sample; it has no axis of samples."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.inference.runtimes.parts import Distribution
from onnxcal.inference.runtimes.runtime import Conversion, Job, Program, Runtime

SUFFIX = ".param"


def convert(
    model: Path, shapes: Mapping[str, tuple[int, ...]], folder: Path, *, compress: bool = False
) -> tuple[Path, Path]:
    """The files .param and .bin of a model, in float32; with float16 weights if `compress`.

    Raises
    ------
    RuntimeError
        pnnx cannot convert it, or an input is not float32.
    """
    import onnx

    from onnxcal.inference.runtimes.static import with_weights

    spec = importlib.util.find_spec("pnnx")  # to import it would import torch
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    program = next((p for place in places for p in (Path(place, "pnnx"), Path(place, "pnnx.exe")) if p.is_file()), None)
    if program is None:
        raise RuntimeError("the package pnnx has no program for this system")
    stem = re.sub(r"\W", "_", model.stem) + "_whole"  # as pnnx names what it writes, a dozen files beside the model
    copy = folder / f"{stem}.onnx"
    proto = with_weights(model)  # pnnx makes a wrong model where it does not find external data
    for value in proto.graph.input:
        kind = value.type.tensor_type.elem_type
        if value.name in shapes and kind != onnx.TensorProto.FLOAT:
            name = onnx.TensorProto.DataType.Name(kind).lower()
            raise RuntimeError(f"its inputs are float32 here, and input '{value.name}' is {name}")
    copy.write_bytes(proto.SerializeToString())
    listed = ",".join(f"[{','.join(map(str, shape))}]f32" for shape in shapes.values())
    done = subprocess.run(
        [program, copy.name, f"inputshape={listed}", f"fp16={int(compress)}"],
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    param, weights = (folder / f"{stem}.ncnn.{suffix}" for suffix in ("param", "bin"))
    if done.returncode or not param.is_file():
        lines = (done.stderr + done.stdout).strip().splitlines() or ["no message"]
        raise RuntimeError(f"pnnx cannot convert the model: {lines[-1]}")
    return param, weights


class _Loaded:
    def __init__(self, job: Job) -> None:
        import ncnn

        if any(shape[:1] != (1,) for shape in job.shapes.values()):
            raise ValueError("ncnn has no axis of samples: the model is built for more than one")
        if job.model.suffix == SUFFIX:
            param, weights = job.model, job.model.with_suffix(".bin")
        else:
            param, weights = convert(job.model, job.shapes, job.folder)
        self._ncnn, self._count = ncnn, len(job.outputs)
        self._net = ncnn.Net()
        self._net.opt.num_threads = 1
        for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(self._net.opt, f"use_{option}", False)
        if self._net.load_param(os.fspath(param)) or self._net.load_model(os.fspath(weights)):
            raise RuntimeError("ncnn lacks an operator of the model")

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[Any]:
        with self._net.create_extractor() as extractor:
            for number, array in enumerate(feeds.values()):
                if array.dtype != np.float32:
                    raise TypeError(f"ncnn takes no inputs of {array.dtype}")
                extractor.input(f"in{number}", self._ncnn.Mat(np.ascontiguousarray(array[0])).clone())
            results = [extractor.extract(f"out{number}") for number in range(self._count)]
        if any(code for code, _ in results):
            raise RuntimeError("ncnn could not compute an output")
        return [np.array(result)[None] for _, result in results]


def _load(job: Job) -> Program:
    return _Loaded(job)


def _convert(conversion: Conversion) -> None:
    job = conversion.job
    param, weights = convert(job.model, job.shapes, job.folder, compress=conversion.compress)
    shutil.copyfile(param, conversion.target)
    shutil.copyfile(weights, conversion.target.with_suffix(".bin"))


RUNTIME = Runtime(
    name="ncnn",
    what="ncnn in float32, by way of pnnx",
    parts=(Distribution(("ncnn",)), Distribution(("pnnx",))),
    install="pip install 'onnxcal[ncnn]' && pip install --no-deps pnnx",
    load=_load,
    convert=_convert,
    single=True,
)
