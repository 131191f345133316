"""The same samples from wherever users keep them: the same logits, digest, temperature and verification."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import onnxcal
from onnxcal.data.images import ImageFolder
from onnxcal.errors import DataError, UsageError
from onnxcal.inference import options
from tests import builders
from tests.reference.refusals import refused

X, Y = builders.labelled_data(150)
MODEL = builders.classifier([builders.softmax()], output="probs")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The same samples in every kind of file."""
    folder = tmp_path_factory.mktemp("kept")
    builders.save(MODEL, folder / "m.onnx")
    frame = pd.DataFrame(X, columns=list("abcdef")).assign(label=Y)
    frame.to_csv(folder / "d.csv", index=False)
    frame.to_parquet(folder / "d.parquet", index=False, row_group_size=40)
    frame[:40].to_csv(folder / "part-0.csv", index=False)
    frame[40:].to_csv(folder / "part-1.csv", index=False)
    for number, part in enumerate(np.split(np.arange(150), [7, 100])):
        np.savez(folder / f"shard-{number}.npz", x=X[part], labels=Y[part])
    return folder


@pytest.mark.parametrize("name", ["d.csv", "d.parquet", "part-*.csv", "shard-*.npz"])
@pytest.mark.parametrize("batch_size", [7, 64])
def test_data_are_the_same_wherever_they_come_from(kept, name, batch_size):
    expected = onnxcal.collect_logits(MODEL, (X, Y), batch_size=batch_size)
    found = onnxcal.collect_logits(kept / "m.onnx", kept / name, batch_size=batch_size)
    assert found.data_sha256 == expected.data_sha256
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.labels, Y)
    assert found.warnings == ()


def test_the_digest_depends_on_the_order(kept, tmp_path):
    pd.read_csv(kept / "d.csv").iloc[::-1].to_csv(tmp_path / "d.csv", index=False)
    found = [onnxcal.collect_logits(MODEL, folder / "d.csv").data_sha256 for folder in (kept, tmp_path)]
    assert found[0] != found[1]


@pytest.mark.parametrize("name", ["d.csv", "shard-*.npz"])
def test_every_step_takes_them(kept, name, tmp_path):
    model, data, out = kept / "m.onnx", kept / name, tmp_path / "out.onnx"
    result = onnxcal.calibrate(model, data, output=out, eval_data=data, batch_size="auto")
    expected = onnxcal.calibrate(MODEL, (X, Y))
    assert result.verification.passed
    assert result.calibration.temperature == pytest.approx(expected.calibration.temperature, rel=1e-6)
    assert onnxcal.verify(model, out, data).verification.passed
    assert onnxcal.evaluate(out, data).metrics.n_samples == 150
    patched = onnxcal.patch(model, temperature=2.0, data=data, output=tmp_path / "two.onnx")
    assert patched.verification is not None
    assert patched.verification.passed


# Images


