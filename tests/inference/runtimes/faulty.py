"""A runtime that is onnxruntime with a fault of one's choice, named by its setting."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from onnxcal.inference.runtimes import onnxruntime
from onnxcal.inference.runtimes.parts import Distribution
from onnxcal.inference.runtimes.runtime import Conversion, Job, Program, Runtime, Setting
from tests import builders

FAULT = "ONNXCAL_TEST_FAULT"


class _Faulty:
    def __init__(self, job: Job) -> None:
        self.fault, self.after = job.setting, "after" in job.model.stem
        if self.fault == "refuses":
            raise ValueError("this operator is not known")
        if self.fault == "refuses the patch" and self.after:
            raise ValueError("Div is not known")
        model = with_coarse_weights(job.model) if self.fault == "coarse weights" else job.model
        level = "off" if self.fault == "unoptimised" else "all"
        self.program = onnxruntime.RUNTIME.load(Job(model, job.shapes, job.outputs, level))

    def run(self, feeds: Mapping[str, np.ndarray]) -> Sequence[Any]:
        crashes = {"crashes", f"crashes on the {'patch' if self.after else 'original'}"}
        if self.fault in crashes:
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.fault == "takes one sample" and len(feeds["x"]) > 1:
            raise ValueError("a batch must be of 1")
        if self.fault == "hangs":
            time.sleep(60)
        if self.fault == "ends":
            os._exit(3)
        if self.fault == "prints":
            os.write(1, b"noise " * 1000)
            print("more noise")
        outputs = list(self.program.run(feeds))
        first = outputs[0]
        if self.fault == "garbage":
            outputs[0] = np.random.default_rng(0).random(first.shape).astype(first.dtype)
        if self.fault == "nan" or (self.fault == "nan by the patch" and self.after):
            outputs[0] = first.copy()
            outputs[0][1, 1] = np.nan
        if self.fault == "nan as logits":  # which are only asked for beside the outputs
            outputs[1:] = [np.full_like(each, np.nan) for each in outputs[1:]]
        if self.fault == "always a quarter":
            outputs[0] = np.full_like(first, 0.25)
        if self.fault == "fails on 1000":
            outputs[0] = np.where(feeds["x"][:, :1] == 1000, np.float32(0.25), first)
        if self.fault == "mixes the batch":
            outputs[0] = first[::-1].copy()
        if self.fault == "drops a class":
            outputs[0] = first[:, 1:].copy()
        if self.fault == "drops an output":
            outputs = outputs[1:]
        if self.fault == "ignores T" and self.after:  # as if it had dropped the Div of its own program
            sharper = first.astype(np.float64) ** 2
            outputs[0] = (sharper / sharper.sum(axis=1, keepdims=True)).astype(first.dtype)
        if self.fault == "slightly off":
            logits = np.log(np.maximum(first.astype(np.float64), 1e-300))
            logits[:, 0] += 3e-4 / (0.1 if self.after else 1.0)
            outputs[0] = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(first.dtype)
        if self.fault == "drops axes":
            outputs[0] = first.reshape(-1)
        return outputs


def with_coarse_weights(model: Path) -> Path:
    """As a runtime that computes in bfloat16 by itself."""
    proto = onnx.ModelProto.FromString(model.read_bytes())
    (w,) = (tensor for tensor in proto.graph.initializer if tensor.name == "w")
    bits = numpy_helper.to_array(w).view(np.uint32) & np.uint32(0xFFFF0000)
    w.CopyFrom(numpy_helper.from_array(bits.view(np.float32), "w"))
    return builders.save(proto, model.with_name(f"coarse-{model.name}"))


def load(job: Job) -> Program:
    return _Faulty(job)


def convert(conversion: Conversion) -> None:
    """The .onnx file itself, so that what is wrong is what `load` makes of it; or one with another patch."""
    if os.environ[FAULT] == "converter refuses":
        raise ValueError("Div is not known")
    if os.environ[FAULT] == "converter crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if os.environ[FAULT] in ("converter changes T", "converter drops the Div"):
        model = onnx.ModelProto.FromString(conversion.job.model.read_bytes())
        (divide,) = (node for node in model.graph.node if node.op_type == "Div")
        if os.environ[FAULT] == "converter drops the Div":
            divide.op_type = "Identity"
            del divide.input[1:]
        else:
            (t,) = (tensor for tensor in model.graph.initializer if tensor.name == divide.input[1])
            t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(t) * np.float32(1.01), t.name))
        conversion.target.write_bytes(model.SerializeToString())
    elif os.environ[FAULT] != "converter makes nothing":
        shutil.copyfile(conversion.job.model, conversion.target)


RUNTIME = Runtime(
    name="faulty",
    what="onnxruntime with a fault",
    parts=(Distribution(("onnxruntime",)),),
    install="pip install faulty",
    load=load,
    convert=convert,
    settings=lambda: (Setting(os.environ[FAULT]),),
)
