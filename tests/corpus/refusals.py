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
from tests.corpus.forms.ml import Linear, svm
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


@refusal("If")
def head_inside_an_if():
    def branch(name: str) -> onnx.GraphProto:
        return helper.make_graph([softmax("logits", name)], name, [], [value(name, None)])

    nodes = [node("If", "yes", "probs", then_branch=branch("a"), else_branch=branch("b"))]
    return after_logits(nodes, constants={"yes": np.array(True)})


@refusal("Mul")
def scaled_probabilities():
    return after_logits(
        [softmax(target="p"), node("Mul", "p s", "probs")], constants={"s": np.array([100], np.float32)}
    )


@refusal("Cast|integer|float")
def probabilities_through_whole_numbers():
    """A Cast to int64 and back leaves zeros and ones: no probabilities any more."""
    nodes = [
        softmax(target="p"),
        node("Cast", "p", "i", to=TensorProto.INT64),
        node("Cast", "i", "probs", to=TensorProto.FLOAT),
    ]
    return after_logits(nodes)


@refusal("mine.Softmax, which is not understood")
def softmax_of_another_domain():
    made = after_logits([node("Softmax", "logits", "probs", domain="mine")])
    made.opset_import.append(helper.make_opsetid("mine", 1))
    return made


# Near what is understood: pieces that do not fit together


def in_pieces(
    *, most: str = "logits", shift: str = "logits", total: str = "e", axes: tuple[int, int] = (1, 1), exp: str = "s"
) -> onnx.ModelProto:
    """exp(z − m) / Σ exp(z − m), of which one part may be another."""
    nodes = [
        node("MatMul", "x v", "other"),
        node("ReduceMax", most, "m", axes=[axes[0]]),
        node("Sub", [shift, "m"], "s"),
        node("Exp", exp, "e"),
        node("Exp", "other", "f"),
        node("ReduceSum", [total, "a"], "t"),
        node("Div", "e t", "probs"),
    ]
    return after_logits(nodes, constants={"a": ints(axes[1]), "v": weights(6, 4, seed=5)}, opset=13)


@refusal("Div")
def sum_of_something_else():
    return in_pieces(total="f")


@refusal("Div")
def sum_over_the_batch():
    return in_pieces(axes=(1, 0))


@refusal("Div")
def exponential_over_a_constant():
    nodes = [node("Exp", "logits", "e"), node("Div", "e c", "probs")]
    return after_logits(nodes, constants={"c": np.float32([3])})


@refusal("Concat")
def two_minus_p():
    nodes = [node("Sigmoid", "z", "p"), node("Sub", "two p", "q"), node("Concat", "q p", "probs", axis=1)]
    constants = {"v": weights(4, 1), "two": np.float32([2])}
    return after_logits([node("MatMul", "logits v", "z"), *nodes], value("probs", ["N", 2]), constants=constants)


@refusal("Concat")
def sigmoids_of_two_logits_joined():
    nodes = [node("Sigmoid", "logits", "p"), node("MatMul", "x v", "z"), node("Sigmoid", "z", "q")]
    nodes.append(node("Concat", "p q", "probs", axis=1))
    return after_logits(nodes, value("probs", ["N", 8]), constants={"v": weights(6, 4, seed=5)})


@refusal("Exp")
def exponential_of_logits():
    return after_logits([node("Exp", "logits", "probs")])


@refusal("Gather")
def some_of_the_samples():
    return after_logits([softmax(target="p"), node("Gather", "p k", "probs", axis=0)], constants={"k": ints(1, 0, 3)})


@refusal("votes")
def support_vectors_without_probabilities():
    made = after_logits([svm(3, prob=False)], value("scores", ["N", 3]))
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    return made


@refusal("labels of a LinearClassifier|no floating point|int64")
def labels_of_a_linear_classifier():
    made = after_logits([Linear(3, "SOFTMAX").node()], value("label", ["N"], "int64"))
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    return made


@refusal("holds int64 values, not floats")
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


@refusal("does not import it")
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


@refusal("Identity, which reads nothing")
def identity_of_nothing():
    return classifier([node("Identity", [], "probs")], output="probs")


@refusal("Softmax, which reads nothing")
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
