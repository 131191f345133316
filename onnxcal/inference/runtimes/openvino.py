"""OpenVINO on the CPU, in float32; and at the precision that it takes by default, which may be bfloat16."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from onnxcal.inference.runtimes.parts import Distribution
from onnxcal.inference.runtimes.runtime import Conversion, Job, Program, Runtime, Setting

F32 = "f32 hint"


def convert(conversion: Conversion) -> None:
    """Write the .xml and .bin of a model, with the calibration in its `rt_info`."""
    import openvino

    model = openvino.convert_model(os.fspath(conversion.job.model))
    for key, text in conversion.metadata.items():
        model.set_rt_info(text, key.split("."))
    openvino.save_model(model, os.fspath(conversion.target), compress_to_fp16=conversion.compress)


class _Loaded:
    def __init__(self, job: Job) -> None:
        import openvino

        core = openvino.Core()
        config = {"INFERENCE_PRECISION_HINT": "f32"} if job.setting == F32 else {}
        self._model = core.compile_model(core.read_model(os.fspath(job.model)), "CPU", config)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[Any]:
        results = self._model(list(feeds.values()))
        return [results[i] for i in range(len(self._model.outputs))]


def _load(job: Job) -> Program:
    return _Loaded(job)


RUNTIME = Runtime(
    name="openvino",
    what="OpenVINO on the CPU",
    parts=(Distribution(("openvino",)),),
    install="pip install 'onnxcal[openvino]'",
    load=_load,
    convert=convert,
    settings=lambda: (Setting(F32), Setting("default precision", counts=False)),
)
