"""Which output is the head, and what is said where that is not clear. The forms themselves are in tests/corpus."""

from __future__ import annotations

import onnx
import pytest

from onnxcal.errors import ModelError
from onnxcal.graph.detect import candidates, find_head
from onnxcal.graph.modelfile import open_model
from onnxcal.graph.tails import Hints
from tests.builders import classifier, softmax
from tests.corpus.form import build, node, value, weights


def on_logits(nodes: list[onnx.NodeProto], *outputs: onnx.ValueInfoProto) -> onnx.ModelProto:
    body = [node("MatMul", "x w", "logits"), *nodes]
    return build(body, [value("x", ["N", 6])], list(outputs), {"w": weights(6, 4)})


def test_an_activation_goes_before_raw_values_whatever_the_order() -> None:
    for outputs in (("logits", "probs"), ("probs", "logits")):
        model = on_logits([softmax()], *(value(name, ["N", 4]) for name in outputs))
        assert find_head(open_model(model)).output == "probs"


def test_several_classifiers_are_listed_and_one_must_be_chosen() -> None:
    model = on_logits([softmax(), node("Sigmoid", "logits", "s")], value("probs", ["N", 4]), value("s", ["N", 4]))
    with pytest.raises(ModelError) as caught:
        find_head(open_model(model))
    assert "'probs'" in caught.value.message
    assert "'s'" in caught.value.message
    assert "--head" in str(caught.value.hint)
    assert find_head(open_model(model), "s").activation == "sigmoid"


def test_several_raw_outputs_are_asked_about() -> None:
    model = on_logits([node("Neg", "logits", "n")], value("logits", ["N", 4]), value("n", ["N", 4]))
    with pytest.raises(ModelError, match="2 outputs"):
        find_head(open_model(model))


def test_names_are_not_believed() -> None:
    """An output called logits that holds probabilities, and the other way round."""
    model = on_logits([softmax("logits", "p"), node("Identity", "p", "raw_logits")], value("raw_logits", ["N", 4]))
    assert find_head(open_model(model)).activation == "softmax"
    model = classifier([node("Identity", "logits", "probabilities")], output="probabilities")
    assert find_head(open_model(model)).activation == "none"


def test_an_output_listed_twice_is_one_candidate() -> None:
    model = classifier([softmax()], output="probs")
    model.graph.output.append(model.graph.output[0])
    assert [c.output for c in candidates(open_model(model))] == ["probs"]


def test_each_candidate_has_a_head_or_a_reason_and_a_hint() -> None:
    nodes = [softmax(), node("ArgMax", "logits", "label"), node("Exp", "logits", "odds")]
    outputs = [value("probs", ["N", 4]), value("label", [1, 4], "int64"), value("odds", ["N", 4])]
    found = {c.output: c for c in candidates(open_model(on_logits(nodes, *outputs)))}
    assert found["probs"].head is not None
    for name in ("label", "odds"):
        assert found[name].head is None
        assert found[name].reason
        assert found[name].hint


@pytest.mark.parametrize("name", ["", "logits ", "PROBS", "p" * 300])
def test_an_output_that_is_not_there_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(ModelError, match="no output") as caught:
        find_head(open_model(classifier([softmax()], output="probs")), name)
    assert "'probs'" in str(caught.value.hint)


@pytest.mark.parametrize("opset", [1, 2, 5, 6])
def test_operator_sets_that_onnxruntime_cannot_run_are_refused(opset: int) -> None:
    with pytest.raises(ModelError, match=f"opset {opset}") as caught:
        find_head(open_model(classifier([softmax()], output="probs", opset=opset, ir_version=3)))
    assert "convert_version" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("hints", "says"),
    [
        (Hints(task="binary"), "multiclass"),
        (Hints(task="multilabel"), "multiclass"),
        (Hints(axis=0), "axis 1, not 0"),
        (Hints(axis=5), "axis"),
        (Hints(axis=-3), "axis"),
        (Hints(activation="sigmoid"), "not sigmoid"),
        (Hints(activation="log_softmax"), "not log_softmax"),
    ],
    ids=str,
)
def test_hints_that_contradict_a_softmax_are_refused(hints: Hints, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        find_head(open_model(classifier([softmax()], output="probs")), None, hints)


@pytest.mark.parametrize(
    "hints", [Hints(axis=1), Hints(axis=-1), Hints(task="multiclass"), Hints(activation="softmax")], ids=str
)
def test_hints_that_agree_change_nothing(hints: Hints) -> None:
    model = open_model(classifier([softmax()], output="probs"))
    assert find_head(model, None, hints) == find_head(model)


@pytest.mark.parametrize("cut", [["Relu"], ["Exp"], ["Relu", "Exp"]])
def test_activation_none_makes_any_float_output_a_head(cut: list[str]) -> None:
    nodes, source = [], "logits"
    for op in cut:
        nodes.append(node(op, source, f"{op}_out"))
        source = f"{op}_out"
    nodes[-1].output[0] = "y"
    head = find_head(open_model(on_logits(nodes, value("y", ["N", 4]))), None, Hints(activation="none"))
    assert (head.output, head.logits, head.activation) == ("y", "y", "none")


@pytest.mark.parametrize("to", [6, 7, 9, 3], ids=["int32", "int64", "bool", "int8"])
def test_values_that_went_through_another_kind_of_number_are_no_probabilities(to: int) -> None:
    nodes = [softmax(target="p"), node("Cast", "p", "i", to=to), node("Cast", "i", "probs", to=1)]
    with pytest.raises(ModelError):
        find_head(open_model(on_logits(nodes, value("probs", ["N", 4]))))
