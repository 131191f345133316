"""A folder of class folders of images: which files, in which order, of which class; and what is refused."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxcal.data import open_source
from onnxcal.errors import DataError, UsageError
from tests.reference.refusals import refused


@dataclass(frozen=True)
class Input:
    """What a model declares."""

    shape: tuple[int | str | None, ...] | None
    dtype: str = "float32"


PIXELS = {"dtype": "uint8", "layout": "NHWC"}


def paint(path: Path, value: int, size: tuple[int, int] = (4, 3)) -> None:
    """An image of one colour, by which it is known again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Three classes with 2, 3 and 1 images."""
    root = tmp_path / "val"
    names = ["b/2.png", "b/10.png", "a/x.png", "a/deep/z.png", "a/y.bmp", "C/only.png"]
    for value, name in enumerate(names):
        paint(root / name, value)
    return root


def everything(source, size=1000):
    batches = list(source.batches(size))
    return np.concatenate([b.inputs[0] for b in batches])[:, 0, 0, 0].tolist(), np.concatenate(
        [b.labels for b in batches]
    ).tolist()


def walked(root: Path) -> tuple[list[str], list[int]]:
    """Files and classes as torchvision documents them for ImageFolder: sorted folders, then `os.walk`, sorted."""
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    found = [
        (os.path.join(place, file), index)
        for index, name in enumerate(classes)
        for place, _, files in sorted(os.walk(root / name, followlinks=True))
        for file in sorted(files)
    ]
    return [path for path, _ in found], [index for _, index in found]


def test_files_and_classes_are_in_the_order_of_torchvision(folder):
    paths, classes = walked(folder)
    values, labels = everything(open_source(folder, preprocess=PIXELS))
    assert values == [np.asarray(Image.open(path))[0, 0, 0] for path in paths]
    assert labels == classes == [0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("size", [1, 2, 4, 6, 100])
def test_batches_have_the_size_asked_for_and_come_again(folder, size):
    source = open_source(folder, preprocess=PIXELS)
    assert source.n_samples == 6
    assert source.sample_bytes == 4 * 3 * 3
    for _ in range(2):
        assert [b.size for b in source.batches(size)] == [min(size, 6 - start) for start in range(0, 6, size)]
    assert everything(source, size) == everything(source)


def test_hidden_files_are_passed_over_in_silence_and_others_are_said(folder):
    paint(folder / "a" / ".hidden.png", 99)
    paint(folder / ".git" / "x.png", 99)
    paint(folder / "__MACOSX" / "a" / "x.png", 99)
    (folder / "a" / "Thumbs.db").write_text("")
    (folder / "readme.txt").write_text("")
    assert open_source(folder, preprocess=PIXELS).notes == ()
    (folder / "b" / "notes.txt").write_text("")
    (folder / "b" / "more.txt").write_text("")
    source = open_source(folder, preprocess=PIXELS)
    assert source.n_samples == 6
    (note,) = source.notes
    assert "2 files are no images" in note
    assert "b/more.txt" in note


def test_links_are_followed_out_of_the_folder(folder, tmp_path):
    paint(tmp_path / "elsewhere" / "one.png", 77)
    (folder / "b" / "link.png").symlink_to(tmp_path / "elsewhere" / "one.png")
    (folder / "b" / "more").symlink_to(tmp_path / "elsewhere")
    values, _ = everything(open_source(folder, preprocess=PIXELS))
    assert values.count(77) == 2


def test_a_link_to_nothing_is_refused(folder):
    (folder / "b" / "gone.png").symlink_to(folder / "nowhere.png")
    with refused(DataError, "gone.png", "link to nothing"):
        open_source(folder, preprocess=PIXELS)


def test_a_circle_of_links_is_refused(folder):
    (folder / "b" / "again").symlink_to(folder / "b")
    with refused(DataError, "again", "that it lies in", hint="remove"):
        open_source(folder, preprocess=PIXELS)


def test_an_image_in_no_class_is_refused(folder):
    paint(folder / "stray.png", 5)
    with refused(DataError, "stray.png", "no class folder", hint="move"):
        open_source(folder, preprocess=PIXELS)


def test_a_folder_of_splits_is_no_folder_of_classes(tmp_path):
    for split in ("train", "val"):
        paint(tmp_path / split / "a" / "x.png", 1)
    with refused(DataError, "splits, not classes: train, val", hint=str(tmp_path / "val")):
        open_source(tmp_path, preprocess=PIXELS)


@pytest.mark.parametrize("names", [[], ["a", "b"]])
def test_folders_without_images_are_refused(tmp_path, names):
    for name in names:
        (tmp_path / name).mkdir()
    with refused(DataError, str(tmp_path), hint="one sub-folder of images a class"):
        open_source(tmp_path, preprocess=PIXELS)


def test_one_empty_class_is_refused_unless_all_classes_are_named(folder):
    (folder / "empty").mkdir()
    with refused(DataError, "empty' holds no images", hint="name all classes"):
        open_source(folder, preprocess=PIXELS)
    source = open_source(folder, preprocess={**PIXELS, "classes": ["b", "a", "empty", "C"]})
    assert everything(source)[1] == [3, 1, 1, 1, 0, 0]
    assert everything(open_source(folder, preprocess=PIXELS, classes=["a", "b", "C", "empty"]))[1] == list("Caaabb")


def test_a_broken_image_is_named_when_it_is_reached(folder):
    (folder / "b" / "9.png").write_bytes(b"broken")
    batches = open_source(folder, preprocess=PIXELS).batches(2)
    next(batches)
    with refused(DataError, "9.png", "cannot be read as an image"):
        list(batches)


def test_images_that_differ_in_size_are_refused(folder):
    paint(folder / "b" / "9.png", 1, size=(5, 5))
    with refused(DataError, "9.png", "(5, 5, 3)", "(3, 4, 3)", hint="resize = [height, width]"):
        everything(open_source(folder, preprocess=PIXELS))
    assert len(everything(open_source(folder, preprocess={**PIXELS, "resize": [3, 4]}))[0]) == 7


def test_labels_beside_a_folder_are_refused(folder):
    with refused(UsageError, "--labels", hint="the folders are the labels"):
        open_source(folder, np.zeros(6), preprocess=PIXELS)


# Which class a folder is


def test_a_folder_that_the_list_does_not_name_is_answered_with_the_nearest(folder):
    with refused(DataError, "folder '", "C' is none of classes in the preprocess file", hint="they are a, b, c"):
        open_source(folder, preprocess={**PIXELS, "classes": ["a", "b", "c"]})
    paint(folder / "tabby" / "x.png", 1)
    with refused(DataError, "tabby' is none of the classes that the model names", hint="did you mean tabby cat?"):
        open_source(folder, preprocess=PIXELS, classes=["C", "a", "b", "tabby cat", "dog"])


def test_folders_are_labels_by_name_where_the_model_names_its_classes(folder):
    source = open_source(folder, preprocess=PIXELS, classes=["b", "C", "unseen", "a"])
    assert everything(source)[1] == ["C", "a", "a", "a", "b", "b"]
    source.check_classes("probs", "multiclass", 4)


def test_numbers_of_classes_name_folders_only_if_all_are_such(folder, tmp_path):
    assert everything(open_source(folder, preprocess=PIXELS, classes=[0, 1, 2]))[1] == [0, 1, 1, 1, 2, 2]
    for name in ("7", "9"):
        paint(tmp_path / "numbers" / name / "x.png", 1)
    assert everything(open_source(tmp_path / "numbers", preprocess=PIXELS, classes=[5, 7, 9]))[1] == ["7", "9"]


@pytest.mark.parametrize(("task", "classes"), [("multiclass", 3), ("binary", 2)])
def test_as_many_folders_as_classes_are_wanted(tmp_path, task, classes):
    for i in range(classes):
        paint(tmp_path / f"c{i}" / "x.png", i)
    source = open_source(tmp_path, preprocess=PIXELS)
    source.check_classes("probs", task, classes)
    with refused(DataError, f"has {classes} classes, but 'probs' has 7", hint="name all classes"):
        source.check_classes("probs", task, 7)
    named = open_source(tmp_path, preprocess={**PIXELS, "classes": [f"c{i}" for i in range(5)]})
    with refused(DataError, f"is to have 5 classes, but 'probs' has {classes}"):
        named.check_classes("probs", task, classes)


def test_one_folder_an_image_is_no_multilabel(folder):
    with refused(DataError, "one class", "3 independent 0/1 labels", hint="file.py:function"):
        open_source(folder, preprocess=PIXELS).check_classes("tags", "multilabel", 3)


def test_numbers_that_sort_otherwise_than_they_count_must_be_explained(tmp_path):
    for i in range(11):
        paint(tmp_path / str(i) / "x.png", i)
    source = open_source(tmp_path, preprocess=PIXELS)
    with refused(DataError, "'2' is class 3", hint='classes = "numbers"'):
        source.check_classes("probs", "multiclass", 11)
    by_number = open_source(tmp_path, preprocess={**PIXELS, "classes": "numbers"})
    values, labels = everything(by_number)
    assert values == labels
    by_number.check_classes("probs", "multiclass", 11)
    as_sorted = open_source(tmp_path, preprocess={**PIXELS, "classes": "sorted"})
    assert everything(as_sorted)[1] == list(range(11))
    as_sorted.check_classes("probs", "multiclass", 11)
    paint(tmp_path / "12" / "x.png", 12)
    with refused(DataError, "not the numbers from 0 to 11"):
        open_source(tmp_path, preprocess={**PIXELS, "classes": "numbers"})


# What the model declares


FITS = {
    "NHWC": (PIXELS, Input(("N", 3, 4, 3), "uint8")),
    "any size": (PIXELS, Input((None, None, None, 3), "uint8")),
    "NCHW": ({}, Input((1, 3, 3, 4))),
    "no rank": ({}, Input(None)),
    "float16 is cast where it is fed": ({}, Input(("N", 3, 3, 4), "float16")),
}


@pytest.mark.parametrize("case", FITS)
def test_images_that_fit_are_taken(folder, case):
    how, wanted = FITS[case]
    assert open_source(folder, preprocess=how, inputs={"x": wanted}).n_samples == 6


MISFITS = {
    "layout": ({}, Input(("N", 3, 4, 3)), 'layout = "NHWC"'),
    "layout, the other way": ({"layout": "NHWC"}, Input(("N", 3, 3, 4)), 'layout = "NCHW"'),
    "grey": ({}, Input(("N", 1, 3, 4)), 'color = "grey"'),
    "colour": ({"color": "grey"}, Input(("N", 3, 3, 4)), 'color = "RGB"'),
    "size": ({}, Input(("N", 3, 8, 9)), "resize = [8, 9]"),
    "one side": ({"layout": "NHWC"}, Input(("N", 8, None, 3)), "resize = [8, 4]"),
    "crop": ({"resize": 9, "crop": 5}, Input(("N", 3, 8, 9)), "crop = [8, 9]"),
    "channels": ({}, Input(("N", 4, 3, 4)), "4 channels"),
    "features": ({}, Input(("N", 36)), "only inputs of shape (N, C, H, W)"),
    "uint8": ({"layout": "NHWC"}, Input(("N", 3, 4, 3), "uint8"), 'dtype = "uint8"'),
    "int64": ({"layout": "NHWC"}, Input(("N", 3, 4, 3), "int64"), "file.py:function"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_images_that_do_not_fit_are_answered_with_the_key_to_change(folder, case):
    how, wanted, hint = MISFITS[case]
    with refused(DataError, "an image becomes", "input 'x' wants", hint=hint):
        open_source(folder, preprocess=how, inputs={"x": wanted})
