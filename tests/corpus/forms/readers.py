"""Several outputs, and others that read logits or probabilities."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from tests.builders import softmax
from tests.corpus.form import build, node, value, weights
from tests.corpus.forms.register import form, two_outputs


@form()
def logits_are_an_output_too() -> onnx.ModelProto:
    return two_outputs([softmax()], value("logits", ["N", 4]), value("probs", ["N", 4]))


@form(output="logits", activation="none", options={"head": "logits"})
def raw_output_beside_its_softmax_chosen() -> onnx.ModelProto:
    return two_outputs([softmax()], value("logits", ["N", 4]), value("probs", ["N", 4]))


@form()
def arg_max_reads_the_logits() -> onnx.ModelProto:
    nodes = [softmax(), node("ArgMax", "logits", "label", axis=1), node("ReduceMax", "logits", "best")]
    return two_outputs(nodes, value("label", ["N", 1], "int64"), value("probs", ["N", 4]), value("best", [1, 1]))


@form(moved=frozenset({"best"}))
def others_read_the_probabilities() -> onnx.ModelProto:
    nodes = [softmax(), node("ArgMax", "probs", "label", axis=1), node("ReduceMax", "probs", "best", axes=[1])]
    return two_outputs(nodes, value("probs", ["N", 4]), value("best", ["N", 1]), value("label", ["N", 1], "int64"))


@form(output="logits", activation="none")
def others_read_the_output_logits() -> onnx.ModelProto:
    """They keep reading raw logits under their new name."""
    nodes = [node("ArgMax", "logits", "label", axis=1), node("Exp", "logits", "odds")]
    return two_outputs(nodes, value("logits", ["N", 4]), value("label", ["N", 1], "int64"), value("odds", ["N", 4]))


@form()
def box_regressor_beside_a_classifier() -> onnx.ModelProto:
    nodes = [node("MatMul", "x v", "boxes"), softmax()]
    constants = {"v": weights(6, 8, seed=1)}
    return two_outputs(nodes, value("boxes", ["N", 8]), value("probs", ["N", 4]), constants=constants)


@form(options={"head": "probs"})
def two_classifiers_one_chosen() -> onnx.ModelProto:
    nodes = [node("MatMul", "x v", "z"), softmax("z", "other"), softmax()]
    constants = {"v": weights(6, 3, seed=1)}
    return two_outputs(nodes, value("other", ["N", 3]), value("probs", ["N", 4]), constants=constants)


@form(options={"head": "probs"})
def softmax_and_log_softmax_of_the_same_logits() -> onnx.ModelProto:
    nodes = [node("LogSoftmax", "logits", "logs"), softmax()]
    return two_outputs(nodes, value("logs", ["N", 4]), value("probs", ["N", 4]))


@form(moved=frozenset({"copy"}))
def activation_feeds_two_outputs() -> onnx.ModelProto:
    return two_outputs(
        [softmax(), node("Identity", "probs", "copy")], value("probs", ["N", 4]), value("copy", ["N", 4])
    )


@form(moved=frozenset({"p"}), after=lambda p: p.T)
def activation_is_an_output_and_so_is_its_transpose() -> onnx.ModelProto:
    nodes = [softmax(target="p"), node("Transpose", "p", "probs")]
    return two_outputs(nodes, value("probs", [4, "N"]), value("p", ["N", 4]))


@form(moved=frozenset({"p"}), after=lambda p: p.T, dtype="float16")
def half_activation_is_an_output_and_so_is_its_transpose() -> onnx.ModelProto:
    nodes = [node("MatMul", "x w", "logits"), softmax(target="p"), node("Transpose", "p", "probs")]
    outputs = [value("probs", [4, "N"], "float16"), value("p", ["N", 4], "float16")]
    return build(nodes, [value("x", ["N", 6], "float16")], outputs, {"w": weights(6, 4, dtype="float16")})


def branch(source: str, op: str, target: str, dtype: str = "float32") -> onnx.GraphProto:
    """A subgraph that reads a tensor of the graph around it."""
    return helper.make_graph([node(op, source, target)], target, [], [value(target, None, dtype)])


def conditional(source: str, target: str) -> list[onnx.NodeProto]:
    """A node with two branches that read `source`, one of them two levels down."""
    inner = node(
        "If",
        "yes",
        f"{target}_i",
        then_branch=branch(source, "Abs", f"{target}_a"),
        else_branch=branch(source, "Neg", f"{target}_b"),
    )
    deep = helper.make_graph([inner], "deep", [], [value(f"{target}_i", None)])
    return [node("If", "yes", target, then_branch=deep, else_branch=branch(source, "Neg", f"{target}_c"))]


@form(output="logits", activation="none")
def subgraphs_read_the_output_logits() -> onnx.ModelProto:
    return two_outputs(
        conditional("logits", "scores"),
        value("logits", ["N", 4]),
        value("scores", None),
        constants={"yes": np.array(True)},
    )


@form(moved=frozenset({"scores"}))
def subgraphs_read_the_probabilities() -> onnx.ModelProto:
    nodes = [softmax(), *conditional("probs", "scores")]
    return two_outputs(nodes, value("probs", ["N", 4]), value("scores", None), constants={"yes": np.array(True)})


@form()
def subgraphs_read_the_logits() -> onnx.ModelProto:
    nodes = [*conditional("logits", "scores"), softmax()]
    return two_outputs(nodes, value("scores", None), value("probs", ["N", 4]), constants={"yes": np.array(True)})


@form(output="logits", activation="none")
def loop_body_reads_the_output_logits() -> onnx.ModelProto:
    body = helper.make_graph(
        [node("Identity", "go", "go_on"), node("Add", "total logits", "sum")],
        "body",
        [value("i", [], "int64"), value("go", [], "bool"), value("total", None)],
        [value("go_on", [], "bool"), value("sum", None)],
    )
    nodes = [node("Loop", ["times", "", "zero"], "sums", body=body)]
    constants = {"times": np.array(2), "zero": np.zeros((1, 4), np.float32)}
    return two_outputs(nodes, value("logits", ["N", 4]), value("sums", None), constants=constants)
