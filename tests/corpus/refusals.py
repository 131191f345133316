"""Models that cannot be patched, and what must be said of each: `REFUSALS`."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.builders import classifier, softmax
from tests.corpus.form import Refusal, build, ints, node, value, weights
from tests.corpus.wire import record, records

REFUSALS: list[Refusal] = []


def refusal(says: str, *options: str) -> Callable[[Callable[[], onnx.ModelProto | bytes]], Callable]:
    """Add what a function makes to `REFUSALS`, with words that the message must contain."""

    def add(function: Callable[[], onnx.ModelProto | bytes]) -> Callable:
        REFUSALS.append(Refusal(function.__name__.replace("_", " "), function(), says, options))
        return function

    return add


def after_logits(nodes: list[onnx.NodeProto], *outputs: onnx.ValueInfoProto, **kwargs) -> onnx.ModelProto:
    """x → MatMul → `logits` → nodes."""
    body = [node("MatMul", "x w", "logits"), *nodes]
    constants = {"w": weights(6, 4)} | kwargs.pop("constants", {})
    return build(body, [value("x", ["N", 6])], list(outputs) or [value("probs", ["N", 4])], constants, **kwargs)


ORDINARY = classifier([softmax()], output="probs").SerializeToString()


# Not understood


@refusal("Div")
def softmax_in_pieces():
    nodes = [
        node("ReduceMax", "logits", "m", axes=[1]),
        node("Sub", "logits m", "s"),
        node("Exp", "s", "e"),
        node("ReduceSum", "e a", "t"),
        node("Div", "e t", "probs"),
    ]
    return after_logits(nodes, constants={"a": ints(1)}, opset=13)


@refusal("Concat")
def p_and_one_minus_p():
    nodes = [
        node("MatMul", "x w", "z"),
        node("Sigmoid", "z", "p"),
        node("Sub", "one p", "q"),
        node("Concat", "q p", "probs", axis=1),
    ]
    constants = {"w": weights(6, 1), "one": np.ones(1, np.float32)}
    return build(nodes, [value("x", ["N", 6])], [value("probs", ["N", 2])], constants)


@refusal("ZipMap")
def zipmap():
    made = after_logits(
        [softmax(target="p"), node("ZipMap", "p", "probs", domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2, 3])]
    )
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    made.graph.output[0].type.sequence_type.elem_type.map_type.key_type = TensorProto.INT64
    made.graph.output[0].type.sequence_type.elem_type.map_type.value_type.tensor_type.elem_type = TensorProto.FLOAT
    return made


@refusal("If")
def head_inside_an_if():
    def branch(name: str) -> onnx.GraphProto:
        return helper.make_graph([softmax("logits", name)], name, [], [value(name, None)])

    nodes = [node("If", "yes", "probs", then_branch=branch("a"), else_branch=branch("b"))]
    return after_logits(nodes, constants={"yes": np.array(True)})


@refusal("TopK|Slice|Gather|Mul")
def part_of_the_probabilities():
    return after_logits(
        [softmax(target="p"), node("Gather", "p k", "probs", axis=1)], constants={"k": ints(1, 0, 3, 2)}
    )


@refusal("Mul")
def scaled_probabilities():
    return after_logits(
        [softmax(target="p"), node("Mul", "p s", "probs")], constants={"s": np.array([100], np.float32)}
    )


@refusal("Exp")
def exponential_of_log_softmax():
    return after_logits([node("LogSoftmax", "logits", "l"), node("Exp", "l", "probs")])


@refusal("Cast|integer|float")
def probabilities_through_whole_numbers():
    """A Cast to int64 and back leaves zeros and ones: no probabilities any more."""
    nodes = [
        softmax(target="p"),
        node("Cast", "p", "i", to=TensorProto.INT64),
        node("Cast", "i", "probs", to=TensorProto.FLOAT),
    ]
    return after_logits(nodes)


@refusal("Softmax|double|function")
def softmax_of_another_domain():
    made = after_logits([node("Softmax", "logits", "probs", domain="mine")])
    made.opset_import.append(helper.make_opsetid("mine", 1))
    made.functions.append(
        helper.make_function("mine", "Softmax", ["a"], ["b"], [node("Relu", "a", "b")], [helper.make_opsetid("", 17)])
    )
    return made


@refusal("no floating point")
def labels_only():
    return after_logits([node("ArgMax", "logits", "label", axis=1)], value("label", ["N", 1], "int64"))


@refusal("input|initializer")
def output_is_an_input():
    return build([node("Identity", "x", "y")], [value("x", ["N", 4])], [value("x", ["N", 4])])


@refusal("input|initializer")
def output_is_a_constant_moved():
    return build(
        [node("Identity", "w", "probs"), node("Relu", "x", "y")],
        [value("x", ["N", 4])],
        [value("probs", [6, 4])],
        {"w": weights(6, 4)},
    )


@refusal("three axes")
def three_axes_and_no_hint():
    nodes = [node("MatMul", "x w", "a"), node("Reshape", "a s", "logits")]
    return build(
        nodes, [value("x", ["N", 6])], [value("logits", ["N", 3, 4])], {"w": weights(6, 12), "s": ints(-1, 3, 4)}
    )


@refusal("2 outputs")
def two_heads_and_none_chosen():
    return after_logits(
        [softmax(), node("Sigmoid", "logits", "scores")], value("probs", ["N", 4]), value("scores", ["N", 4])
    )


@refusal("no output 'nope'", "--head", "nope")
def head_that_is_not_there():
    return ORDINARY


@refusal("opset 6")
def opset_before_seven():
    return classifier([softmax()], output="probs", opset=6, ir_version=3)


@refusal("no default operator set")
def no_operator_set():
    made = classifier([softmax()], output="probs")
    del made.opset_import[:]
    return made


@refusal("axis 0")
def softmax_over_the_batch():
    return classifier([softmax(axis=0)], output="probs", opset=11)


@refusal("unknown number of columns")
def sigmoid_over_an_unknown_number_of_columns():
    return build([node("Sigmoid", "x", "probs")], [value("x", ["N", "K"])], [value("probs", ["N", "K"])])


@refusal("taken", "--output-name", "x")
def output_name_that_is_taken():
    return ORDINARY


@refusal("float32", "--temperature", "1e-60")
def temperature_too_small():
    return ORDINARY


@refusal("circle|broken")
def circle():
    nodes = [
        node("Identity", "b", "a"),
        node("Identity", "a", "b"),
        node("Identity", "b", "probs"),
        node("Relu", "x", "y"),
    ]
    return build(nodes, [value("x", ["N", 4])], [value("probs", ["N", 4])])


@refusal("input|broken")
def identity_of_nothing():
    return classifier([node("Identity", [], "probs")], output="probs")


@refusal("input|broken")
def softmax_of_nothing():
    return classifier([node("Softmax", [], "probs")], output="probs")


@refusal("input|broken|comput")
def output_that_nobody_makes():
    return classifier([softmax(target="p")], output="probs")


@refusal("UTF-8|name")
def tensor_names_that_are_not_text():
    """Protobuf strings are UTF-8; some C++ exporters write whatever the layer was called."""
    return ORDINARY.replace(b"logits", b"logi\xff\xfe")


# No model at all


@refusal("empty")
def empty_file():
    return b""


@refusal("Git LFS pointer")
def lfs_pointer():
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"


@refusal("gzip")
def gzipped():
    return gzip.compress(ORDINARY, mtime=0)


@refusal("zip")
def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m.onnx", ORDINARY)
    return file.getvalue()


@refusal("HTML")
def web_page():
    return b"\n\n<!DOCTYPE html><html><body>404</body></html>"


@refusal("JSON")
def json_text():
    return b'{"message": "not found"}'


@refusal("ort format")
def ort_file():
    return b"\x1c\x00\x00\x00ORTM" + bytes(64)


@refusal("TensorFlow Lite")
def tflite_file():
    return b"\x1c\x00\x00\x00TFL3" + bytes(64)


@refusal("NumPy")
def numpy_file():
    file = io.BytesIO()
    np.save(file, weights(3, 4))
    return file.getvalue()


@refusal("not an ONNX model")
def noise():
    return np.random.default_rng(0).bytes(500)


@refusal("not an ONNX model|no ONNX graph")
def zeros():
    return bytes(500)


@refusal("no ONNX graph")
def external_weights():
    """Protobuf, but of something else."""
    return record(2, b"producer")


@refusal("not an ONNX model")
def pickle_file():
    return b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01K\x02K\x03e."


@refusal("no ONNX graph")
def model_without_a_graph():
    return b"".join(whole for field, whole, _ in records(ORDINARY) if field != 7)


@refusal("no ONNX graph")
def graph_without_nodes():
    made = classifier([softmax()], output="probs")
    del made.graph.node[:]
    return made
