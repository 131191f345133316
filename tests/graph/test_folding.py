"""T folded into weights: probabilities against float64, the weights against NumPy, everything else byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from scipy.special import expit, log_softmax, softmax

import onnxcal
from onnxcal.graph import wire
from onnxcal.graph.modelfile import open_model
from onnxcal.graph.patch import unpatched
from tests import builders

Node = helper.make_node
RNG = np.random.default_rng(3)
X = RNG.normal(size=(120, 6)).astype(np.float32)
IMAGES = RNG.normal(size=(30, 6, 4, 4)).astype(np.float32)
TAILS: dict[str, Callable[..., Any]] = {"Softmax": softmax, "LogSoftmax": log_softmax}


def weights(*shape: int, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def model(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    *,
    output: str = "probs",
    tail: str | None = "Softmax",
    classes: int = 4,
    image: bool = False,
    more: Sequence[onnx.ValueInfoProto] = (),
    ir_version: int = 8,
    opset: int = 17,
    dtype: int = TensorProto.FLOAT,
    listed: bool = False,
) -> onnx.ModelProto:
    """Nodes that make `logits` of `x`, and a tail that makes `output` of those."""
    tails = [Node(tail, ["logits"], [output], **({} if tail == "Sigmoid" else {"axis": 1}))] if tail else []
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    inputs = [helper.make_tensor_value_info("x", dtype, ["N", 6, 4, 4] if image else ["N", 6])]
    if listed:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in tensors]
    shape = ["N", classes, 4, 4] if image and "Flatten" not in {n.op_type for n in nodes} else ["N", classes]
    outputs = [helper.make_tensor_value_info(output, dtype, shape), *more]
    graph = helper.make_graph([*nodes, *tails], "g", inputs, outputs, tensors)
    return builders.model(graph, opset=opset, ir_version=ir_version)


def run(proto: onnx.ModelProto | bytes, feed: np.ndarray, *names: str) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    data = proto if isinstance(proto, bytes) else proto.SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return list(session.run(list(names), {"x": feed}))


def raw_logits(proto: onnx.ModelProto, feed: np.ndarray, name: str = "logits") -> np.ndarray:
    """The unpatched model's logits, in float64."""
    copy = onnx.ModelProto.FromString(proto.SerializeToString())
    if name not in [value.name for value in copy.graph.output]:
        copy.graph.output.add(name=name)
    return run(copy, feed, name)[0].astype(np.float64)


def constant(proto: onnx.ModelProto, name: str) -> np.ndarray:
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor)
    (node,) = (n for n in proto.graph.node if name in n.output)
    attribute = node.attribute[0]
    return np.asarray(numpy_helper.to_array(attribute.t) if attribute.name == "value" else attribute.floats, np.float32)


GEMM = [Node("Gemm", ["x", "w", "b"], ["logits"])]
WB = {"w": weights(6, 4), "b": weights(4)}
AFTER_GEMM = {"w": weights(6, 4), "s": np.float32(0.4)}

