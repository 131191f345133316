"""What makes a target out of date, by content; nothing is made here but once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnxcal
from onnxcal.builds.config import read_config
from onnxcal.builds.digests import DigestCache
from onnxcal.builds.recipe import recipe_of
from onnxcal.errors import UsageError
from onnxcal.graph.modelfile import open_model
from tests import builders
from tests.builds.conftest import TOML, write_data, write_toml

LOADER = "from helper import batches\n\ndef load():\n    yield from batches()\n"
HELPER = """import numpy as np

def batches():
    with np.load("val data.npz") as data:
        yield data["x"], data["labels"]
"""


def reason() -> str | None:
    """Why the only target is out of date."""
    (target,) = onnxcal.build(check=True).targets
    assert target.error is None
    return target.reason


def pretend_built() -> None:
    """What a build does, in this process."""
    project = read_config("onnxcal.toml")
    (target,) = project.targets
    recipe = recipe_of(project, target, DigestCache())
    options = {key.replace("-", "_"): value for key, value in target.options.items() if key != "depends"}
    onnxcal.calibrate(target.model, output=target.output, force=True, recipe=recipe.document, **options)
    assert reason() is None


def touch_all(folder: Path) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (2e9, 2e9))


def other_model() -> None:
    builders.save(builders.classifier([builders.softmax()], output="probs", seed=9), Path("größe 1.onnx"))


def change_byte(path: Path, model: Path) -> None:
    """Of the first weight; size and time of writing stay, and so do the metadata."""
    was, weight = path.stat(), onnx.numpy_helper.to_array(open_model(model).skeleton.graph.initializer[0]).tobytes()
    content = path.read_bytes()
    assert content.count(weight) == 1
    path.write_bytes(content.replace(weight, bytes([weight[0] ^ 1]) + weight[1:]))
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


CHANGES: dict[str, tuple[Callable[[], Any], str | None]] = {
    "nothing": (lambda: None, None),
    "times": (lambda: touch_all(Path()), None),
    "data written again": (lambda: write_data(Path("val data.npz")), None),
    "threads": (lambda: write_toml(TOML + "threads = 1\n"), None),
    "a name": (lambda: write_toml(TOML.replace('"ü"', "other")), None),
    "data": (lambda: write_data(Path("val data.npz"), seed=2), "data changed"),
    "model": (other_model, "model changed"),
    "an option": (lambda: write_toml(TOML + "seed = 1\n"), "option seed changed"),
    "a gate": (lambda: write_toml(TOML + "gates.max-ece = 0.9\n"), "option max-ece changed"),
    "labels apart": (lambda: write_toml(TOML + 'labels = "val data.npz"\n'), "labels changed"),
    "a file besides": (lambda: write_toml(TOML + 'save-calibration = "c.json"\n'), "there is no c.json"),
    "no output": (lambda: Path("out put/ü.onnx").unlink(), "there is no out put/ü.onnx"),
    "another T": (
        lambda: onnxcal.patch("größe 1.onnx", temperature=2, output="out put/ü.onnx", force=True),
        "out put/ü.onnx was not made by onnxcal build",
    ),
    "a weight in the output": (
        lambda: change_byte(Path("out put/ü.onnx"), Path("größe 1.onnx")),
        "out put/ü.onnx was changed since it was made",
    ),
}  # fmt: skip


def test_a_target_is_out_of_date_when_content_changed_and_only_then(project: Path) -> None:
    pretend_built()
    kept = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    for name, (change, expected) in CHANGES.items():
        change()
        assert reason() == expected, name
        for path, content in kept.items():
            path.write_bytes(content)


def test_external_data_count_on_both_sides(project: Path) -> None:
    model = builders.classifier([builders.softmax()], output="probs")
    onnx.save_model(model, "größe 1.onnx", save_as_external_data=True, location="w.data", size_threshold=0)
    pretend_built()
    weights = Path("w.data").read_bytes()
    Path("w.data").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert reason() == "external data changed"
    Path("w.data").write_bytes(weights)
    assert reason() is None
    Path("out put/w.data").write_bytes(weights[::-1])
    assert reason() == "the external data beside out put/ü.onnx are not the model's"
    Path("out put/w.data").unlink()
    assert "is missing" in str(reason())


def test_external_data_of_one_name_do_not_take_each_others_place(project: Path) -> None:
    for name, seed in {"one": 0, "two": 9}.items():
        Path(name).mkdir()
        model = builders.classifier([builders.softmax()], output="probs", seed=seed)
        onnx.save_model(model, f"{name}/m.onnx", save_as_external_data=True, location="w.data", size_threshold=0)
    two = '[targets.two]\nmodel = "two/m.onnx"\noutput = "out put/2.onnx"\n'
    write_toml(TOML.replace("größe 1.onnx", "one/m.onnx") + two)
    for target in onnxcal.build(check=True).targets:
        assert target.status == "failed"
        assert "'w.data'" in str(target.error)
    (asked_for,) = onnxcal.build(["two"], check=True).targets
    assert asked_for.status == "failed", "it would destroy what was made of the other"
    write_toml(TOML.replace("größe 1.onnx", "one/m.onnx").replace("out put", "two") + two.replace("out put", "two"))
    assert {target.status for target in onnxcal.build(check=True).targets} == {"failed"}, "it would destroy a model"
    write_toml(TOML.replace("größe 1.onnx", "one/m.onnx") + two.replace("two/m", "one/m"))
    assert {target.status for target in onnxcal.build(check=True).targets} == {"out of date"}, "they are the same file"


def test_folded_weights_that_were_external_are_not_missed_beside_the_output(project: Path) -> None:
    model = builders.classifier([builders.softmax()], output="probs")
    apart: dict[str, Any] = {"save_as_external_data": True, "all_tensors_to_one_file": False, "size_threshold": 0}
    onnx.save_model(model, "größe 1.onnx", **apart)
    write_toml(TOML + "fold = true\n")
    pretend_built()


def test_of_a_callable_its_source_file_and_what_it_depends_on_count_and_no_more(project: Path) -> None:
    Path("load.py").write_text(LOADER)
    Path("helper.py").write_text(HELPER)
    write_toml(TOML + 'data = "load.py:load"\n')
    pretend_built()
    Path("load.py").write_text(LOADER + "# a comment\n")
    assert reason() == "data changed"
    Path("load.py").write_text(LOADER)
    Path("helper.py").write_text(HELPER + "# a comment\n")
    write_data(Path("val data.npz"), seed=2)
    assert reason() is None, "what the code imports and reads cannot be seen: README says so"
    write_toml(TOML + 'data = "load.py:load"\ndepends = ["helper.py", "val data.npz"]\n')
    assert reason() == "depends changed"
    pretend_built()
    Path("helper.py").write_text(HELPER)
    assert reason() == "depends changed"


def test_a_module_beside_the_file_is_found(project: Path) -> None:
    Path("mod_of_this_test.py").write_text(HELPER)
    write_toml(TOML + 'data = "mod_of_this_test:batches"\n')
    (target,) = onnxcal.build(check=True).targets
    assert [Path(path).name for path in target.inputs] == ["größe 1.onnx", "mod_of_this_test.py"]
    write_toml(TOML + 'data = "no_such_module_at_all:f"\n')
    (target,) = onnxcal.build(check=True).targets
    assert (target.status, target.error) == ("failed", "cannot find the module 'no_such_module_at_all'")


def test_a_package_that_cannot_be_imported_fails_its_own_target_only(project: Path) -> None:
    Path("broken_of_this_test").mkdir()
    Path("broken_of_this_test/__init__.py").write_text("raise RuntimeError('not today')\n")
    write_toml(TOML + '[targets.broken]\nmodel = "größe 1.onnx"\ndata = "broken_of_this_test.data:load"\n')
    fine, broken = onnxcal.build(check=True).targets
    assert (fine.status, broken.status) == ("out of date", "failed")
    assert broken.error == "cannot import the module 'broken_of_this_test.data': RuntimeError: not today"


def test_a_pattern_is_one_in_a_folder_whose_name_looks_like_one_too(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("v[2]").mkdir()
    for name in ("größe 1.onnx", "val data.npz", "onnxcal.toml"):
        os.rename(name, Path("v[2]") / name)
    monkeypatch.chdir("v[2]")
    write_toml(TOML.replace("val data", "val*").replace("out put/", ""))
    monkeypatch.chdir(project)
    (target,) = onnxcal.build(config="v[2]/onnxcal.toml", check=True).targets
    assert (target.error, target.status) == (None, "out of date")


def test_a_folder_of_data_counts_by_names_and_contents(project: Path) -> None:
    def digest() -> Any:
        found = read_config("onnxcal.toml")
        return recipe_of(found, found.targets[0], DigestCache()).document["depends"]

    write_toml(TOML + 'depends = "images"\n')
    Path("images/cat").mkdir(parents=True)
    Path("images/dog").mkdir()
    for name, content in {"cat/1": b"a", "cat/2": b"b", "dog/1": b"c"}.items():
        (Path("images") / name).write_bytes(content)
    first = digest()
    assert digest() == first
    os.rename("images/cat/2", "images/dog/2")
    moved = digest()
    Path("images/dog/2").write_bytes(b"B")
    assert len({first, moved, digest()}) == 3
    changed = digest()
    Path("images/.DS_Store").touch()
    Path("images/__pycache__").mkdir()
    Path("images/__pycache__/x.pyc").touch()
    assert digest() == changed
    Path("elsewhere").mkdir()
    Path("elsewhere/3").write_bytes(b"d")
    Path("images/linked").symlink_to(project / "elsewhere", target_is_directory=True)
    Path("images/circle").symlink_to(project / "images", target_is_directory=True)
    linked = digest()
    Path("elsewhere/3").write_bytes(b"e")
    assert len({changed, linked, digest()}) == 3


def test_another_form_of_patch_is_a_change(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_built()
    monkeypatch.setattr("onnxcal.builds.recipe.PATCH_FORMAT", 99)
    assert reason() == "onnxcal writes another form of patch now"


def test_the_recipe_holds_neither_paths_nor_times(project: Path) -> None:
    Path("elsewhere").mkdir()
    pretend_built()
    here = recipe_of(read_config("onnxcal.toml"), read_config("onnxcal.toml").targets[0], DigestCache()).document
    for name in ("größe 1.onnx", "val data.npz", "onnxcal.toml"):
        os.rename(name, Path("elsewhere") / name)
    touch_all(project)
    there = read_config("elsewhere/onnxcal.toml")
    assert recipe_of(there, there.targets[0], DigestCache()).document == here
    content = Path("out put/ü.onnx").read_bytes()
    assert str(project).encode() not in content
    assert b"val data" not in content


@pytest.mark.parametrize("content", [b"my notes", builders.classifier().SerializeToString()], ids=["text", "a model"])
def test_what_is_no_calibrated_model_is_not_replaced(content: bytes, project: Path) -> None:
    Path("out put/ü.onnx").write_bytes(content)
    (target,) = onnxcal.build().targets
    assert target.status == "failed"
    assert "no calibrated model" in str(target.error)
    assert Path("out put/ü.onnx").read_bytes() == content


def test_a_pipe_in_the_place_of_the_output_is_not_waited_for(project: Path) -> None:
    os.mkfifo("out put/ü.onnx")
    (target,) = onnxcal.build(check=True).targets
    assert target.error == "'out put/ü.onnx' is there, and is no ordinary file"


def test_jobs_and_check_and_force_that_make_no_sense_are_refused(project: Path) -> None:
    for options in (
        {"jobs": 0}, {"check": True, "force": True}, {"check": True, "depfile": "x.d"}, {"depfile": "nowhere/x.d"},
        {"depfile": "onnxcal.toml"}, {"depfile": "out put/ü.onnx"}, {"targets": ["u"]}, {"config": "other.toml"},
    ):  # fmt: skip
        with pytest.raises(UsageError):
            onnxcal.build(**options)  # type: ignore[arg-type]


def test_revert_takes_the_recipe_out_again(project: Path) -> None:
    pretend_built()
    onnxcal.revert("out put/ü.onnx", output="back.onnx")
    assert Path("back.onnx").read_bytes() == Path("größe 1.onnx").read_bytes()
    assert np.isfinite(onnxcal.inspect("out put/ü.onnx").calibration.temperature)  # type: ignore[union-attr]
