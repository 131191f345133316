"""Models and labels that could be read two ways: the reading is right, or it is refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import onnxcal
from onnxcal.errors import DataError, ModelError, VerificationError
from tests.builders import classifier, labelled_data, softmax
from tests.corpus.form import Shape, build, ints, node, value, weights
from tests.corpus.forms.ml import labels_of, ml_model
from tests.corpus.forms.trees import Stumps
from tests.inference.test_samples import X as ML_X
from tests.inference.test_samples import linear_classifier
from tests.reference.likelihood import best_temperature, one_hot, pairs

X, Y = labelled_data(300)


def temperature(model: onnx.ModelProto, x: np.ndarray, y: np.ndarray, **options: object) -> float:
    return onnxcal.calibrate(model, (x, y), no_holdout=True, **options).calibration.temperature  # type: ignore[arg-type]


PLAIN = classifier([softmax()], output="probs")
TRUTH = temperature(PLAIN, X, Y)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("order", ["drawn", "sorted"])
@pytest.mark.parametrize("given", ["indices", "numbers"])
def test_class_numbers_are_read_one_way_whatever_the_batches(given: str, order: str, batch_size: int) -> None:
    model = linear_classifier(classlabels_ints=[1, 2, 3, 4])
    z = onnxcal.collect_logits(model, (ML_X, np.zeros(len(ML_X), int))).values.astype(np.float64)
    y = (z + np.random.default_rng(5).gumbel(size=z.shape)).argmax(axis=1)
    index = np.argsort(y, kind="stable") if order == "sorted" else np.arange(len(y))
    labels = y[index] + (given == "numbers")
    found = temperature(model, ML_X[index], labels, batch_size=batch_size)
    assert found == pytest.approx(best_temperature(z, one_hot(y, 4)), rel=1e-6)


def test_numbers_that_fit_both_readings_are_taken_for_indices_and_that_is_said() -> None:
    model = linear_classifier(classlabels_ints=[3, 2, 1, 0])
    result = onnxcal.collect_logits(model, (ML_X, np.arange(len(ML_X)) % 4))
    assert (result.labels == np.arange(len(ML_X)) % 4).all()
    assert any("class indices from 0" in warning for warning in result.warnings)


def behind_probabilities(nodes: Sequence[onnx.NodeProto], shape: Shape, **constants: np.ndarray) -> onnx.ModelProto:
    body = [node("MatMul", "x w", "z"), node("Softmax", "z", "p"), *nodes]
    return build(body, [value("x", ["N", 6])], [value("out", shape)], {"w": weights(6, 4)} | constants)


def test_labels_are_those_of_the_columns_that_the_output_shows() -> None:
    swapped = behind_probabilities([node("Gather", "p i", "out", axis=1)], ["N", 4], i=ints(2, 0, 3, 1))
    plain = behind_probabilities([node("Identity", "p", "out")], ["N", 4])
    y = (onnxcal.collect_logits(plain, (X, Y)).values + np.random.default_rng(1).gumbel(size=(300, 4))).argmax(axis=1)
    shown = np.argsort([2, 0, 3, 1])[y]
    assert temperature(swapped, X, shown) == pytest.approx(temperature(plain, X, y), rel=1e-9)
    assert onnxcal.evaluate(swapped, (X, shown)).metrics.accuracy == onnxcal.evaluate(plain, (X, y)).metrics.accuracy
    soft = np.full((300, 4), 0.05) + 0.8 * np.eye(4)[shown]
    expected = np.full((300, 4), 0.05) + 0.8 * np.eye(4)[y]
    assert temperature(swapped, X, soft) == pytest.approx(temperature(plain, X, expected), rel=1e-9)


@pytest.mark.parametrize("indices", [(1, 2, 3), (1, 1), (0, 1, 2, 2)], ids=str)
def test_outputs_that_show_some_classes_are_not_fitted(indices: tuple[int, ...]) -> None:
    part = behind_probabilities([node("Gather", "p i", "out", axis=1)], ["N", len(indices)], i=ints(*indices))
    with pytest.raises(DataError, match="shows only some of its 4 classes"):
        onnxcal.calibrate(part, (X, Y))


def test_of_p_and_one_minus_p_the_first_column_is_class_0() -> None:
    def pair(first: str, second: str) -> onnx.ModelProto:
        body = [
            node("MatMul", "x v", "z"),
            node("Sigmoid", "z", "p"),
            node("Sub", "one p", "q"),
            node("Concat", [first, second], "out", axis=1),
        ]
        constants = {"v": weights(6, 1), "one": np.float32([1])}
        return build(body, [value("x", ["N", 6])], [value("out", ["N", 2])], constants)

    z = (X @ weights(6, 1)).astype(np.float64)[:, 0]
    y = (np.random.default_rng(2).random(300) < 1 / (1 + np.exp(-z / 2))).astype(int)
    assert temperature(pair("p", "q"), X, 1 - y) == pytest.approx(temperature(pair("q", "p"), X, y), rel=1e-9)


def over_time(
    nodes: Sequence[onnx.NodeProto], batch: int | str, shape: Shape, **constants: np.ndarray
) -> onnx.ModelProto:
    body = [node("MatMul", "x w", "z"), node("Transpose", "z", "t", perm=[1, 0, 2]), *nodes]
    return build(body, [value("x", [batch, 3, 6])], [value("probs", shape)], {"w": weights(6, 4)} | constants)


SEQUENCES = np.random.default_rng(3).normal(size=(60, 3, 6)).astype(np.float32)
SCORES = SEQUENCES.astype(np.float64) @ weights(6, 4).astype(np.float64)
TOKENS = (SCORES / 2 + np.random.default_rng(4).gumbel(size=SCORES.shape)).argmax(axis=2)


@pytest.mark.parametrize("batch", ["N", 3, 4])
def test_time_major_logits_of_a_fixed_batch_as_long_as_the_time_axis(batch: int | str) -> None:
    model = over_time([softmax("t", "probs", axis=2)], batch, [3, batch, 4])
    expected = best_temperature(SCORES.reshape(-1, 4), one_hot(TOKENS.reshape(-1), 4))
    assert temperature(model, SEQUENCES, TOKENS) == pytest.approx(expected, rel=1e-6)


def test_flattened_time_major_logits_are_refused() -> None:
    nodes = [node("Reshape", "t flat", "r"), softmax("r", "probs", axis=1)]
    with pytest.raises(DataError, match="samples change fastest"):
        onnxcal.calibrate(over_time(nodes, "N", ["M", 4], flat=ints(-1, 4)), (SEQUENCES, TOKENS))


def outputs(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": X}), strict=True))


PIECES = (
    node("ReduceMax", "logits", "m", axes=[1]),
    node("Sub", "logits m", "d"),
    node("Exp", "d", "e"),
    node("ReduceSum", "e a", "t"),
    node("Div", "e t", "probs"),
)


@pytest.mark.parametrize("other", ["d", "m", "s"])
def test_what_else_reads_the_pieces_of_a_softmax_stays_as_it_is(other: str) -> None:
    width = 1 if other == "m" else 4
    model = classifier(
        [*PIECES, node("Sigmoid", "d", "s")],
        output="probs",
        more_outputs=[helper.make_tensor_value_info(other, TensorProto.FLOAT, ["N", width])],
        initializers=[onnx.numpy_helper.from_array(ints(1), "a")],
    )
    result = onnxcal.calibrate(model, (X, Y), no_holdout=True, head="probs")
    assert result.calibration.temperature == pytest.approx(TRUTH, rel=1e-6)
    assert result.proto is not None
    assert outputs(result.proto)[other].tobytes() == outputs(model)[other].tobytes()


def test_what_stands_between_margins_and_their_output_may_have_no_other_reader() -> None:
    body = [
        node("MatMul", "x v", "s"),
        node("Neg", "s", "n"),
        node("Concat", "n s", "c", axis=1),
        node("Identity", "c", "a"),
        node("Identity", "a", "out"),
        node("Add", "a a", "other"),
    ]
    shown = [value("out", ["N", 2]), value("other", ["N", 2])]
    with pytest.raises(ModelError, match="something else reads it"):
        onnxcal.patch(build(body, [value("x", ["N", 6])], shown, {"v": weights(6, 1)}), temperature=2.0, head="out")


BEHIND_SCORES = {
    "nothing": ([], {}, "float32"),
    "Cast": ([node("Cast", "scores", "out", to=TensorProto.FLOAT16)], {}, "float16"),
    "Clip": ([node("Clip", "scores low high", "out")], {"low": np.float32(-50), "high": np.float32(50)}, "float32"),
    "narrow Clip": (
        [node("Clip", "scores low high", "out")],
        {"low": np.float32(-1), "high": np.float32(1)},
        "float32",
    ),
    "Gather": ([node("Gather", "scores both", "out", axis=1)], {"both": ints(0, 1)}, "float32"),
    "Gather that swaps": ([node("Gather", "scores both", "out", axis=1)], {"both": ints(1, 0)}, "float32"),
}


def two_trees(behind: str) -> onnx.ModelProto:
    """A tree on feature 0, and one on feature 1 with other leaves: scores of two classes, and something behind them."""
    nodes, constants, dtype = BEHIND_SCORES[behind]
    stumps = Stumps(2, [(0, 0.0, {0: -2.0}, {0: 3.0}), (1, 0.0, {1: 2.5}, {1: -4.0})])
    shown = [labels_of([0, 1]), value("out" if nodes else "scores", ["N", 2], dtype)]
    return ml_model([stumps.node("NONE"), *nodes], shown, ml=3, constants=constants)


@pytest.mark.parametrize("behind", BEHIND_SCORES)
def test_two_scores_that_are_no_margins_are_refused_whatever_stands_behind_them(behind: str) -> None:
    model = two_trees(behind)
    with pytest.raises(ModelError, match="its columns are two scores"):
        onnxcal.calibrate(model, (X, Y % 2))
    patched = onnxcal.patch(model, temperature=2.0).proto
    assert patched is not None
    with pytest.raises(ModelError, match="its columns are two scores"):
        onnxcal.verify(model, patched, X)


@pytest.mark.parametrize("behind", BEHIND_SCORES)
def test_margins_are_known_whatever_stands_behind_them(behind: str) -> None:
    nodes, constants, dtype = BEHIND_SCORES[behind]
    stumps = Stumps(2, [(0, 0.0, {0: 2.0, 1: -2.0}, {0: -3.0, 1: 3.0})])
    shown = [labels_of([0, 1]), value("out" if nodes else "scores", ["N", 2], dtype)]
    model = ml_model([stumps.node("NONE"), *nodes], shown, ml=3, constants=constants)
    s = np.where(X[:, 0] <= 0, -2.0, 3.0)
    y = (np.random.default_rng(6).random(len(s)) < 1 / (1 + np.exp(-s / 2))).astype(int)
    shown = 1 - y if behind == "Gather that swaps" else y
    assert temperature(model, X, shown) == pytest.approx(best_temperature(*pairs(s, y)), rel=1e-6)


def test_a_label_that_the_graph_makes_of_a_threshold_may_not_change() -> None:
    """σ(z/T) > 0.3 is another decision than σ(z) > 0.3."""
    model = classifier(
        [node("Sigmoid", "logits", "p"), node("Greater", "p limit", "over"), node("Cast", "over", "label", to=7)],
        output="p",
        output_shape=["N", 1],
        classes=1,
        more_outputs=[helper.make_tensor_value_info("label", TensorProto.INT64, ["N", 1])],
        initializers=[onnx.numpy_helper.from_array(np.float32(0.3), "limit")],
    )
    patched = onnxcal.patch(model, temperature=3.0, head="p").proto
    assert patched is not None
    assert (outputs(model)["label"] != outputs(patched)["label"]).any()
    verification = onnxcal.verify(model, patched, X).verification
    assert [check.name for check in verification.checks if not check.passed] == ["other outputs"]
    with pytest.raises(VerificationError, match="'label'"):
        onnxcal.patch(model, temperature=3.0, head="p", data=X)


def test_raw_logits_that_are_said_to_be_probabilities_are_refused() -> None:
    with pytest.raises(ModelError, match="holds raw logits") as caught:
        onnxcal.patch(classifier(), temperature=2.0, activation="softmax")
    assert "drop --activation" in (caught.value.hint or "")


@pytest.mark.parametrize("broken", [("Sub", "logits"), ("Div", "logits"), ("Gather", "probs"), ("Sub", "a b c")])
def test_nodes_that_lack_inputs_are_refused_in_one_sentence(broken: tuple[str, str]) -> None:
    model = classifier([softmax(), node(broken[0], broken[1], "out")], output="out")
    with pytest.raises(ModelError):
        onnxcal.patch(model, temperature=2.0)
    assert onnxcal.inspect(model).heads == ()


def test_a_patch_that_is_not_run_names_what_else_changes() -> None:
    sure = helper.make_tensor_value_info("sure", TensorProto.FLOAT, ["N"])
    model = classifier(
        [softmax(), node("ReduceMax", "probs", "sure", axes=[1], keepdims=0)], output="probs", more_outputs=[sure]
    )
    warnings = onnxcal.patch(model, temperature=2.0, head="probs").warnings
    assert any("'sure' is computed from what is calibrated" in warning for warning in warnings)
    assert any("'sure'" in warning for warning in onnxcal.calibrate(model, (X, Y), head="probs").warnings)


def test_an_overload_of_a_function_is_not_mistaken_for_another() -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    functions = [
        helper.make_function("local", "F", ["z"], ["p"], [node(op, "z", "p")], opsets, overload=overload)
        for op, overload in (("Sigmoid", "u"), ("Softmax", "w"))
    ]
    call = node("F", "z", "out", domain="local")
    call.overload = "u"
    model = build(
        [node("MatMul", "x w", "z"), call], [value("x", ["N", 6])], [value("out", ["N", 4])], {"w": weights(6, 4)}
    )
    model.ir_version = 10
    model.functions.extend(functions)
    model.opset_import.add(domain="local", version=1)
    (head,) = onnxcal.inspect(model).heads
    assert head.activation == "sigmoid"
