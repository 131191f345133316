"""Datasets of the library `datasets`, held by the caller or saved to disk, and of whatever looks like one."""

from __future__ import annotations

from dataclasses import dataclass

import datasets
import numpy as np
import pytest
from PIL import Image

from onnxcal.data import open_source
from onnxcal.data.preprocess import open_preprocess
from onnxcal.errors import DataError, UsageError
from tests.reference.refusals import refused

AGE, WEIGHT, LABEL = [31, 40, 55, 62, 70], [60.5, 81.25, 1 / 3, 90.75, 50.0], [0, 1, 1, 0, 1]
X = np.stack([AGE, WEIGHT], axis=1)
NAMES = datasets.ClassLabel(names=["no", "yes"])


@dataclass(frozen=True)
class Input:
    """What a model declares."""

    shape: tuple[int | str | None, ...] | None
    dtype: str = "float64"


ONE = {"X": Input((None, 2))}


@pytest.fixture(scope="module")
def tabular():
    features = {"age": datasets.Value("int64"), "weight": datasets.Value("float64"), "label": NAMES}
    columns = {"age": AGE, "weight": WEIGHT, "label": LABEL}
    return datasets.Dataset.from_dict(columns, datasets.Features(features))


@pytest.fixture(scope="module")
def pictures():
    images = [Image.new("RGB", (4, 3), (i, 2 * i, 3 * i)) for i in range(5)]
    features = {"image": datasets.Image(), "label": NAMES, "path": datasets.Value("string")}
    columns = {"image": images, "label": LABEL, "path": list("abcde")}
    return datasets.Dataset.from_dict(columns, datasets.Features(features))


def everything(source, size=1000):
    batches = list(source.batches(size))
    inputs = [batch.inputs for batch in batches]
    labels = None if batches[0].labels is None else np.concatenate([batch.labels for batch in batches]).tolist()
    if isinstance(inputs[0], tuple):
        return np.concatenate([one[0] for one in inputs]), labels
    return {name: np.concatenate([one[name] for one in inputs]) for name in inputs[0]}, labels


def test_a_column_of_lists_named_as_the_only_input_is_that_and_others_are_left_out():
    data = datasets.Dataset.from_dict({"id": list("abcde"), "X": X.tolist(), "label": LABEL})
    source = open_source(data, inputs=ONE)
    inputs, labels = everything(source)
    np.testing.assert_array_equal(inputs["X"], X)
    assert labels == LABEL
    assert any("left out: 'id'" in note for note in source.notes)


@pytest.mark.parametrize("size", [1, 2, 100])
def test_features_and_labels_are_what_the_dataset_holds(tabular, size):
    source = open_source(tabular, inputs=ONE)
    assert source.n_samples == 5
    assert [b.size for b in source.batches(size)] == [min(size, 5 - start) for start in range(0, 5, size)]
    for _ in range(2):
        x, labels = everything(source, size)
        np.testing.assert_array_equal(x, X)  # float64 to the last bit, which the numpy format would not keep
        assert labels == LABEL


def test_a_stream_is_read_too(tabular):
    x, labels = everything(open_source(tabular.to_iterable_dataset(), inputs=ONE), 2)
    np.testing.assert_array_equal(x, X)
    assert labels == LABEL


def test_a_selection_in_another_order_and_format_is_read_as_it_is(tabular):
    x, labels = everything(open_source(tabular.select([4, 0, 2]).with_format("torch"), inputs=ONE))
    np.testing.assert_array_equal(x, X[[4, 0, 2]])
    assert labels == [1, 0, 1]


def test_a_saved_dataset_is_read_from_its_folder(tabular, tmp_path):
    tabular.save_to_disk(tmp_path / "saved")
    x, labels = everything(open_source(tmp_path / "saved", inputs=ONE))
    np.testing.assert_array_equal(x, X)
    assert labels == LABEL


def test_columns_are_inputs_by_name_and_others_are_left_out(tabular):
    tokens = tabular.add_column("ids", [[i, i + 1, 0] for i in range(5)])
    wanted = {"ids": Input((None, None), "int64"), "age": Input((None, 1), "int64")}
    source = open_source(tokens, inputs=wanted)
    x, _ = everything(source, 2)
    assert x["ids"].tolist() == [[i, i + 1, 0] for i in range(5)]
    assert x["age"].tolist() == [[age] for age in AGE]
    assert "left out: 'weight'" in source.notes[0]


def test_arrays_of_a_fixed_shape_are_inputs():
    pixels = np.arange(24.0).reshape(2, 3, 4)
    features = datasets.Features({"pixels": datasets.Array2D((3, 4), "float64"), "y": datasets.Value("int64")})
    data = datasets.Dataset.from_dict({"pixels": pixels, "y": [1, 0]}, features)
    x, labels = everything(open_source(data, inputs={"x": Input((None, 3, 4))}))
    np.testing.assert_array_equal(x, pixels)
    assert labels == [1, 0]


