"""Models of the usual libraries, put through the usual converters: data, references and checks that these tests share.

The truth is what the library itself says of the same inputs, in float64; none of it goes through onnxcal.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax
from sklearn import datasets
from sklearn.model_selection import train_test_split

import onnxcal

SMALLEST_PROBABILITY = 2.0**-23
"""What a probability counts as at least where its logarithm serves as logit."""
Outputs = dict[str, Any]
Reference = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Split:
    """Inputs and labels to train on, and others to calibrate on; inputs are float32."""

    x_train: np.ndarray
    y_train: np.ndarray
    x: np.ndarray
    y: np.ndarray


def split(x: np.ndarray, y: np.ndarray) -> Split:
    x_train, x_valid, y_train, y_valid = train_test_split(x.astype(np.float32), y, test_size=0.35, random_state=0)
    return Split(x_train, y_train, x_valid, y_valid)


@cache
def binary() -> Split:
    """Benign or malignant, by five of the thirty measurements: no model is always right."""
    data = datasets.load_breast_cancer()
    x = data.data[:, [0, 1, 4, 5, 8]]
    return split((x - x.mean(axis=0)) / x.std(axis=0), data.target)


@cache
def multiclass() -> Split:
    """Which of ten digits, by two rows of the picture; values are multiples of 1/16 in [0, 1]."""
    data = datasets.load_digits()
    return split(data.data[:, 16:32] / 16, data.target)


@cache
def multilabel() -> Split:
    """Odd or not, large or not, divisible by three or not."""
    data = multiclass()
    return Split(data.x_train, three_labels(data.y_train), data.x, three_labels(data.y))


@cache
def pictures() -> Split:
    """Which of ten digits, by the whole picture, N × 1 × 8 × 8."""
    data = datasets.load_digits()
    return split(data.images[:, None] / 16, data.target)


def three_labels(digits: np.ndarray) -> np.ndarray:
    return np.stack([digits % 2, digits > 4, digits % 3 == 0], axis=1).astype(np.int64)


def softmax(z: np.ndarray, axis: int = 1) -> np.ndarray:
    return np.exp(log_softmax(z, axis=axis))


def columns(s: np.ndarray) -> np.ndarray:
    """The two columns [1 − σ(s), σ(s)] of a binary score."""
    return np.stack([expit(-s), expit(s)], axis=1)


def margins(s: np.ndarray) -> np.ndarray:
    """The two columns [−s, s] of a binary score."""
    return np.stack([-s, s], axis=1)


def log_of(p: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(p, SMALLEST_PROBABILITY))


def best_temperature(z: np.ndarray, y: np.ndarray) -> float:
    """The T that minimises the NLL: of a softmax over axis 1 for class indices, of sigmoids for as many 0/1 labels."""
    z = np.asarray(z, np.float64)
    if y.size == z.size:
        return _minimum(lambda t: _sigmoid_nll(z / t, y.reshape(z.shape)))
    return _minimum(lambda t: -np.take_along_axis(log_softmax(z / t, axis=1), np.expand_dims(y, 1), axis=1).mean())


def _sigmoid_nll(z: np.ndarray, y: np.ndarray) -> float:
    return float((np.logaddexp(0, z) - y * z).mean())


def _minimum(nll: Callable[[float], float]) -> float:
    found = minimize_scalar(lambda log_t: nll(np.exp(log_t)), bounds=(-6, 6), method="bounded", options={"xatol": 1e-9})
    return float(np.exp(found.x))


@contextmanager
def quiet() -> Iterator[None]:
    """Warnings of other people's code are not errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def run(model: bytes, x: np.ndarray) -> Outputs:
    """All outputs of a model with one input, for all samples at once."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: x}), strict=True))


def tapped(model: bytes, tensor: str, x: np.ndarray) -> np.ndarray:
    """A tensor inside a model; what kind of output it is, onnxruntime finds out."""
    proto = onnx.ModelProto.FromString(model)
    if tensor not in {output.name for output in proto.graph.output}:
        proto.graph.output.add(name=tensor)
    return run(proto.SerializeToString(), x)[tensor]


def last_node(model: bytes, *op_types: str) -> onnx.NodeProto:
    """The last node of one of these kinds in the file."""
    return [node for node in onnx.ModelProto.FromString(model).graph.node if node.op_type in op_types][-1]


def table(outputs: Outputs, names: Collection[str]) -> np.ndarray:
    """The values of one output, or of one output per class; a sequence of maps becomes a row per map."""
    if len(names) > 1:
        return np.stack([outputs[name].reshape(-1) for name in names], axis=1)
    (value,) = (outputs[name] for name in names)
    if isinstance(value, list):
        return np.array([list(row.values()) for row in value])
    return value


@dataclass
class Conversion:
    """A converted model, and what is true of it."""

    model: bytes
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    """The library's own scores, float64: class axis 1."""
    form: Reference = softmax
    """What the output holds, as a function of the scores."""
    task: str = "multiclass"
    activation: str = "softmax"
    outputs: Collection[str] = ()
    """Outputs that hold probabilities; by default the head's."""
    raw: Reference | None = None
    """What the output held before, where that was no probabilities."""
    options: dict[str, Any] = field(default_factory=dict)
    """What the user has to say."""
    tolerance: float = 2e-5
    """Of probabilities: absolute, and relative."""
    temperature_tolerance: float = 1e-5
    """Relative."""
    converter_tolerance: float = 1e-4
    """How far the converted model may be from the library's before calibration; not what is tested here."""