FORMS: dict[str, tuple[onnx.ModelProto, tuple[str, ...]]] = {
    "Gemm": (model(GEMM, WB), ("w", "b")),
    "Gemm without bias": (model([Node("Gemm", ["x", "w"], ["logits"])], {"w": weights(6, 4)}), ("w",)),
    "Gemm with alpha and beta, transposed": (
        model([Node("Gemm", ["x", "w", "b"], ["logits"], alpha=0.3, beta=2.0, transB=1)], {**WB, "w": weights(4, 6)}),
        ("w", "b"),
    ),
    "MatMul": (model([Node("MatMul", ["x", "w"], ["logits"])], {"w": weights(6, 4)}), ("w",)),
    "Add behind MatMul": (
        model([Node("MatMul", ["x", "w"], ["h"]), Node("Add", ["b", "h"], ["logits"])], WB),
        ("b", "w"),
    ),
    "weights behind Transpose": (
        model([Node("Transpose", ["w"], ["t"]), Node("Gemm", ["x", "t", "b"], ["logits"])], {**WB, "w": weights(4, 6)}),
        ("w", "b"),
    ),
    "weights dequantised": (
        model(
            [Node("DequantizeLinear", ["q", "s"], ["w"]), Node("Gemm", ["x", "w", "b"], ["logits"])],
            {"q": RNG.integers(-99, 99, (6, 4)).astype(np.int8), "s": np.float32(0.02), "b": weights(4)},
        ),
        ("s", "b"),
    ),
    "raw logits": (model(GEMM, WB, tail=None, output="logits"), ("w", "b")),
    "raw logits behind Identity": (
        model(
            [Node("Gemm", ["x", "w", "b"], ["h"]), Node("Identity", ["h"], ["logits"])],
            WB,
            tail=None,
            output="logits",
        ),
        ("w", "b"),
    ),
    "LogSoftmax": (model(GEMM, WB, tail="LogSoftmax"), ("w", "b")),
    "Sigmoid": (model(GEMM, {"w": weights(6, 1), "b": weights(1)}, tail="Sigmoid", classes=1), ("w", "b")),
    "Conv": (
        model([Node("Conv", ["x", "w", "b"], ["logits"])], {"w": weights(4, 6, 1, 1), "b": weights(4)}, image=True),
        ("w", "b"),
    ),
    "grouped Conv, pooled": (
        model(
            [
                Node("Conv", ["x", "w"], ["c"], group=2),
                Node("GlobalAveragePool", ["c"], ["p"]),
                Node("Flatten", ["p"], ["logits"]),
            ],
            {"w": weights(4, 3, 3, 3)},
            image=True,
        ),
        ("w",),
    ),
    "BatchNormalization": (
        model(
            [Node("Conv", ["x", "w"], ["c"]), Node("BatchNormalization", ["c", "s", "b", "m", "v"], ["logits"])],
            {"w": weights(4, 6, 1, 1), "s": weights(4), "b": weights(4, seed=1), "m": weights(4), "v": weights(4) ** 2},
            image=True,
        ),
        ("s", "b"),
    ),
    "weights in Constant nodes": (
        model(
            [
                Node("Constant", [], ["w"], value=numpy_helper.from_array(weights(6, 4))),
                Node("Constant", [], ["b"], value_floats=[1.0, 2.0, 3.0, -1.0]),
                *GEMM,
            ],
            {},
        ),
        ("w", "b"),
    ),
    "a factor": (model([Node("Gemm", ["x", "w"], ["h"]), Node("Mul", ["s", "h"], ["logits"])], AFTER_GEMM), ("s",)),
    "a divisor": (model([Node("Gemm", ["x", "w"], ["h"]), Node("Div", ["h", "s"], ["logits"])], AFTER_GEMM), ("s",)),
    "a Relu and a Dropout": (
        model(
            [Node("Gemm", ["x", "w"], ["h"]), Node("Relu", ["h"], ["r"]), Node("Dropout", ["r"], ["logits"])],
            {"w": weights(6, 4)},
        ),
        ("w",),
    ),
    "a sum of two": (
        model(
            [Node("Gemm", ["x", "w"], ["h"]), Node("Gemm", ["x", "u"], ["k"]), Node("Sum", ["h", "k"], ["logits"])],
            {"w": weights(6, 4), "u": weights(6, 4, seed=1)},
        ),
        ("w", "u"),
    ),
    "float64": (
        model(
            [Node("Gemm", ["x", "w", "b"], ["logits"])],
            {"w": weights(6, 4, dtype="float64"), "b": weights(4, dtype="float64")},
            dtype=TensorProto.DOUBLE,
        ),
        ("w", "b"),
    ),
    "IR 3": (model(GEMM, WB, ir_version=3, opset=11, listed=True), ("w", "b")),
}  # fmt: skip


@pytest.mark.parametrize("temperature", [1.7, 0.3])
@pytest.mark.parametrize("form", FORMS)
def test_the_weights_are_divided_and_nothing_else_changes(form: str, temperature: float) -> None:
    proto, folded = FORMS[form]
    image = len(proto.graph.input[0].type.tensor_type.shape.dim) == 4
    feed = IMAGES if image else X.astype(np.float64) if form == "float64" else X
    result = onnxcal.patch(proto, temperature=temperature, fold=True, data=feed)
    patched = result.proto
    assert patched is not None
    assert result.folded == folded
    assert result.verification is not None
    assert result.verification.passed

    z = raw_logits(proto, feed) / temperature
    tail = proto.graph.node[-1].op_type
    reference = expit(z) if form == "Sigmoid" else TAILS.get(tail, softmax)(z, axis=1)
    got = run(patched, feed, proto.graph.output[0].name)[0]
    error = np.abs(got - reference) / np.maximum(1, np.abs(reference))
    assert error.max() < (1e-12 if form == "float64" else 5e-6)

    for name in folded:
        before = constant(proto, name).astype(np.float64)
        expected = before * temperature if form == "a divisor" else before / temperature
        np.testing.assert_allclose(constant(patched, name), expected.astype(constant(proto, name).dtype), rtol=1e-15)
    operators = [n.op_type for n in proto.graph.node]
    added = ["Softmax"] if form.startswith("raw") else []
    assert [n.op_type for n in patched.graph.node] == operators + added
    assert is_unchanged(proto, patched, folded)


