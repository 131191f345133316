"""`--to tflite-recipe`: how to make a LiteRT model by hand, and how to see that it is right. Nothing is converted."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from onnxcal.errors import ModelError
from onnxcal.graph.metadata import CalibratedHead
from onnxcal.graph.modelfile import ModelFile
from onnxcal.verification.tolerances import RUNTIME_TOLERANCE, body_precision

_COPY = ".for-litert"
_TEXT = """\
# {name} as a LiteRT model

onnxcal did not convert or run this: onnx2tf needs TensorFlow, some gigabytes. Calibrated: {calibrated}.

In an environment of its own, and from a copy, for onnx2tf writes over the file that it is given:

```sh
pip install onnx2tf tensorflow ai-edge-litert onnxruntime
cp {quoted} {copy}
onnx2tf -i {copy} -o litert
```

Pictures in NCHW become NHWC, as inputs and as outputs; `-kat NAME` keeps an input as it is. Names stay (but `:` becomes
`__`), the order of outputs may not: go by name. Take the float32 file, and hold it against onnxruntime on your inputs:

```python
import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter

inputs = {{{inputs}}}  # one sample of each, as the .onnx file takes it
names = {names}
expected = onnxruntime.InferenceSession({path!r}).run(names, inputs)
litert = Interpreter({tflite!r}).get_signature_runner()
found = litert(**inputs)  # transpose what onnx2tf has transposed, here and below
for name, p in zip(names, expected, strict=True):
    np.testing.assert_allclose(found[name], p, rtol=0, atol={tolerance:g}, err_msg="do not ship it")
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
    names = [str(entry.output_name or entry.head["output"]) for entry in entries]
    constants = {tensor.name for tensor in model.graph.initializer}
    path = str(model.path or "model.onnx")
    stem = path.replace("\\", "/").rpartition("/")[2].removesuffix(".onnx")
    return _TEXT.format(
        name=model.name,
        path=path,
        quoted=shlex.quote(path),
        copy=shlex.quote(f"{path.removesuffix('.onnx')}{_COPY}.onnx"),
        calibrated=", ".join(
            f"'{name}' with T = {float(entry.calibration['temperature']):.6g}"
            for name, entry in zip(names, entries, strict=True)
        ),
        inputs=", ".join(f"{value.name!r}: ..." for value in model.graph.input if value.name not in constants),
        names=names,
        tflite=f"litert/{stem}{_COPY}_float32.tflite",
        tolerance=RUNTIME_TOLERANCE[precision],
    )
