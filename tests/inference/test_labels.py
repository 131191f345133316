"""Labels where an output shows its logits in another layout, and where the model numbers or names its classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest

import onnxcal
from onnxcal.errors import DataError
from tests.corpus.form import build, ints, node, value, weights
from tests.corpus.forms.ml import labels_of, ml_model
from tests.reference.likelihood import best_temperature, one_hot, pairs

Array = np.ndarray[Any, Any]

N, F = 90, 6


def temperature(model: onnx.ModelProto, x: Array, y: Array, **options: Any) -> float:
    return onnxcal.calibrate(model, (x, y), no_holdout=True, **options).calibration.temperature


def drawn(z: Array) -> Array:
    """Labels of softmax(z / 2), classes last."""
    return np.asarray((z / 2 + np.random.default_rng(11).gumbel(size=z.shape)).argmax(axis=-1))


def expected(z: Array, y: Array) -> float:
    """T for logits with classes last and their labels."""
    k = z.shape[-1]
    return best_temperature(z.reshape(-1, k), one_hot(y.reshape(-1), k))


def over_time(
    nodes: Sequence[onnx.NodeProto], steps: int, classes: int, dims: Sequence[int | str], **constants: Array
) -> onnx.ModelProto:
    """x (N, T, 6) → Softmax p (N, T, K) → nodes → out."""
    body = [node("MatMul", "x w", "z"), node("Softmax", "z", "p", axis=2), *nodes]
    inputs = [value("x", ["N", steps, F])]
    return build(body, inputs, [value("out", dims)], {"w": weights(F, classes)} | constants)


def sequences(steps: int, classes: int) -> tuple[Array, Array, Array]:
    """Inputs, logits in float64, labels."""
    x = np.random.default_rng(7).normal(size=(N, steps, F)).astype(np.float32)
    z = x.astype(np.float64) @ weights(F, classes).astype(np.float64)
    return x, z, drawn(z)


def reverse(axis: int) -> tuple[onnx.NodeProto, dict[str, Array]]:
    constants = {"start": ints(-1), "end": ints(-(2**62)), "axis": ints(axis), "step": ints(-1)}
    return node("Slice", "p start end axis step", "out"), constants


@pytest.mark.parametrize("batch_size", [40, 64])
@pytest.mark.parametrize("steps", [3, 5], ids=["T = 3", "T = K = 5"])
@pytest.mark.parametrize("laid_out_as", ["output", "logits"])
def test_steps_in_another_order_keep_their_labels(laid_out_as: str, steps: int, batch_size: int) -> None:
    x, z, y = sequences(steps, 5)
    order = np.roll(np.arange(steps), 1)
    model = over_time([node("Gather", "p i", "out", axis=1)], steps, 5, ["N", steps, 5], i=order)
    given = y[:, order] if laid_out_as == "output" else y
    result = onnxcal.calibrate(model, (x, given), no_holdout=True, batch_size=batch_size)
    assert result.calibration.temperature == pytest.approx(expected(z, y), rel=1e-6)
    assert any(f"read in the {laid_out_as}" in warning for warning in result.warnings)


def test_reversed_steps_are_not_reversed_classes() -> None:
    x, z, y = sequences(5, 5)
    flip, constants = reverse(1)
    model = over_time([flip], 5, 5, ["N", 5, 5], **constants)
    assert temperature(model, x, y[:, ::-1]) == pytest.approx(expected(z, y), rel=1e-6)


def test_steps_and_classes_in_another_order_keep_their_labels() -> None:
    """Which layout labels are in is judged by the classes that the output shows, not by those of its logits."""
    x, z, y = sequences(3, 5)
    steps, classes = np.array([2, 0, 1]), np.array([3, 0, 4, 1, 2])
    nodes = [node("Gather", "p i", "q", axis=1), node("Gather", "q j", "out", axis=2)]
    model = over_time(nodes, 3, 5, ["N", 3, 5], i=steps, j=classes)
    given = np.argsort(classes)[y][:, steps]
    assert temperature(model, x, given) == pytest.approx(expected(z, y), rel=1e-6)


def test_reversed_classes_are_not_reversed_steps() -> None:
    x, z, y = sequences(5, 5)
    flip, constants = reverse(2)
    result = onnxcal.calibrate(over_time([flip], 5, 5, ["N", 5, 5], **constants), (x, 4 - y), no_holdout=True)
    assert result.calibration.temperature == pytest.approx(expected(z, y), rel=1e-6)
    assert not any("layout" in warning for warning in result.warnings)


@pytest.mark.parametrize("index", [np.array(-1), ints(-1)], ids=["number", "list"])
def test_labels_of_the_last_step_belong_to_its_logits(index: Array) -> None:
    x, z, y = sequences(5, 5)
    dims = ["N", 5] if index.ndim == 0 else ["N", 1, 5]
    result = onnxcal.calibrate(
        over_time([node("Gather", "p i", "out", axis=1)], 5, 5, dims, i=index), (x, y[:, -1]), no_holdout=True
    )
    assert result.calibration.temperature == pytest.approx(expected(z[:, -1], y[:, -1]), rel=1e-6)
    assert result.calibration.n_samples == N
    assert any("one place of an axis" in warning for warning in result.warnings)


def test_a_crop_takes_the_labels_of_the_crop_or_of_the_whole() -> None:
    x, z, y = sequences(6, 4)
    constants = {"start": ints(1), "end": ints(5), "axis": ints(1)}
    model = over_time([node("Slice", "p start end axis", "out")], 6, 4, ["N", 4, 4], **constants)
    assert temperature(model, x, y[:, 1:5]) == pytest.approx(expected(z[:, 1:5], y[:, 1:5]), rel=1e-6)
    assert temperature(model, x, y) == pytest.approx(expected(z, y), rel=1e-6)
    soft = np.full((N, 4, 4), 0.05) + 0.8 * np.eye(4)[y[:, 1:5]]
    wanted = best_temperature(z[:, 1:5].reshape(-1, 4), soft.reshape(-1, 4))
    assert temperature(model, x, soft) == pytest.approx(wanted, rel=1e-6)


def test_predictions_of_a_crop_are_verified() -> None:
    x, _, _ = sequences(6, 4)
    constants = {"start": ints(1), "end": ints(5), "axis": ints(1)}
    model = over_time([node("Slice", "p start end axis", "out")], 6, 4, ["N", 4, 4], **constants)
    patched = onnxcal.patch(model, temperature=2.0).proto
    assert patched is not None
    assert onnxcal.verify(model, patched, x).verification.passed


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)], ids=str)
def test_places_and_classes_on_one_axis_take_labels_of_the_logits_if_their_order_is_kept(
    order: tuple[int, ...],
) -> None:
    x, z, y = sequences(3, 5)
    nodes = [node("Gather", "p i", "g", axis=1), node("Reshape", "g flat", "out")]
    model = over_time(nodes, 3, 5, ["N", 15], i=ints(*order), flat=ints(-1, 15))
    if order == (0, 1, 2):
        assert temperature(model, x, y) == pytest.approx(expected(z, y), rel=1e-6)
    else:
        with pytest.raises(DataError, match="shows places and classes on one axis"):
            onnxcal.calibrate(model, (x, y))


def test_time_major_outputs_have_labels_with_samples_first() -> None:
    x, z, y = sequences(3, 5)
    nodes = [node("Transpose", "p", "t", perm=[1, 0, 2]), node("Reshape", "t flat", "out")]
    flattened = over_time(nodes, 3, 5, ["M", 5], flat=ints(-1, 5))
    assert temperature(flattened, x, y) == pytest.approx(expected(z, y), rel=1e-6)
    turned = over_time([node("Transpose", "p", "out", perm=[1, 0, 2])], 3, 5, [3, "N", 5])
    assert temperature(turned, x, y) == pytest.approx(expected(z, y), rel=1e-6)


@pytest.mark.parametrize("batch", ["N", 4])
def test_the_class_axis_may_stand_before_the_samples(batch: int | str) -> None:
    x, z, y = sequences(3, 5)
    body = [
        node("MatMul", "x w", "z"),
        node("Transpose", "z", "t", perm=[1, 2, 0]),
        node("Softmax", "t", "out", axis=1),
    ]
    model = build(body, [value("x", [batch, 3, F])], [value("out", [3, 5, batch])], {"w": weights(F, 5)})
    assert temperature(model, x, y) == pytest.approx(expected(z, y), rel=1e-6)


@pytest.mark.parametrize("picked", [(1, 0, 2, 3), (0, 1), (0, 1, 2, 2)], ids=str)
def test_an_output_that_picks_samples_is_refused(picked: tuple[int, ...]) -> None:
    body = [
        node("MatMul", "x w", "z"),
        node("Softmax", "z", "p", axis=2),
        node("Transpose", "p", "t", perm=[1, 0, 2]),
        node("Gather", "t i", "out", axis=1),
    ]
    constants = {"w": weights(F, 5), "i": ints(*picked)}
    model = build(body, [value("x", [4, 3, F])], [value("out", [3, len(picked), 5])], constants)
    x, _, y = sequences(3, 5)
    with pytest.raises(DataError, match="shows only some of its samples, or in another order"):
        onnxcal.calibrate(model, (x, y))


def test_labels_that_fit_two_layouts_and_agree_with_none_are_refused() -> None:
    x, _, _ = sequences(5, 5)
    flip, constants = reverse(1)
    with pytest.raises(DataError, match="fit the layout of output 'out'"):
        onnxcal.calibrate(
            over_time([flip], 5, 5, ["N", 5, 5], **constants), (x, np.random.default_rng(9).integers(0, 5, (N, 5)))
        )


def test_labels_that_fit_neither_output_nor_logits_are_refused_with_both_shapes() -> None:
    x, _, y = sequences(6, 4)
    constants = {"start": ints(1), "end": ints(5), "axis": ints(1)}
    model = over_time([node("Slice", "p start end axis", "out")], 6, 4, ["N", 4, 4], **constants)
    with pytest.raises(DataError, match=r"fit neither output 'out' of shape \(64, 4, 4\) nor its logits of shape"):
        onnxcal.calibrate(model, (x, y[:, :3]))


def test_labels_of_the_whole_are_refused_where_a_crop_shows_classes_in_another_order() -> None:
    x, z, y = sequences(6, 4)
    constants = {"start": ints(1), "end": ints(5), "axis": ints(1), "i": ints(2, 0, 3, 1)}
    nodes = [node("Slice", "p start end axis", "s"), node("Gather", "s i", "out", axis=2)]
    model = over_time(nodes, 6, 4, ["N", 4, 4], **constants)
    with pytest.raises(DataError, match="classes in another order"):
        onnxcal.calibrate(model, (x, y))
    shown = np.argsort([2, 0, 3, 1])[y[:, 1:5]]
    assert temperature(model, x, shown) == pytest.approx(expected(z[:, 1:5], y[:, 1:5]), rel=1e-6)


def dense(
    activation: str, classes: int, height: int, width: int, perm: Sequence[int], dims: Sequence[int | str], **axis: int
) -> tuple[onnx.ModelProto, Array, Array]:
    """Convolution → activation → Transpose; also inputs and logits (N, H, W, K)."""
    kernel = weights(classes, F, 1, 1)
    body = [node("Conv", "x w", "z"), node(activation, "z", "p", **axis), node("Transpose", "p", "out", perm=perm)]
    model = build(body, [value("x", ["N", F, height, width])], [value("out", dims)], {"w": kernel})
    x = np.random.default_rng(7).normal(size=(N, F, height, width)).astype(np.float32)
    z = np.einsum("nfhw,kf->nhwk", x.astype(np.float64), kernel[:, :, 0, 0].astype(np.float64))
    return model, x, z


@pytest.mark.parametrize(("height", "width"), [(4, 4), (4, 5)])
def test_images_on_their_side_take_labels_of_either_layout(height: int, width: int) -> None:
    model, x, z = dense("Softmax", 5, height, width, [0, 3, 2, 1], ["N", width, height, 5], axis=1)
    y = drawn(z)
    assert temperature(model, x, y.transpose(0, 2, 1)) == pytest.approx(expected(z, y), rel=1e-6)
    assert temperature(model, x, y) == pytest.approx(expected(z, y), rel=1e-6)


def test_classes_put_last_leave_one_reading() -> None:
    model, x, z = dense("Softmax", 4, 4, 4, [0, 2, 3, 1], ["N", 4, 4, 4], axis=1)
    y = drawn(z)
    result = onnxcal.calibrate(model, (x, y), no_holdout=True)
    assert result.calibration.temperature == pytest.approx(expected(z, y), rel=1e-6)
    assert not any("layout" in warning for warning in result.warnings)
    assert temperature(model, x, np.eye(4)[y]) == pytest.approx(expected(z, y), rel=1e-6)


def test_places_that_are_only_flattened_take_labels_as_they_are_shown() -> None:
    kernel = weights(4, F, 1, 1)
    body = [node("Conv", "x w", "z"), node("Softmax", "z", "p", axis=1), node("Reshape", "p flat", "out")]
    constants = {"w": kernel, "flat": ints(0, 4, -1)}
    model = build(body, [value("x", ["N", F, 3, 5])], [value("out", ["N", 4, 15])], constants)
    x = np.random.default_rng(7).normal(size=(N, F, 3, 5)).astype(np.float32)
    z = np.einsum("nfhw,kf->nhwk", x.astype(np.float64), kernel[:, :, 0, 0].astype(np.float64))
    y = drawn(z)
    for given in (y, y.reshape(N, 15), np.moveaxis(np.eye(4)[y.reshape(N, 15)], -1, 1)):
        assert temperature(model, x, given) == pytest.approx(expected(z, y), rel=1e-6)


@pytest.mark.parametrize(("classes", "size"), [(5, 4), (4, 4)])
@pytest.mark.parametrize("laid_out_as", ["output", "logits"])
def test_flags_of_several_labels_are_laid_out_as_the_output_or_the_logits(
    laid_out_as: str, classes: int, size: int
) -> None:
    model, x, z = dense("Sigmoid", classes, size, size, [0, 2, 3, 1], ["N", size, size, classes])
    y = (np.random.default_rng(8).random(z.shape) < 1 / (1 + np.exp(-z / 2))).astype(int)
    given = y if laid_out_as == "output" else np.moveaxis(y, -1, 1)
    assert temperature(model, x, given, task="multilabel") == pytest.approx(best_temperature(*pairs(z, y)), rel=1e-6)


def test_flags_of_an_image_on_its_side_are_laid_out_as_it_is() -> None:
    model, x, z = dense("Sigmoid", 1, 4, 4, [0, 1, 3, 2], ["N", 1, 4, 4])
    y = (np.random.default_rng(8).random(z.shape) < 1 / (1 + np.exp(-z / 2))).astype(int)
    given = y[..., 0].transpose(0, 2, 1)[:, None]
    assert temperature(model, x, given) == pytest.approx(best_temperature(*pairs(z, y)), rel=1e-6)


# Classes

X = np.random.default_rng(7).normal(size=(300, F)).astype(np.float32)


def margins() -> tuple[Array, Array]:
    """Logits (N,) of weights (6, 1), and labels."""
    s = (X.astype(np.float64) @ weights(F, 1).astype(np.float64))[:, 0]
    return s, (np.random.default_rng(3).random(len(s)) < 1 / (1 + np.exp(-s / 2))).astype(int)


@pytest.mark.parametrize("order", [[0], [1], [0, 0], [1, 0]], ids=str)
def test_p_and_one_minus_p_in_another_order_mean_what_is_shown(order: list[int]) -> None:
    body = [
        node("MatMul", "x v", "z"),
        node("Sigmoid", "z", "p"),
        node("Sub", "one p", "q"),
        node("Concat", "p q", "c", axis=1),
        node("Gather", "c i", "out", axis=1),
    ]
    constants = {"v": weights(F, 1), "one": np.float32([1]), "i": ints(*order)}
    model = build(body, [value("x", ["N", F])], [value("out", ["N", len(order)])], constants)
    s, y = margins()
    if order == [0, 0]:
        with pytest.raises(DataError, match="shows only some of its 2 classes"):
            onnxcal.calibrate(model, (X, y))
        return
    assert temperature(model, X, y) == pytest.approx(best_temperature(*pairs(s, y)), rel=1e-6)


def ml_classifier(
    classes: Sequence[int | str], nodes: Sequence[onnx.NodeProto] = (), **constants: Array
) -> tuple[onnx.ModelProto, Array]:
    """LinearClassifier with post_transform SOFTMAX, or LOGISTIC for two classes; and its logits."""
    k = len(classes)
    w = weights(F, k).astype(np.float64)
    if k == 2:
        w = np.column_stack([-w[:, 0], w[:, 0]])
    kind = "classlabels_ints" if isinstance(classes[0], int) else "classlabels_strings"
    ml: dict[str, Any] = {
        "coefficients": w.T.ravel().tolist(),
        "intercepts": [0.0] * k,
        "post_transform": "LOGISTIC" if k == 2 else "SOFTMAX",
        kind: list(classes),
    }
    operator = node("LinearClassifier", "x", "label probs", domain="ai.onnx.ml", **ml)
    shown = [labels_of(classes), value("out" if nodes else "probs", ["N", k])]
    model = ml_model([operator, *nodes], shown, constants=constants)
    z = X.astype(np.float64) @ w
    return model, (z[:, 1] if k == 2 else z)


@pytest.mark.parametrize("numbers", [(-1, 1), (1, 2), (3, 7)])
@pytest.mark.parametrize("given", ["indices", "numbers"])
def test_two_classes_may_have_numbers_too(given: str, numbers: tuple[int, int]) -> None:
    model, s = ml_classifier(numbers)
    y = (np.random.default_rng(3).random(len(s)) < 1 / (1 + np.exp(-s / 2))).astype(int)
    labels = np.array(numbers)[y] if given == "numbers" else y
    assert temperature(model, X, labels) == pytest.approx(best_temperature(*pairs(s, y)), rel=1e-5)


def test_a_number_that_is_no_class_is_named() -> None:
    model, z = ml_classifier((10, 20, 30))
    labels = np.array([10, 20, 30])[z.argmax(axis=1)]
    labels[7] = 15
    with pytest.raises(DataError, match=r"label 15 of sample 7 is none of the class numbers .*10, 20, 30") as caught:
        onnxcal.calibrate(model, (X, labels))
    assert "--ignore-index 15" in (caught.value.hint or "")


def test_numbers_and_indices_are_not_mixed() -> None:
    model, z = ml_classifier((10, 20, 30))
    labels = np.array([10, 20, 30])[z.argmax(axis=1)]
    labels[4] = 2
    with pytest.raises(DataError, match="label 2 of sample 4 is none of the class numbers"):
        onnxcal.calibrate(model, (X, labels))


def test_a_number_among_indices_is_named() -> None:
    model, z = ml_classifier((1, 2, 3))
    labels = z.argmax(axis=1)
    labels[5] = 9
    with pytest.raises(DataError, match="label 9 of sample 5"):
        onnxcal.calibrate(model, (X, labels))


def test_numbers_without_the_last_class_are_not_taken_for_indices() -> None:
    model, z = ml_classifier((1, 2, 3))
    y = drawn(z)
    kept = y < 2
    with pytest.raises(DataError, match="as well as the model's class numbers") as caught:
        onnxcal.calibrate(model, (X[kept], y[kept] + 1))
    assert "strings" in (caught.value.hint or "")
    found = temperature(model, X[kept], (y[kept] + 1).astype(str))
    assert found == pytest.approx(best_temperature(z[kept], one_hot(y[kept], 3)), rel=1e-5)


@pytest.mark.parametrize("names", [("cat", "dog", "emu"), (7, 3, 5)], ids=["names", "numbers"])
def test_what_classes_are_called_holds_whatever_order_the_output_has(names: tuple[Any, ...]) -> None:
    model, z = ml_classifier(names, [node("Gather", "probs i", "out", axis=1)], i=ints(2, 0, 1))
    y = drawn(z)
    wanted = pytest.approx(best_temperature(z, one_hot(y, 3)), rel=1e-5)
    assert temperature(model, X, np.array(names)[y]) == wanted
    if isinstance(names[0], int):
        assert temperature(model, X, np.array([1, 2, 0])[y]) == wanted


# Batches as long as the class axis


@pytest.mark.parametrize(("classes", "options"), [(64, {}), (5, {"batch_size": 5})])
def test_samples_on_the_axis_of_classes_are_found_out(classes: int, options: dict[str, Any]) -> None:
    body = [node("Transpose", "x", "t"), node("MatMul", "w t", "m"), node("Einsum", "m", "out", equation="kn->kn")]
    model = build(body, [value("x", ["N", F])], [value("out", [classes, "N"])], {"w": weights(classes, F)})
    x = np.random.default_rng(7).normal(size=(4 * classes, F)).astype(np.float32)
    z = x.astype(np.float64) @ weights(classes, F).astype(np.float64).T
    y = drawn(z)
    with pytest.raises(DataError, match="axis 1, which was taken for the classes, counts samples") as caught:
        onnxcal.calibrate(model, (x, y), **options)
    assert caught.value.hint == "pass --axis 0"
    assert temperature(model, x, y, axis=0, **options) == pytest.approx(expected(z, y), rel=1e-5)


def test_weights_on_the_left_make_the_first_axis_the_classes() -> None:
    body = [node("Transpose", "x", "t"), node("MatMul", "w t", "out")]
    model = build(body, [value("x", ["N", F])], [value("out", [5, "N"])], {"w": weights(5, F)})
    x = np.random.default_rng(7).normal(size=(20, F)).astype(np.float32)
    z = x.astype(np.float64) @ weights(5, F).astype(np.float64).T
    assert temperature(model, x, drawn(z), batch_size=5) == pytest.approx(expected(z, drawn(z)), rel=1e-5)


def test_a_batch_as_long_as_the_class_axis_is_no_reason_to_refuse() -> None:
    model = build(
        [node("MatMul", "x w", "out")], [value("x", ["N", F])], [value("out", ["N", 5])], {"w": weights(F, 5)}
    )
    x = np.random.default_rng(7).normal(size=(100, F)).astype(np.float32)
    z = x.astype(np.float64) @ weights(F, 5).astype(np.float64)
    assert temperature(model, x, drawn(z), batch_size=5) == pytest.approx(expected(z, drawn(z)), rel=1e-5)