def is_unchanged(before: onnx.ModelProto, after: onnx.ModelProto, folded: Sequence[str]) -> bool:
    """Whether every node, initializer, input and output that is not folded stands there as it was."""
    kept = onnx.ModelProto.FromString(after.SerializeToString())
    del kept.metadata_props[:]
    del kept.graph.value_info[:]
    for node in list(kept.graph.node)[len(before.graph.node) :]:
        kept.graph.node.remove(node)
    if kept.graph.node[-1].output[0] == "logits_calibrated":  # raw logits: an added activation makes the output
        kept.graph.node[-1].output[0] = "logits"
    for one, other in zip(kept.graph.initializer, before.graph.initializer, strict=True):
        if one.name in folded:
            one.raw_data = other.raw_data
    for one, other in zip(kept.graph.node, before.graph.node, strict=True):
        if one.op_type == "Constant" and one.output[0] in folded:
            one.attribute[0].CopyFrom(other.attribute[0])
    original = open_model(before)
    return kept == before and unpatched(open_model(after), original).to_bytes() == original.to_bytes()


def test_the_same_model_gives_the_same_bytes() -> None:
    proto, _ = FORMS["Gemm"]
    files = {onnxcal.patch(proto, temperature=1.3, fold=True).proto.SerializeToString() for _ in range(2)}
    assert len(files) == 1


def test_the_output_may_be_renamed_and_the_logits_kept() -> None:
    for name in ("Gemm", "raw logits", "raw logits behind Identity"):
        proto, _ = FORMS[name]
        result = onnxcal.patch(proto, temperature=1.7, fold=True, data=X, output_name="p", keep_logits=True)
        assert result.verification is not None
        assert result.verification.passed
        first, kept = [value.name for value in result.proto.graph.output]
        assert first == "p"
        p, z = run(result.proto, X, first, kept)
        np.testing.assert_allclose(z, raw_logits(proto, X) / 1.7, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(p, softmax(z, axis=1), atol=1e-6)
        onnx.checker.check_model(result.proto, full_check=True)


# Weights with other readers


SHARED = model(
    [
        Node("Gemm", ["x", "w"], ["h"], transB=1),
        Node("Gemm", ["h", "w"], ["k"]),
        Node("Tanh", ["k"], ["t"]),
        Node("Gemm", ["t", "w"], ["logits"], transB=1),
    ],
    {"w": weights(4, 6)},
)


def test_weights_that_something_else_reads_are_copied() -> None:
    result = onnxcal.patch(SHARED, temperature=1.7, fold=True, data=X)
    assert result.folded == ("w_folded",)
    np.testing.assert_array_equal(constant(result.proto, "w"), constant(SHARED, "w"))
    np.testing.assert_array_equal(
        constant(result.proto, "w_folded"), (constant(SHARED, "w").astype(np.float64) / 1.7).astype(np.float32)
    )
    assert len(result.proto.graph.node) == len(SHARED.graph.node)


def test_weights_that_only_folded_operators_read_stay_one_tensor() -> None:
    nodes = [
        Node("Tanh", ["x"], ["t"]),
        Node("Gemm", ["x", "w"], ["h"]),
        Node("Gemm", ["t", "w"], ["k"]),
        Node("Add", ["h", "k"], ["logits"]),
    ]
    result = onnxcal.patch(model(nodes, {"w": weights(6, 4)}), temperature=1.7, fold=True, data=X)
    assert result.folded == ("w",)


def test_shared_weights_below_ir_4_are_copied_into_a_constant() -> None:
    proto = onnx.ModelProto.FromString(SHARED.SerializeToString())
    proto.ir_version, proto.opset_import[0].version = 3, 11
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 6]))
    result = onnxcal.patch(proto, temperature=1.7, fold=True, data=X)
    assert [n.op_type for n in result.proto.graph.node] == ["Gemm", "Gemm", "Tanh", "Constant", "Gemm", "Softmax"]
    onnx.checker.check_model(result.proto)


