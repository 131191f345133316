"""`--to tflite-recipe`: how to make a LiteRT model by hand, and how to see that it is right. Nothing is converted."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from onnxcal.errors import ModelError
from onnxcal.graph.metadata import CalibratedHead
from onnxcal.graph.modelfile import ModelFile
from onnxcal.verification.tolerances import RUNTIME_TOLERANCE, body_precision

_TEXT = """\
# {name} as a LiteRT model

onnxcal did not convert or run this: onnx2tf needs TensorFlow, some gigabytes. Calibrated: {calibrated}.

In an environment of its own:

```sh
pip install onnx2tf tensorflow ai-edge-litert onnxruntime
onnx2tf -i {quoted} -o litert
```

Pictures in NCHW become NHWC; `-kat NAME` keeps an input as it is. Names of inputs and outputs change, their order does
not. Take the float32 file, and hold it against onnxruntime on inputs of yours:

```python
import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter

x = ...  # one sample in float32, as the .onnx file takes it; for `litert` transposed to NHWC if onnx2tf did that
expected = onnxruntime.InferenceSession({path!r}).run(None, {{{input!r}: x}})[{position}]
litert = Interpreter({tflite!r})
litert.resize_tensor_input(litert.get_input_details()[0]["index"], x.shape)
litert.allocate_tensors()
litert.set_tensor(litert.get_input_details()[0]["index"], x)
litert.invoke()
found = litert.get_tensor(litert.get_output_details()[{position}]["index"])
assert np.abs(found - expected).max() <= {tolerance:g}, "do not ship it"
```
"""


def recipe(model: ModelFile, entries: Sequence[CalibratedHead]) -> str:
    """The recipe for one model, as Markdown.

    Raises
    ------
    ModelError
        The model is quantised: onnx2tf converts such models without a word, and what comes out is wrong.
    """
    precision = body_precision(model)
    if precision == "8-bit":
        raise ModelError(
            f"{model.name} is quantised, and onnx2tf makes a wrong model of that without saying so",
            hint="calibrate the float model and convert that; let LiteRT's own converter quantise it",
        )
    outputs = [value.name for value in model.graph.output]
    names = [str(entry.output_name or entry.head["output"]) for entry in entries]
    constants = {tensor.name for tensor in model.graph.initializer}
    path = str(model.path or "model.onnx")
    stem = path.replace("\\", "/").rpartition("/")[2].removesuffix(".onnx")
    return _TEXT.format(
        name=model.name,
        path=path,
        quoted=shlex.quote(path),
        calibrated=", ".join(
            f"'{name}' with T = {float(entry.calibration['temperature']):.6g}"
            for name, entry in zip(names, entries, strict=True)
        ),
        input=next((value.name for value in model.graph.input if value.name not in constants), ""),
        position=outputs.index(names[0]),
        tflite=f"litert/{stem}_float32.tflite",
        tolerance=RUNTIME_TOLERANCE[precision],
    )
