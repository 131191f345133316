"""The door: what a user's logits and labels must be, and the rows that they become."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, log_expit, log_softmax

from onnxcal.errors import DataError, UsageError
from onnxcal.labels import label_rows
from onnxcal.logits import CHUNK_ELEMENTS, Labels, Logits, Probabilities, check_task, chunks
from onnxcal.rows import labelled as labelled_sample
from onnxcal.rows import logit_rows
from tests.reference.refusals import refused

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(6, 3))
Y = np.array([0, 1, 2, 0, 1, 2])


# Rows


def labelled(*arrays, **options):
    sample = labelled_sample(*arrays, **options)
    return sample.logits, sample.labels


@pytest.mark.parametrize(("shape", "task"), [((6,), "binary"), ((6, 1), "binary"), ((6, 2), "multiclass")])
def test_the_task_follows_from_the_shape(shape, task):
    logits, _ = labelled(np.zeros(shape), np.zeros(6, int))
    assert logits.task == task
    assert logits.n_samples == 6
    assert logits.num_classes == 2


def test_indices_stay_indices_of_any_integer_type():
    for dtype in ("int8", "uint8", "int32", "int64", "uint64", "float32", "float64"):
        _, labels = labelled(Z, Y.astype(dtype))
        assert labels.are_indices
        np.testing.assert_array_equal(labels.values, Y)


def test_bools_are_labels():
    np.testing.assert_array_equal(labelled(Z[:, :2], Y > 0)[1].values, [0, 1, 1, 0, 1, 1])
    np.testing.assert_array_equal(labelled(Z[:, 0], Y > 0)[1].values, [0, 1, 1, 0, 1, 1])


@pytest.mark.parametrize("shape", [(6,), (6, 1), (1, 6), (6, 1, 1)])
def test_axes_of_length_one_do_not_matter_in_labels(shape):
    np.testing.assert_array_equal(labelled(Z, Y.reshape(shape))[1].values, Y)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float64"])
def test_one_hot_labels_become_indices(dtype):
    _, labels = labelled(Z, np.eye(3)[Y].astype(dtype))
    assert labels.are_indices
    np.testing.assert_array_equal(labels.values, Y)


def test_soft_labels_stay_probabilities():
    w = RNG.dirichlet(np.ones(3), size=6)
    _, labels = labelled(Z, w)
    assert not labels.are_indices
    np.testing.assert_allclose(labels.values, w, rtol=1e-15)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rounded_soft_labels_are_brought_to_one(dtype):
    w = np.array([[0.1, 0.2, 0.7], [0.3333, 0.3333, 0.3333]] * 3).astype(dtype)
    _, labels = labelled(Z, w)
    np.testing.assert_allclose(labels.values.sum(axis=1), 1.0, rtol=1e-15)


def test_a_dense_head_has_one_row_a_position():
    z, y = RNG.normal(size=(2, 3, 4, 5)), RNG.integers(0, 3, size=(2, 4, 5))
    logits, labels = labelled(z, y)
    rows = [(z[n, :, i, j], y[n, i, j]) for n in range(2) for i in range(4) for j in range(5)]
    np.testing.assert_array_equal(logits.values, [row for row, _ in rows])
    np.testing.assert_array_equal(labels.values, [label for _, label in rows])


@pytest.mark.parametrize("reshape", [lambda y: y.reshape(-1), lambda y: y[:, None], lambda y: y[..., None]])
def test_dense_labels_may_be_flat_or_keep_an_axis_for_the_class(reshape):
    z, y = RNG.normal(size=(2, 3, 4, 5)), RNG.integers(0, 3, size=(2, 4, 5))
    np.testing.assert_array_equal(labelled(z, reshape(y))[1].values, y.reshape(-1))


def test_a_dense_multilabel_head_has_one_row_a_position():
    z, y = RNG.normal(size=(2, 3, 4)), RNG.integers(0, 2, size=(2, 3, 4))
    logits, labels = labelled(z, y, task="multilabel")
    np.testing.assert_array_equal(logits.values, z.transpose(0, 2, 1).reshape(8, 3))
    np.testing.assert_array_equal(labels.values, y.transpose(0, 2, 1).reshape(8, 3))


def test_one_sample_needs_no_batch_axis():
    logits, labels = labelled(Z[0], [2], task="multiclass")
    assert logits.values.shape == (1, 3)
    np.testing.assert_array_equal(labels.values, [2])


def test_a_softmax_below_opset_13_has_all_later_axes_as_its_classes():
    z, y = RNG.normal(size=(2, 3, 4)), np.array([11, 5])
    np.testing.assert_array_equal(logit_rows(z, "multiclass", 1, flatten=True), z.reshape(2, 12))
    np.testing.assert_array_equal(label_rows(y, z.shape, "multiclass", 1, flatten=True), y)
    np.testing.assert_array_equal(label_rows(np.eye(12)[y].reshape(2, 3, 4), z.shape, "multiclass", 1, flatten=True), y)


def test_torch_tensors_are_arrays():
    logits, labels = labelled(torch.tensor(Z, requires_grad=True), torch.tensor(Y))
    np.testing.assert_array_equal(logits.values, Z)
    np.testing.assert_array_equal(labels.values, Y)


def test_bfloat16_logits_are_widened():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    z = Z.astype(ml_dtypes.bfloat16)
    logits, _ = labelled(z, Y)
    np.testing.assert_array_equal(logits.values, z.astype(np.float64))


# Labels that do not fit


@pytest.mark.parametrize(
    ("labels", "said", "hint"),
    [
        ([0, 1, 3, 0, 1, 2], "label 3 of sample 2 is outside 0…2 (3 classes)", "--ignore-index 3"),
        ([0, 1, 2, 0, -1, -1], "label -1 of sample 4", "--ignore-index -1"),
        ([0, 1, 2, 0, 1, 255], "label 255 of sample 5", "--ignore-index 255"),
        ([1, 2, 3, 1, 2, 3], "label 3 of sample 2", "subtract 1"),
        ([7, 1, 2, 0, 9, 8], "label 7 of sample 0", "this model's classes"),
    ],
)
def test_labels_out_of_range_are_refused(labels, said, hint):
    with refused(DataError, said, hint=hint):
        labelled(Z, labels)


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, -np.inf])
def test_labels_that_are_no_index_are_refused(value):
    with refused(DataError, f"label {value} of sample 2 is not a class index", hint="(N, K)"):
        labelled(Z, [0, 1, value, 0, 1, 2])


def test_labels_beyond_int64_are_refused():
    with refused(DataError, "too large"):
        labelled(Z, np.full(6, 2**64 - 1, np.uint64))


@pytest.mark.parametrize("labels", [Y[:5], np.tile(Y, 2), []])
def test_a_wrong_number_of_labels_is_refused(labels):
    with refused(DataError, str(np.shape(labels)), "(6, 3)"):
        labelled(Z, labels)


def test_a_single_label_is_refused():
    with refused(DataError, "labels", "single number"):
        labelled(Z, 1)


def test_counts_are_named_where_they_differ():
    with refused(DataError, "(5,)", hint="5 labels for 6 rows"):
        labelled(Z, Y[:5])


@pytest.mark.parametrize(("shape", "axis"), [((2, 5, 4), 2), ((2, 3, 5, 4), 3)])
def test_labels_that_fit_another_class_axis_say_which(shape, axis):
    labels = np.zeros(shape[:axis] + shape[axis + 1 :], int)
    with refused(DataError, str(labels.shape), str(shape), hint=f"--axis {axis}"):
        labelled(np.zeros(shape), labels)


def test_one_hot_labels_of_other_classes_are_refused():
    with refused(DataError, "(6, 4)", "(6, 3)", hint="one-hot"):
        labelled(Z, np.eye(4)[Y])


def test_soft_labels_that_do_not_sum_to_one_are_refused():
    w = np.full((6, 3), 1 / 3)
    w[4] = [0.5, 0.2, 0.2]
    with refused(DataError, "soft label of sample 4 sums to 0.9", hint="multilabel"):
        labelled(Z, w)


@pytest.mark.parametrize(("row", "value"), [([-0.1, 0.5, 0.6], "-0.1"), ([2.0, -1.0, 0.0], "2")])
def test_soft_labels_outside_zero_to_one_are_refused(row, value):
    w = np.full((6, 3), 1 / 3)
    w[4] = row
    with refused(DataError, f"label {value} of sample 4 is not between 0 and 1"):
        labelled(Z, w)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_soft_labels_that_are_not_finite_are_refused(value):
    w = np.full((6, 3), 1 / 3)
    w[4, 1] = value
    with refused(DataError, "NaN or infinity"):
        labelled(Z, w)


@pytest.mark.parametrize(("value", "said"), [(2, "2"), (-1, "-1"), (1.5, "1.5")])
def test_binary_labels_are_zero_or_one(value, said):
    with refused(DataError, f"label {said} of sample 3 is not between 0 and 1", hint="--ignore-index"):
        labelled(Z[:, 0], [0, 1, 0, value, 1, 1])


def test_multilabel_labels_are_zero_or_one():
    flags = np.zeros((6, 3))
    flags[5, 2] = 3
    with refused(DataError, "label 3 of sample 5 is not between 0 and 1", hint="multilabel"):
        labelled(Z, flags, task="multilabel")


def test_multilabel_labels_have_the_logits_shape():
    with refused(DataError, "(6,)", "(6, 3)"):
        labelled(Z, Y, task="multilabel")


@pytest.mark.parametrize("labels", [list("abcdef"), [None] * 6, [{}] * 6, [1j] * 6, [[0], [1, 2], [0], [1], [0], [1]]])
def test_labels_that_are_no_numbers_are_refused(labels):
    with refused(DataError, "labels"):
        labelled(Z, labels)


# Logits that are none


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_logits_that_are_not_finite_are_refused(value, dtype):
    z = Z.astype(dtype)
    z[4, 1] = z[5, 0] = value
    with refused(DataError, f"the logit at (4, 1) is {value}; 2 of 18 are not finite", hint="overflow"):
        labelled(z, Y)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_sigmoids_take_no_infinite_logit(value, task):
    z = Z.copy()
    z[0, 0] = value
    with refused(DataError, f"is {value}"):
        labelled(z[:, 0] if task == "binary" else z, Y > 0 if task == "binary" else Z > 0, task=task)


def test_a_bad_logit_in_a_large_set_is_found():
    z = np.zeros((100_000, 50), np.float32)
    z[99_999, 49] = np.nan
    with refused(DataError, "(99999, 49)", "1 of 5,000,000"):
        labelled(z, np.zeros(100_000, int))


def test_a_label_on_a_masked_class_is_refused():
    z = Z.copy()
    z[3, 0] = -np.inf
    with refused(DataError, "sample 3 is labelled with a class whose logit is -inf"):
        labelled(z, Y)
    labelled(z, np.where(np.arange(6) == 3, 1, Y))


def test_weight_on_a_masked_class_is_refused():
    z = Z.copy()
    z[3, 0] = -np.inf
    with refused(DataError, "sample 3"):
        labelled(z, np.full((6, 3), 1 / 3))


def test_a_row_of_masked_classes_only_is_refused():
    z = Z.copy()
    z[3] = -np.inf
    with refused(DataError, "sample 3"):
        labelled(z, Y)


@pytest.mark.parametrize("dtype", ["int64", "bool", "uint8"])
def test_logits_are_floating_point(dtype):
    with refused(DataError, dtype, hint="float32"):
        labelled(Z.astype(dtype), Y)


@pytest.mark.parametrize("z", [["a", "b"], [None, None], [[1.0], [1.0, 2.0]], np.array([{}, 1], object)])
def test_logits_that_are_no_numbers_are_refused(z):
    with refused(DataError, "logits"):
        labelled(z, [0, 1])


def test_a_single_number_is_no_logits():
    with refused(DataError, "single number", hint="(N, K)"):
        labelled(1.5, [0])


def test_one_class_is_no_multiclass_head():
    with refused(DataError, "one class", hint="--task binary"):
        labelled(Z[:, :1], Y, task="multiclass")


@pytest.mark.parametrize("axis", [2, -3])
def test_a_class_axis_that_is_not_there_is_refused(axis):
    with refused(DataError, "(6, 3)", "no class axis"):
        labelled(Z, Y, axis=axis)


@pytest.mark.parametrize(
    ("z", "y"),
    [
        (np.zeros((0, 3)), np.zeros(0, int)),
        (np.zeros((0, 3)), []),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        (np.zeros((0, 3, 4, 4)), np.zeros((0, 4, 4), int)),
        ([], []),
    ],
)
def test_an_empty_set_is_refused(z, y):
    with refused(DataError, "no labelled samples"):
        labelled(z, y)


@pytest.mark.parametrize("k", [0, 1])
def test_a_head_without_classes_is_refused(k):
    with refused(DataError, f"(6, {k})"):
        labelled(np.zeros((6, k)), Y, task="multiclass")


def test_a_multilabel_head_without_classes_is_refused():
    with refused(DataError, "(6, 0)"):
        labelled(np.zeros((6, 0)), np.zeros((6, 0)), task="multilabel")


@pytest.mark.parametrize("task", ["regression", "", "Multiclass"])
def test_an_unknown_task_is_refused(task):
    with refused(UsageError, repr(task), hint="multiclass, binary, multilabel"):
        check_task(task)


# --ignore-index


def test_ignored_samples_are_dropped_with_whatever_their_logits_are():
    z, y = Z.copy(), Y.copy()
    y[[1, 4]], z[1] = -100, np.nan
    logits, labels = labelled(z, y, ignore_index=-100)
    np.testing.assert_array_equal(logits.values, Z[[0, 2, 3, 5]])
    np.testing.assert_array_equal(labels.values, Y[[0, 2, 3, 5]])


def test_an_ordinary_class_can_be_ignored():
    logits, labels = labelled(Z, Y, ignore_index=2)
    assert logits.num_classes == 3
    np.testing.assert_array_equal(labels.values, [0, 1, 0, 1])


def test_binary_samples_can_be_ignored():
    logits, labels = labelled(Z[:, 0], [0, 1, -1, 0, -1, 1], ignore_index=-1)
    np.testing.assert_array_equal(logits.values, Z[[0, 1, 3, 5], 0])
    np.testing.assert_array_equal(labels.values, [0, 1, 0, 1])


def test_other_markers_are_still_refused():
    with refused(DataError, "label -1 of sample"):
        labelled(Z, [0, -1, -100, 0, 1, 2], ignore_index=-100)


def test_nothing_left_is_refused():
    with refused(DataError, "no labelled samples", hint="not ignored"):
        labelled(Z, np.full(6, -100), ignore_index=-100)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_labels_of_many_numbers_have_none_to_ignore(task):
    w = np.full((6, 3), 1 / 3)
    with refused(DataError, "--ignore-index", "one label a sample"):
        labelled(Z, w, task=task, ignore_index=-100)


# Probabilities


def test_log_softmax_is_that_of_scipy():
    z = 30 * RNG.normal(size=(50, 6))
    p = Probabilities.from_logits(z, "multiclass")
    np.testing.assert_allclose(p.log_values, log_softmax(z, axis=1), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(p.values.sum(axis=1), 1.0, rtol=1e-13)


@pytest.mark.parametrize("shape", [(50,), (50, 4)])
def test_log_sigmoid_is_that_of_scipy_on_both_sides(shape):
    z = 30 * RNG.normal(size=shape)
    p = Probabilities.from_logits(z, "binary" if len(shape) == 1 else "multilabel")
    np.testing.assert_allclose(p.log_values, log_expit(z), rtol=1e-13)
    np.testing.assert_allclose(p.log_complements, log_expit(-z), rtol=1e-13)
    np.testing.assert_allclose(p.values, expit(z), rtol=1e-13)


def test_log_probabilities_do_not_underflow():
    p = Probabilities.from_logits(np.array([[0.0, -5000.0]]), "multiclass")
    np.testing.assert_array_equal(p.log_values, [[0.0, -5000.0]])
    np.testing.assert_array_equal(p.values, [[1.0, 0.0]])


# Pieces


@pytest.mark.parametrize("k", [2, 1000, 3 * CHUNK_ELEMENTS])
def test_chunks_are_all_rows_in_order_in_double(k):
    n = 2 * CHUNK_ELEMENTS // k + 3
    z = RNG.normal(size=(n, k)).astype(np.float32)
    pieces = list(chunks(Logits(z, "multiclass"), Labels(np.arange(n))))
    assert all(piece.dtype == np.float64 and (piece.size <= CHUNK_ELEMENTS or len(piece) == 1) for piece, _ in pieces)
    np.testing.assert_array_equal(np.concatenate([piece for piece, _ in pieces]), z)
    np.testing.assert_array_equal(np.concatenate([y for _, y in pieces]), np.arange(n))


def test_taken_rows_are_those_rows():
    rows = np.array([5, 0, 3])
    np.testing.assert_array_equal(Logits(Z, "multiclass").take(rows).values, Z[rows])
    assert Logits(Z[:, 0], "binary").take(rows).task == "binary"
    np.testing.assert_array_equal(Labels(Y).take(rows).values, Y[rows])


def test_rows_taken_from_a_memory_map_are_on_disk_too(tmp_path):
    np.save(tmp_path / "z.npy", Z)
    mapped = np.load(tmp_path / "z.npy", mmap_mode="r")
    taken = Logits(mapped, "multiclass").take(np.array([5, 0, 3]))
    assert isinstance(taken.values, np.memmap)
    np.testing.assert_array_equal(taken.values, Z[[5, 0, 3]])
    np.testing.assert_array_equal(np.load(tmp_path / "z.npy"), Z)


def test_no_rows_can_be_taken_from_a_memory_map(tmp_path):
    np.save(tmp_path / "z.npy", Z)
    mapped = np.load(tmp_path / "z.npy", mmap_mode="r")
    assert Logits(mapped, "multiclass").take(np.array([], np.int64)).values.shape == (0, 3)