def test_weights_that_may_be_fed_are_folded_with_a_warning() -> None:
    result = onnxcal.patch(model(GEMM, WB, listed=True), temperature=1.7, fold=True, data=X)
    assert [warning for warning in result.warnings if "'w'" in warning and "feeds other weights" in warning]


def test_shared_weights_that_may_be_fed_are_no_longer_read() -> None:
    proto = model([Node("Abs", ["w"], ["a"]), *GEMM], WB, listed=True, more=[value("a", 6, 4)])
    result = onnxcal.patch(proto, temperature=1.7, fold=True, data=X)
    (said,) = (warning for warning in result.warnings if "'w'" in warning)
    assert "'w_folded', a copy of 'w'" in said
    assert "do not reach what is calibrated" in said
    session = onnxruntime.InferenceSession(result.proto.SerializeToString())
    got, expected = (session.run(["probs"], {"x": X, **fed})[0] for fed in ({"w": WB["w"] * 9}, {}))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("order", [1, -1])
def test_a_constant_factor_that_is_computed_leaves_it_to_the_other_factor(order: int) -> None:
    nodes = [Node("Gemm", ["x", "w"], ["h"]), Node("Exp", ["s"], ["e"]), Node("Mul", ["h", "e"][::order], ["logits"])]
    proto = model(nodes, AFTER_GEMM)
    result = onnxcal.patch(proto, temperature=1.7, fold=True, data=X)
    assert result.folded == ("w",)
    reference = softmax(raw_logits(proto, X) / 1.7, axis=1)
    np.testing.assert_allclose(run(result.proto, X, "probs")[0], reference, atol=5e-6)


def test_a_folded_t_needs_not_be_held_in_float16() -> None:
    said = [onnxcal.patch(FORMS["Gemm"][0], temperature=2e-5, fold=fold).warnings for fold in (False, True)]
    assert [any("cannot be held in float16" in warning for warning in warnings) for warnings in said] == [True, False]


def test_labels_of_the_logits_stay_the_same() -> None:
    label = helper.make_tensor_value_info("label", TensorProto.INT64, ["N"])
    proto = model([*GEMM, Node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0)], WB, more=[label])
    result = onnxcal.patch(proto, temperature=1.7, fold=True, data=X)
    assert [c.passed for c in result.verification.checks if c.name == "other outputs"] == [True]


def test_two_heads_get_a_temperature_each_in_the_weights_they_share(tmp_path: Path) -> None:
    nodes = [
        Node("Tanh", ["x"], ["t"]),
        Node("Gemm", ["x", "w"], ["a"]),
        Node("Gemm", ["t", "w"], ["c"]),
        Node("Softmax", ["a"], ["p"], axis=1),
        Node("Softmax", ["c"], ["q"], axis=1),
    ]
    q = helper.make_tensor_value_info("q", TensorProto.FLOAT, ["N", 4])
    proto = model(nodes, {"w": weights(6, 4)}, tail=None, output="p", more=[q])
    labels = {name: RNG.integers(0, 4, len(X)) for name in ("p", "q")}
    z = {"p": raw_logits(proto, X, "a"), "q": raw_logits(proto, X, "c")}
    for name, scores in z.items():
        labels[name] = (scores / (2 if name == "p" else 0.6) + RNG.gumbel(size=scores.shape)).argmax(axis=1)
    result = onnxcal.calibrate(proto, (X, labels), head=["p", "q"], fold=True, bootstrap=0)
    assert result.folded == ("w_folded", "w_folded_1")
    got = dict(zip("pq", run(result.proto, X, "p", "q"), strict=True))
    for one in result.heads:
        expected = softmax(z[one.head.output] / one.calibration.temperature, axis=1)
        np.testing.assert_allclose(got[one.head.output], expected, atol=5e-6)


# What cannot be folded


def value(name: str, *shape: Any) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