def test_labels_are_class_names_where_the_model_has_such(tabular):
    source = open_source(tabular, inputs=ONE, classes=["yes", "no"])
    assert everything(source, 2)[1] == ["no", "yes", "yes", "no", "yes"]
    source.check_classes("probs", "multiclass", 7)  # names need no count


def test_classes_are_counted_where_only_the_dataset_names_them(tabular):
    source = open_source(tabular, inputs=ONE)
    source.check_classes("probs", "binary", 2)
    with refused(DataError, "column 'label' has 2 classes, but 'probs' has 3"):
        source.check_classes("probs", "multiclass", 3)


def test_images_are_preprocessed_as_those_in_a_folder(pictures, tmp_path):
    how = {"resize": [6, 8], "mean": 0.25, "std": 0.5, "layout": "NHWC"}
    source = open_source(pictures, preprocess=how, inputs={"x": Input((None, 6, 8, 3), "float32")})
    x, labels = everything(source, 2)
    for i in range(5):
        colour = (np.array([i, 2 * i, 3 * i]) / 255 - 0.25) / 0.5
        np.testing.assert_allclose(x[i], np.broadcast_to(colour, (6, 8, 3)), atol=1e-6)
    assert labels == LABEL
    assert source.sample_bytes == 6 * 8 * 3 * 4
    assert "left out: 'path'" in source.notes[0]
    with refused(DataError, "an image becomes", "input 'x' wants", hint="layout"):
        open_source(pictures, preprocess=how, inputs={"x": Input((None, 3, 6, 8), "float32")})
    assert everything(open_source(pictures, preprocess=open_preprocess(how)))[1] == LABEL


def test_a_transform_of_the_caller_makes_the_columns(pictures):
    def transform(rows):
        return {"pixels": [np.asarray(image, np.float32) for image in rows["image"]], "labels": rows["label"]}

    x, labels = everything(open_source(pictures.with_transform(transform), inputs={"x": Input((None, 3, 4, 3))}), 2)
    np.testing.assert_array_equal(x[:, 0, 0], [[i, 2 * i, 3 * i] for i in range(5)])
    assert labels == LABEL


class Lookalike:
    """No more than the library's methods that are used."""

    features = None
    column_names: tuple[str, ...] = ("a", "y")

    def iter(self, batch_size):
        for start in range(0, 5, batch_size):
            rows = range(start, min(start + batch_size, 5))
            yield {"a": [float(i) for i in rows], "y": [i % 2 for i in rows]}


def test_whatever_looks_like_a_dataset_is_read_as_one():
    source = open_source(Lookalike())
    assert source.n_samples is None
    x, labels = everything(source, 2)
    np.testing.assert_array_equal(x[:, 0], np.arange(5))
    assert labels == [0, 1, 0, 1, 0]


# What is refused


def test_several_splits_are_refused(tabular, tmp_path):
    both = datasets.DatasetDict(train=tabular, test=tabular)
    with refused(DataError, "several splits: train, test", hint="data['test']"):
        open_source(both)
    both.save_to_disk(tmp_path / "saved")
    with refused(DataError, "saved", "several splits"):
        open_source(tmp_path / "saved")


def test_images_need_to_be_told_how_and_nothing_else_takes_it(tabular, pictures):
    with refused(UsageError, "column 'image' holds images", hint="--preprocess"):
        open_source(pictures)
    with refused(UsageError, "no columns of images", hint="leave --preprocess out"):
        open_source(tabular, preprocess="imagenet")


def test_no_samples_are_refused(tabular):
    with refused(DataError, "no samples"):
        open_source(tabular.select([]))


@pytest.mark.parametrize("column", ["age", "weight", "label"])
def test_a_missing_value_is_found(tabular, column):
    broken = tabular.map(lambda row, i: {column: None if i == 3 else row[column]}, with_indices=True)
    with refused(DataError, f"column '{column}' has no value in sample 3"):
        everything(open_source(broken, inputs=ONE), 2)


def test_a_label_without_a_name_is_refused(tabular):
    features = tabular.features
    unlabelled = datasets.Dataset.from_dict({"age": AGE, "weight": WEIGHT, "label": [0, 1, -1, 0, 1]}, features)
    with refused(DataError, "holds -1 in sample 2", "none of its 2 classes"):
        everything(open_source(unlabelled, inputs=ONE, classes=["no", "yes"]), 2)


def test_a_transform_that_fails_is_named(tabular):
    def transform(rows):
        if rows["age"][0] > 60:
            raise ZeroDivisionError("too old")
        return {"x": rows["age"], "y": rows["label"]}

    with refused(DataError, "ZeroDivisionError", "too old", "after 3 samples"):
        everything(open_source(tabular.with_transform(transform)), 1)


def test_labels_beside_a_dataset_are_refused(tabular):
    with refused(UsageError, "--labels", hint="--label-column"):
        open_source(tabular, LABEL)


def test_a_broken_folder_is_refused(tmp_path):
    (tmp_path / "state.json").write_text("{}")
    with refused(DataError, str(tmp_path), "cannot be read as a saved dataset"):
        open_source(tmp_path)