def convolution(classes: int = 3, dynamic: bool = False) -> onnx.ModelProto:
    """(N, 3, 6, 8) → mean colour → logits."""
    weights = np.random.default_rng(0).normal(size=(3, classes)).astype(np.float32) * 4
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        ],
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 6, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", None if dynamic else classes])],
        [numpy_helper.from_array(weights, "w")],
    )
    return builders.model(graph)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder with three classes of 20 noisy images, and the same as an array in the order of the folder."""
    root, rng = tmp_path_factory.mktemp("images") / "val", np.random.default_rng(1)
    arrays, labels = [], []
    for label, name in enumerate(["cat", "dog", "eel"]):
        (root / name).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:02}.png")
            arrays.append(pixels.astype(np.float32).transpose(2, 0, 1) / np.float32(255))
            labels.append(label)
    return root, np.stack(arrays), np.array(labels)


@pytest.mark.parametrize("batch_size", [7, 64, "auto"])
def test_a_folder_of_images_is_the_arrays_in_it(photographs, batch_size):
    root, x, y = photographs
    expected = onnxcal.collect_logits(convolution(), (x, y))
    seen = []
    found = onnxcal.collect_logits(
        convolution(), root, preprocess={}, batch_size=batch_size, progress=lambda *now: seen.append(now)
    )
    assert found.data_sha256 == expected.data_sha256
    np.testing.assert_allclose(found.values, expected.values, atol=1e-6)
    assert seen[-1] == ("collecting logits", 60, 60)


def test_no_more_images_are_decoded_at_a_time_than_run(photographs, monkeypatch):
    sizes = []
    chunks = ImageFolder.chunks
    monkeypatch.setattr(ImageFolder, "chunks", lambda self, size: sizes.append(size) or chunks(self, size))
    monkeypatch.setattr(options, "BATCH_BYTES", 8 * 6 * 8 * 3 * 4)
    onnxcal.collect_logits(convolution(), photographs[0], preprocess={}, batch_size=4)
    assert sizes == [4]
    onnxcal.collect_logits(convolution(), photographs[0], preprocess={}, batch_size="auto")
    assert sizes[1] == 8


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_folder_with_other_classes_than_the_model_is_refused(photographs, dynamic):
    with refused(DataError, "has 3 classes, but 'logits' has 4"):
        onnxcal.evaluate(convolution(4, dynamic), photographs[0], preprocess={})


def test_what_was_passed_over_is_a_warning(photographs, tmp_path):
    shutil.copytree(photographs[0], tmp_path / "val")
    (tmp_path / "val" / "dog" / "notes.txt").touch()
    (warning,) = onnxcal.evaluate(convolution(), tmp_path / "val", preprocess={}).warnings
    assert "1 file is no image" in warning


def test_names_in_the_data_are_those_of_the_model_whatever_their_order(photographs, tmp_path):
    root, x, y = photographs
    model = named(["eel", "cat", "dog"])
    found = onnxcal.collect_logits(model, root, preprocess={})
    np.testing.assert_array_equal(found.labels, (y + 1) % 3)
    x, y = x.mean(axis=(2, 3)), (y + 1) % 3
    pd.DataFrame(x).assign(**{"class": np.array(["2", "0", "1"])[y]}).to_csv(tmp_path / "d.csv", index=False)
    found = onnxcal.collect_logits(named(["2", "0", "1"], pool=False), tmp_path / "d.csv", label_column="class")
    np.testing.assert_array_equal(found.labels, y)
    shutil.copytree(root / "dog", tmp_path / "val" / "dgo")
    with refused(DataError, "dgo' is none of the classes that the model names", hint="did you mean dog?"):
        onnxcal.evaluate(model, tmp_path / "val", preprocess={})


def named(names: list[str], *, pool: bool = True) -> onnx.ModelProto:
    """(N, 3, 6, 8) → mean colour, or (N, 3) → LinearClassifier that names its classes."""
    shape: list[int | str] = ["N", 3, 6, 8] if pool else ["N", 3]
    front = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
    ]
    classify = helper.make_node(
        "LinearClassifier", ["flat" if pool else "image"], ["label", "scores"], domain="ai.onnx.ml",
        coefficients=np.random.default_rng(0).normal(size=9).tolist(), intercepts=[0.0] * 3, classlabels_strings=names,
        post_transform="SOFTMAX",
    )  # fmt: skip
    graph = helper.make_graph(
        [*(front if pool else []), classify],
        "named",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info("label", TensorProto.STRING, ["N"]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3]),
        ],
    )
    model = builders.model(graph)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    return model


def test_verifying_needs_no_classes(photographs, tmp_path):
    builders.save(convolution(4), tmp_path / "m.onnx")
    onnxcal.patch(tmp_path / "m.onnx", temperature=2.0, output=tmp_path / "p.onnx")
    assert onnxcal.verify(tmp_path / "m.onnx", tmp_path / "p.onnx", photographs[0], preprocess={}).verification.passed


# The command line


def test_commands_take_images_and_tables(cli, photographs, kept, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    builders.save(convolution(), tmp_path / "c.onnx")
    (tmp_path / "p.toml").write_text("resize = [6, 8]\n")
    images = ["--data", photographs[0], "--preprocess", "p.toml"]
    assert cli("logits", "c.onnx", *images, "-o", "z.npz").exit_code == 0
    assert json.loads(cli("evaluate", "c.onnx", *images, "--json").stdout)["metrics"]["n_samples"] == 60
    assert cli("plot", "confidence", "c.onnx", *images, "--temperature", "2", "-o", "c.svg").exit_code == 0
    shutil.copy(kept / "m.onnx", "m.onnx")
    table = ["--data", kept / "d.csv", "--label-column", "label"]
    done = json.loads(cli("calibrate", "m.onnx", *table, "--json").stdout)
    assert done["verification"]["passed"]
    assert cli("verify", "m.onnx", "m.calibrated.onnx", *table).exit_code == 0


@pytest.mark.parametrize("option", ["--preprocess=imagenet", "--label-column=y"])
def test_options_of_data_do_nothing_without_data(cli, kept, tmp_path, option):
    done = cli("patch", kept / "m.onnx", "--temperature", "2", option, "-o", tmp_path / "p.onnx")
    assert done.exit_code == 2
    assert "does nothing without --data" in done.stderr
    assert not (tmp_path / "p.onnx").exists()


def test_a_shard_is_not_written_over(kept):
    with refused(UsageError, "shard-1.npz", "read or written by this command already"):
        onnxcal.calibrate(kept / "m.onnx", kept / "shard-*.npz", save_calibration=kept / "shard-1.npz", force=True)


@pytest.mark.parametrize(
    ("library", "data", "extra"),
    [("PIL", "folder", "images"), ("PIL.Image", "folder", "images"), ("pyarrow", "d.csv", "tables")],
)
def test_a_library_that_is_missing_is_named_with_its_extra(kept, photographs, monkeypatch, library, data, extra):
    monkeypatch.setitem(__import__("sys").modules, library, None)
    path = photographs[0] if data == "folder" else kept / data
    with refused(UsageError, "not installed", hint=f"onnxcal[{extra}]"):
        onnxcal.evaluate(convolution(), path, preprocess={} if data == "folder" else None)