REFUSED: dict[str, tuple[onnx.ModelProto, str]] = {
    "raw logits are an output": (model(GEMM, WB, more=[value("logits", "N", 4)]), "an output of their own"),
    "another reader": (
        model([*GEMM, Node("Abs", ["logits"], ["a"])], WB, more=[value("a", "N", 4)]),
        "is read by Abs as well",
    ),
    "another reader further up": (
        model([Node("Gemm", ["x", "w"], ["h"]), Node("Relu", ["h"], ["logits"]), Node("Abs", ["h"], ["a"])],
              {"w": weights(6, 4)}, more=[value("a", "N", 4)]),
        "'h', which they are made of, is read by something else",
    ),
    "read twice": (model([Node("Gemm", ["x", "w"], ["h"]), Node("Add", ["h", "h"], ["logits"])], WB), "twice"),
    "no weights": (model([Node("MatMul", ["x", "t"], ["logits"]), Node("Transpose", ["x"], ["t"])][::-1], {}),
                   "no constant weights"),
    "not linear": (model([Node("Tanh", ["x"], ["logits"])], {}, classes=6), "made by Tanh"),
    "an input is added": (model([Node("Add", ["h", "x"], ["logits"]), Node("Gemm", ["x", "w"], ["h"])][::-1],
                                {"w": weights(6, 6)}, classes=6), "is an input of the model"),
    "float16 weights of a float32 head": (
        model([Node("Cast", ["w"], ["f"], to=TensorProto.FLOAT), Node("Gemm", ["x", "f"], ["logits"])],
              {"w": weights(6, 4, dtype="float16")}),
        "too coarse to be divided",
    ),
    "probabilities alone": (
        model([Node("Gemm", ["x", "w", "b"], ["l"]), Node("Tanh", ["l"], ["probs"])], WB, tail=None),
        "but as probabilities",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_one_sentence(case: str, tmp_path: Path) -> None:
    proto, words = REFUSED[case]
    path, out = builders.save(proto, tmp_path / "m.onnx"), tmp_path / "out.onnx"
    options = {"activation": "softmax"} if case == "probabilities alone" else {}
    with pytest.raises(onnxcal.ModelError, match=words) as caught:
        onnxcal.patch(path, temperature=1.7, fold=True, output=out, head="probs", **options)
    assert "--fold" in str(caught.value.hint)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_float16_weights_of_a_float32_head_are_folded_where_nothing_is_lost() -> None:
    proto = REFUSED["float16 weights of a float32 head"][0]
    result = onnxcal.patch(proto, temperature=2.0, fold=True, data=X)
    assert result.verification.passed


def test_bfloat16_weights_of_a_float32_head_are_folded_where_nothing_is_lost() -> None:
    cast = Node("Cast", ["w"], ["f"], to=TensorProto.FLOAT)
    proto = model([cast, Node("Gemm", ["x", "f"], ["logits"])], {})
    halves = (weights(6, 4).view(np.uint32) >> 16).astype("<u2")
    proto.graph.initializer.append(helper.make_tensor("w", TensorProto.BFLOAT16, [6, 4], halves.tobytes(), raw=True))
    folded = onnxcal.patch(proto, temperature=0.25, fold=True, data=X)
    assert folded.verification.passed
    with pytest.raises(onnxcal.ModelError, match="'w' of the model is bfloat16, too coarse"):
        onnxcal.patch(proto, temperature=1.7, fold=True)


def test_sparse_weights_are_refused() -> None:
    proto = model([Node("MatMul", ["x", "w"], ["logits"])], {})
    values = numpy_helper.from_array(np.ones(4, np.float32), "w")
    indices = numpy_helper.from_array(np.arange(4) * 5, "w_indices")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [6, 4]))
    with pytest.raises(onnxcal.ModelError, match="are sparse"):
        onnxcal.patch(proto, temperature=1.7, fold=True)


@pytest.mark.parametrize(
    ("dtype", "temperature"), [("float32", 1e-39), ("float32", 1e38), ("float16", 1e-5), ("float16", 1e6)]
)
def test_weights_that_would_overflow_or_vanish_are_refused(dtype: str, temperature: float) -> None:
    types = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}
    proto = model(GEMM, {name: array.astype(dtype) for name, array in WB.items()}, dtype=types[dtype])
    with pytest.raises(onnxcal.ModelError, match="cannot be held in"):
        onnxcal.patch(proto, temperature=temperature, fold=True)


@pytest.mark.parametrize("tail", ["Softmax", None])
@pytest.mark.parametrize("temperature", [1.7, 0.5])
def test_a_float16_head_keeps_its_float16_tail(tail: str | None, temperature: float) -> None:
    """Its tolerance is that of float16; the division's graph would go through float32."""
    proto = model(GEMM, {n: a.astype("float16") for n, a in WB.items()}, dtype=TensorProto.FLOAT16, tail=tail,
                  output="probs" if tail else "logits")  # fmt: skip
    feed = X.astype(np.float16)
    result = onnxcal.patch(proto, temperature=temperature, fold=True, data=feed)
    assert [n.op_type for n in result.proto.graph.node] == ["Gemm", "Softmax"]
    got = run(result.proto, feed, proto.graph.output[0].name)[0].astype(np.float64)
    assert np.abs(got - softmax(raw_logits(proto, feed) / temperature, axis=1)).max() < 5e-3