def assert_calibrated(conversion: Conversion, folder: Path) -> onnxcal.pipeline.CalibrateResult:
    """Calibrate, and hold temperature, head and every output against the library's own scores."""
    expected, z = conversion, conversion.z
    path, calibrated = folder / "model.onnx", folder / "calibrated.onnx"
    path.write_bytes(expected.model)
    before = run(expected.model, expected.x)
    assert_converted(conversion, before)

    result = onnxcal.calibrate(path, (expected.x, expected.y), output=calibrated, **expected.options)
    after = run(calibrated.read_bytes(), expected.x)
    temperature = result.calibration.temperature

    head = result.head
    assert result.verification.passed, [check for check in result.verification.checks if not check.passed]
    assert (head.task, head.activation) == (expected.task, expected.activation), f"{head} was found"
    np.testing.assert_allclose(
        temperature, best_temperature(z, expected.y), rtol=expected.temperature_tolerance, err_msg="the temperature"
    )
    names = expected.outputs or [head.output]
    assert list(before) == list(after), f"outputs are {list(after)} now"
    for name in before:
        assert_same_kind(before[name], after[name])
        if name not in names:
            assert_identical(before[name], after[name], name)
    np.testing.assert_allclose(
        table(after, names), expected.form(z / temperature), rtol=expected.tolerance, atol=expected.tolerance
    )
    assert path.read_bytes() == expected.model
    return result


def assert_converted(conversion: Conversion, before: Outputs) -> None:
    """The converter did its work: otherwise the library's scores say nothing about the converted model."""
    names = conversion.outputs or [next(name for name, value in before.items() if _is_float(value))]
    held = (conversion.raw or conversion.form)(conversion.z)
    np.testing.assert_allclose(
        table(before, names), held, rtol=conversion.converter_tolerance, atol=conversion.converter_tolerance
    )


def assert_same_kind(before: Any, after: Any) -> None:
    assert type(before) is type(after)
    if isinstance(before, list):
        assert [row.keys() for row in before] == [row.keys() for row in after]
    else:
        assert (before.dtype, before.shape) == (after.dtype, after.shape)


def assert_identical(before: Any, after: Any, name: str) -> None:
    same = before.tolist() == after.tolist() if before.dtype == object else before.tobytes() == after.tobytes()
    assert same, f"output '{name}' changed"


def says_log_probabilities(result: onnxcal.pipeline.CalibrateResult) -> bool:
    """Whether the user is told that logarithms of probabilities were calibrated."""
    return any(re.search(r"log-?probabilit|logarithm", warning) for warning in result.warnings)


def _is_float(value: Any) -> bool:
    return isinstance(value, list) or value.dtype.kind == "f"
