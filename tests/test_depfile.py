"""Dependency files, read by the tools that they are for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxcal.depfile import write_depfile
from onnxcal.errors import UsageError
from tests import builders

NAMES = [
    "plain.npz",
    "two words.npz",
    "a#b$c.npz",
    "größe.npz",
    "back\\ slash",
    "a=b,(1)@{x}.npz",
    "50%.npz",
    "a:b.npz",
]


def made_by(tool: str, folder: Path) -> bool:
    """Whether running a tool made `out` anew."""
    before = (folder / "runs").read_text() if (folder / "runs").exists() else ""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # PyPI's ninja
    done = subprocess.run(
        [tool], cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / "runs").read_text() != before


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("name", NAMES)
def test_make_and_ninja_run_again_when_an_input_of_any_name_changed(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("1")
    (tmp_path / "m.onnx").write_text("1")
    command = "cp saved.d out.d && touch out && echo run >> runs"
    (tmp_path / "Makefile").write_text(f"out:\n\t{command}\n-include out.d\n", encoding="utf-8")
    (tmp_path / "build.ninja").write_text(
        f"rule r\n  command = {command}\n  depfile = out.d\nbuild out: r\n", encoding="utf-8"
    )
    write_depfile(tmp_path / "saved.d", {"out": ["m.onnx", name]})
    for tool in ("make", "ninja"):
        for left in ("out", "out.d", "runs"):
            (tmp_path / left).unlink(missing_ok=True)
        for read in ("m.onnx", name):
            os.utime(tmp_path / read, (1, 1))
        assert made_by(tool, tmp_path), tool
        assert not made_by(tool, tmp_path), tool
        later = os.stat(tmp_path / "out").st_mtime + 2
        os.utime(tmp_path / name, (later, later))
        assert made_by(tool, tmp_path), f"{tool} does not know that '{name}' was read"


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_an_input_that_is_gone_makes_make_run_again_instead_of_stopping(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("out:\n\ttouch out && echo run >> runs\n-include out.d\n")
    (tmp_path / "in").write_text("1")
    write_depfile(tmp_path / "out.d", {"out": ["in"]})
    assert made_by("make", tmp_path)
    (tmp_path / "in").unlink()
    assert made_by("make", tmp_path)


def test_calibrate_names_every_file_that_it_read(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx

    monkeypatch.chdir(tmp_path)
    x, y = builders.labelled_data(100)
    for name, array in (("x", x), ("y", y), ("ex", x), ("ey", y)):
        np.save(f"{name}.npy", array)
    model = builders.classifier([builders.softmax()], output="probs")
    onnx.save_model(model, "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    result = cli(
        "calibrate", "m.onnx", "--data", "x.npy", "--labels", "y.npy", "--eval-data", "ex.npy", "--eval-labels",
        "ey.npy", "-o", "o.onnx", "--depfile", "o.d", "--bootstrap", "0",
    )  # fmt: skip
    assert (result.exit_code, result.stderr) == (0, "")
    rule = Path("o.d").read_text().replace("\\\n", " ").splitlines()[0]
    assert rule.split() == ["o.onnx:", "m.onnx", "m.data", "x.npy", "y.npy", "ex.npy", "ey.npy"]


def test_of_a_callable_the_source_file_is_named(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    builders.save(builders.classifier([builders.softmax()], output="probs"), tmp_path / "m.onnx")
    Path("load.py").write_text("from tests import builders\ndef f():\n    yield builders.labelled_data(100)\n")
    assert cli("calibrate", "m.onnx", "--data", "load.py:f", "-o", "o.onnx", "--depfile", "o.d").exit_code == 0
    assert Path("o.d").read_text().replace("\\\n", " ").splitlines()[0].split() == ["o.onnx:", "m.onnx", "load.py"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "o.onnx", "--depfile", "nowhere/o.d"], "does not exist"),
        (["--in-place", "--depfile", "o.d"], "made from itself"),
        (["-o", "o.onnx", "--depfile", "m.onnx"], "read or written by this command already"),
        (["-o", "o.onnx", "--depfile", "o.onnx"], "read or written by this command already"),
        (["-o", "o\n.onnx", "--depfile", "o.d"], "cannot stand in a --depfile"),
    ],
)
def test_a_depfile_that_cannot_be_is_refused_before_any_work(
    words: list[str], said: str, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    builders.save(builders.classifier([builders.softmax()], output="probs"), tmp_path / "m.onnx")
    before = sorted(tmp_path.iterdir())
    np.savez("d.npz", x=np.zeros((2, 6), np.float32), labels=[0, 1])
    result = cli("calibrate", "m.onnx", "--data", "d.npz", *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert sorted(set(tmp_path.iterdir()) - {tmp_path / "d.npz"}) == before


@pytest.mark.parametrize(("output", "read"), [("o", "a\nb"), ("o", "a;b"), ("o", "a\\"), ("o%", "a")])
def test_names_that_make_cannot_express_are_refused(output: str, read: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot stand in a --depfile"):
        write_depfile(tmp_path / "x.d", {output: [read]})
    assert list(tmp_path.iterdir()) == []