# External data


def external(folder: Path) -> Path:
    """The Gemm model with both tensors in one file, the bias behind the weights."""
    proto = onnx.ModelProto.FromString(FORMS["Gemm"][0].SerializeToString())
    first = helper.make_node("Mul", ["x", "scale"], ["y"])
    proto.graph.node.insert(0, first)
    proto.graph.node[1].input[0] = "y"
    proto.graph.initializer.append(numpy_helper.from_array(np.full(6, 0.5, np.float32), "scale"))
    offset, data = 0, b""
    for tensor in proto.graph.initializer:
        raw, tensor.data_location = tensor.raw_data, TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        for key, text in (("location", "w.bin"), ("offset", str(offset)), ("length", str(len(raw)))):
            tensor.external_data.add(key=key, value=text)
        data += raw
        offset += len(raw)
    (folder / "w.bin").write_bytes(data)
    return builders.save(proto, folder / "m.onnx")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_folded_weights_move_from_the_data_file_into_the_model(elsewhere: bool, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = external(folder)
    data = (folder / "w.bin").read_bytes()
    out = (tmp_path if elsewhere else folder) / "out.onnx"
    result = onnxcal.patch(path, temperature=1.7, fold=True, output=out, data=X)
    assert result.verification is not None
    assert result.verification.passed
    assert (folder / "w.bin").read_bytes() == data
    tensors = {t.name: t for t in onnx.ModelProto.FromString(out.read_bytes()).graph.initializer}
    assert {n: t.data_location == TensorProto.EXTERNAL for n, t in tensors.items()} == {
        "w": False,
        "b": False,
        "scale": True,
    }
    np.testing.assert_array_equal(
        numpy_helper.to_array(tensors["w"]), (WB["w"].astype(np.float64) / 1.7).astype(np.float32)
    )
    back = tmp_path / "back.onnx" if elsewhere else folder / "back.onnx"
    assert onnxcal.revert(out, output=back, original=path).byte_identical
    assert back.read_bytes() == path.read_bytes()


def test_external_weights_that_are_cut_off_are_refused(tmp_path: Path) -> None:
    path = external(tmp_path)
    (tmp_path / "w.bin").write_bytes((tmp_path / "w.bin").read_bytes()[:100])
    with pytest.raises(onnxcal.ModelError, match="do not hold all of 'b'"):
        onnxcal.patch(path, temperature=1.7, fold=True, output=tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("offset", ["-4", "x", str(2**70)])
def test_external_weights_that_begin_nowhere_are_refused(offset: str, tmp_path: Path) -> None:
    path = external(tmp_path)
    model = onnx.ModelProto.FromString(path.read_bytes())
    for tensor in model.graph.initializer:
        tensor.external_data.add(key="offset", value=offset)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(onnxcal.ModelError, match=f"do not hold all of '.*', .* bytes from {offset} on"):
        onnxcal.patch(path, temperature=1.7, fold=True, output=tmp_path / "out.onnx")


@pytest.mark.parametrize("kept", [0, 0.5, 0.99, 2])
@pytest.mark.parametrize("typed", [False, True])
def test_weights_of_another_size_than_they_say_are_refused(kept: float, typed: bool) -> None:
    """onnx.checker accepts weights that are twice as large as declared."""
    proto = onnx.ModelProto.FromString(FORMS["Gemm"][0].SerializeToString())
    weights = proto.graph.initializer[0]
    numbers = np.frombuffer(weights.raw_data, "<f4").tolist()
    raw, weights.raw_data = weights.raw_data * 2, b""
    if typed:
        weights.ClearField("raw_data")
        weights.float_data.extend((numbers * 2)[: int(len(numbers) * kept)])
    else:
        weights.raw_data = raw[: int(len(raw) / 2 * kept)]
    with pytest.raises(
        onnxcal.ModelError, match=r"'w' of the model holds more or fewer numbers than its shape \[6, 4\]"
    ):
        onnxcal.patch(proto, temperature=1.7, fold=True)


# The form of the graph does not matter


@st.composite
def graphs(draw: st.DrawFn) -> tuple[onnx.ModelProto, float]:
    """A linear operator with random layout, up to three operators that keep it linear, and T."""
    seed = draw(st.integers(0, 99))
    maker = draw(st.sampled_from(["Gemm", "MatMul", "Add"]))
    transposed, bias = draw(st.booleans()), draw(st.booleans())
    constants = {"w": weights(4, 6, seed=seed) if transposed and maker == "Gemm" else weights(6, 4, seed=seed)}
    nodes = []
    if maker == "Gemm":
        constants |= {"b": weights(4, seed=seed)} if bias else {}
        attributes = {"transB": int(transposed), "alpha": draw(st.sampled_from([1.0, 0.5])), "beta": 1.5}
        nodes.append(Node("Gemm", ["x", "w", *(["b"] if bias else [])], ["h0"], **attributes))
    else:
        nodes.append(Node("MatMul", ["x", "w"], ["h0"]))
    if maker == "Add":
        constants["c"] = weights(1, 4, seed=seed)
        nodes[-1].output[0] = "m"
        nodes.append(Node("Add", ["m", "c"][:: -1 if bias else 1], ["h0"]))
    steps = draw(
        st.lists(st.sampled_from(["Identity", "Neg", "Relu", "Mul", "Div", "Add", "Sub", "Dropout"]), max_size=3)
    )
    for number, step in enumerate(steps):
        source, target, extra = f"h{number}", f"h{number + 1}", f"k{number}"
        inputs = [source]
        if step in ("Mul", "Div", "Add", "Sub"):
            constants[extra] = np.float32(0.7) + np.abs(weights(4, seed=number))
            inputs.append(extra)
        nodes.append(Node(step, inputs, [target]))
    nodes[-1].output[0] = "logits"
    temperature = float(np.exp(draw(st.floats(-2, 2))))
    return model(nodes, constants, tail=draw(st.sampled_from(["Softmax", "LogSoftmax"]))), temperature


@settings(max_examples=40, deadline=None)
@given(graphs())
def test_any_linear_end_can_be_folded(graph: tuple[onnx.ModelProto, float]) -> None:
    proto, temperature = graph
    result = onnxcal.patch(proto, temperature=temperature, fold=True)
    assert result.folded
    z = raw_logits(proto, X) / temperature
    expected = TAILS[proto.graph.node[-1].op_type](z, axis=1)
    got = run(result.proto, X, "probs")[0]
    assert np.abs(got - expected).max() < 1e-5 * max(1.0, float(np.abs(z).max()) / 4)
    assert len(result.proto.graph.node) == len(proto.graph.node)
    original, patched = open_model(proto), open_model(result.proto)
    assert unpatched(patched, original).to_bytes() == original.to_bytes()


# Before any long work


def test_calibrate_refuses_before_it_reads_the_data(tmp_path: Path) -> None:
    proto, words = REFUSED["another reader"]

    def data() -> Any:
        raise AssertionError("read")

    with pytest.raises(onnxcal.ModelError, match=words):
        onnxcal.calibrate(proto, data, head="probs", fold=True)
    path = builders.save(FORMS["Gemm"][0], tmp_path / "m.onnx")
    with pytest.raises(onnxcal.UsageError, match="no model to go back to"):
        onnxcal.patch(path, temperature=1.7, fold=True, in_place=True)


# Predictions that rounding changes


def test_flips_between_classes_that_are_as_good_as_equal_are_counted_and_pass() -> None:
    """Two classes with the same weights up to the last bit: rounding W/T anew decides which of them wins."""
    base = weights(6, 1)
    twins = np.concatenate([base, np.nextafter(base, np.float32(9)), weights(6, 2, seed=4) - 3], axis=1)
    proto = model([Node("MatMul", ["x", "w"], ["logits"])], {"w": twins})
    feed = np.abs(np.random.default_rng(0).normal(size=(400, 6))).astype(np.float32)
    changed = 0
    for temperature in (1.3, 1.7, 2.9):
        result = onnxcal.patch(proto, temperature=temperature, fold=True, data=feed)
        (runtime,) = result.verification.runtimes
        folded = run(result.proto, feed, "probs")[0]
        before = raw_logits(proto, feed).argmax(axis=1)
        assert runtime.argmax_changed == (folded.argmax(axis=1) != before).sum()
        assert bool(runtime.argmax_changed) == any("prediction" in w and "changed" in w for w in result.warnings)
        changed += runtime.argmax_changed
    assert changed > 0


# A folded file, afterwards


def test_a_folded_file_is_never_folded_or_patched_again() -> None:
    folded = onnxcal.patch(FORMS["Gemm"][0], temperature=1.7, fold=True).proto
    for again in (
        lambda: onnxcal.patch(folded, temperature=2.0),
        lambda: onnxcal.patch(folded, temperature=2.0, fold=True),
        lambda: onnxcal.calibrate(folded, (X, np.zeros(len(X), int))),
        lambda: onnxcal.collect_logits(folded, (X, np.zeros(len(X), int))),
    ):
        with pytest.raises(onnxcal.ModelError, match="folded into the weights") as caught:
            again()
        assert "made from" in str(caught.value.hint)


def test_a_folded_file_is_evaluated_as_a_divided_one() -> None:
    proto = FORMS["Gemm"][0]
    labels = np.random.default_rng(0).integers(0, 4, len(X))
    divided, folded = (onnxcal.patch(proto, temperature=1.7, fold=fold).proto for fold in (False, True))
    one, other = (onnxcal.evaluate(file, (X, labels)).metrics for file in (divided, folded))
    assert one.nll == pytest.approx(other.nll, rel=1e-6)


def test_folding_a_divided_file_replaces_the_division() -> None:
    proto = FORMS["Gemm"][0]
    divided = onnxcal.patch(proto, temperature=3.0).proto
    assert (
        onnxcal.patch(divided, temperature=1.7, fold=True).proto
        == onnxcal.patch(proto, temperature=1.7, fold=True).proto
    )


@pytest.mark.parametrize("classes", [4, 200])
def test_a_folded_weight_that_was_changed_by_one_bit_is_found(classes: int) -> None:
    proto = model(GEMM, {"w": weights(6, classes), "b": weights(classes)}, classes=classes)
    folded = onnxcal.patch(proto, temperature=1.7, fold=True).proto
    data = bytearray(folded.graph.initializer[0].raw_data)
    data[0] ^= 1
    folded.graph.initializer[0].raw_data = bytes(data)
    result = onnxcal.verify(proto, folded, X)
    assert "untouched bytes" in [c.name for c in result.verification.checks if not c.passed]


def test_diff_knows_folded_weights_for_a_patch(tmp_path: Path) -> None:
    path, out = external(tmp_path), tmp_path / "out.onnx"
    onnxcal.patch(path, temperature=1.7, fold=True, output=out)
    assert onnxcal.diff(path, out).verdict == "patched"
    assert onnxcal.verify(path, out, X).verification.passed


def test_a_folded_file_that_was_written_anew_is_known_again(tmp_path: Path) -> None:
    """Weights in a typed field become raw ones, which protobuf writes in another place."""
    proto = onnx.ModelProto.FromString(FORMS["Gemm"][0].SerializeToString())
    for tensor in proto.graph.initializer:
        numbers = numpy_helper.to_array(tensor)
        tensor.CopyFrom(helper.make_tensor(tensor.name, TensorProto.FLOAT, numbers.shape, numbers.ravel()))
    path, out = builders.save(proto, tmp_path / "m.onnx"), tmp_path / "out.onnx"
    onnxcal.patch(path, temperature=1.7, fold=True, output=out)
    written = onnx.ModelProto.FromString(out.read_bytes())
    assert written.SerializeToString() == out.read_bytes()
    assert onnxcal.diff(path, out).verdict == "patched"
    (index,) = (i for i, tensor in enumerate(written.graph.initializer) if tensor.name == "w")
    weights = written.graph.initializer[index]
    name, raw = weights.name, weights.raw_data  # the record backwards: the same content
    backwards = wire.bytes_field(9, raw) + wire.bytes_field(8, name.encode())
    rest = TensorProto(dims=weights.dims, data_type=weights.data_type).SerializeToString()
    old, new = (wire.bytes_field(5, text) for text in (weights.SerializeToString(), backwards + rest))
    assert out.read_bytes().count(old) == 1
    out.write_bytes(out.read_bytes().replace(old, new))
    found = onnxcal.diff(path, out)
    assert (found.verdict, "wrote the file anew" in found.detail) == ("rewritten", True)


def test_inspect_says_that_it_is_folded_and_tells_t() -> None:
    found = onnxcal.inspect(onnxcal.patch(FORMS["raw logits"][0], temperature=1.7, fold=True).proto)
    (patch,) = found.patches
    assert (patch.output, patch.form, patch.temperature, patch.set_by_hand) == ("logits", "folded", 1.7, False)
    (way,) = found.ways
    assert way is not None
    assert (way.temperature, way.holds) == (1.7, "logits / T")
    assert all(stage.purpose != "divide by temperature" for stage in way.stages)
