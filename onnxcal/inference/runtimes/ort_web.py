"""onnxruntime-web: WebAssembly, as in a browser, but run by Node.js. `ort_web.mjs` is the other end."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.inference.runtimes.parts import Command, NodePackage
from onnxcal.inference.runtimes.runtime import Job, Program, Runtime

NODE = Command(("node", "nodejs"))
PACKAGE = NodePackage("onnxruntime-web")


class _Loaded:
    def __init__(self, job: Job) -> None:
        from onnxcal.graph.external import external_locations
        from onnxcal.graph.modelfile import open_model

        node, package = NODE.path(), PACKAGE.folder(job.home)
        if node is None or package is None:
            raise FileNotFoundError("Node.js or onnxruntime-web is not there any more")
        script = Path(__file__).with_name("ort_web.mjs")
        self._process = subprocess.Popen([node, script, package], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        external = [
            {"path": location, "data": os.fspath(job.model.parent / location)}
            for location in external_locations(open_model(job.model))
        ]
        self._ask({"load": os.fspath(job.model), "external": external}, [])

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[Any]:
        arrays = [np.ascontiguousarray(array) for array in feeds.values()]
        if any(array.dtype.kind not in "biuf" for array in arrays):
            raise TypeError("onnxruntime-web is given tensors of numbers only")
        tensors = [
            {"name": name, "type": array.dtype.name, "dims": array.shape, "size": array.nbytes}
            for name, array in zip(feeds, arrays, strict=True)
        ]
        return self._ask({"tensors": tensors}, [array.tobytes() for array in arrays])

    def _ask(self, request: Mapping[str, Any], data: Sequence[bytes]) -> list[NDArray[Any]]:
        requests, results = self._process.stdin, self._process.stdout
        assert requests is not None
        assert results is not None
        requests.write(b"".join([json.dumps(request).encode(), b"\n", *data]))
        requests.flush()
        line = results.readline()
        if not line:
            raise RuntimeError("Node.js ended")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return [_array(results.read(one["size"]), one["type"], one["dims"]) for one in answer["tensors"]]


def _array(data: bytes, kind: str, shape: Sequence[int]) -> NDArray[Any]:
    if kind == "string":
        return np.array(json.loads(data), object).reshape(shape)
    return np.frombuffer(data, kind).reshape(shape)


def _load(job: Job) -> Program:
    return _Loaded(job)


RUNTIME = Runtime(
    name="ort-web",
    what="onnxruntime-web (WebAssembly) in Node.js",
    parts=(PACKAGE, NODE),
    install="npm install onnxruntime-web (here or in a folder above)",
    load=_load,
)
