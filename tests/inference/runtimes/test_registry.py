"""What is there, what is missing, and what is said of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import onnxcal
from onnxcal import UsageError
from onnxcal.inference.runtimes.parts import Command, Distribution, NodePackage
from onnxcal.inference.runtimes.registry import NAMES, choose_runtimes, find_runtime, list_runtimes


def test_names_are_those_of_the_modules_and_each_says_how_it_is_installed() -> None:
    for name in NAMES:
        runtime = find_runtime(name)
        assert runtime.name == name
        assert "install" in runtime.install
        assert runtime.parts
    files = {path.stem for path in (Path(onnxcal.__file__).parent / "inference" / "runtimes").glob("*.py")}
    others = {"__init__", "client", "parts", "registry", "runtime", "static", "worker"}
    assert files - others == {name.replace("-", "_") for name in NAMES}


def test_what_onnxcal_itself_needs_is_there() -> None:
    import onnx
    import onnxruntime

    states = {state.name: state for state in list_runtimes().runtimes}
    for name, module in (("onnxruntime", onnxruntime), ("onnx-reference", onnx)):
        assert (states[name].installed, states[name].missing) == (True, ())
        assert states[name].version == module.__version__


def test_extra_of_a_runtime_is_in_pyproject() -> None:
    text = (Path(onnxcal.__file__).parents[1] / "pyproject.toml").read_text()
    for name in NAMES:
        install = find_runtime(name).install
        if "onnxcal[" in install:
            assert f"\n{install.split('onnxcal[')[1].split(']')[0]} = [" in text


def test_a_name_twice_or_beside_all_is_one_runtime() -> None:
    chosen, _ = choose_runtimes(["onnxruntime", "onnxruntime", "all"])
    assert [runtime.name for runtime in chosen].count("onnxruntime") == 1
    assert choose_runtimes("onnx-reference")[0][0].name == "onnx-reference"
    assert choose_runtimes(()) == ((), ())


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="runtime 'tensorrt' is not known") as caught:
        choose_runtimes(["tensorrt"])
    assert "openvino" in str(caught.value.hint)


def test_one_that_is_missing_is_refused_by_name_and_left_out_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Distribution.version
    monkeypatch.setattr(Distribution, "version", lambda part: None if part.name == "tract" else real(part))
    with pytest.raises(UsageError, match="'tract' is not installed: tract is missing") as caught:
        choose_runtimes(["tract"])
    assert caught.value.hint == "pip install 'onnxcal[tract]'"
    chosen, (note, *_) = choose_runtimes("all")
    assert "tract" not in [runtime.name for runtime in chosen]
    assert "tract" in note


def test_a_part_may_come_under_several_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Distribution(("no-such-thing", "numpy")).version() == Distribution(("numpy",)).version() is not None
    assert Distribution(("no-such-thing",)).version() is None
    program = tmp_path / "second"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    assert Command(("first", "second")).path() == os.fspath(program)
    assert Command(("first",)).version() is None


@pytest.mark.parametrize("how", ["here", "above", "NODE_PATH"])
def test_a_node_package_is_found_where_node_looks(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "project" / "sub"
    here.mkdir(parents=True)
    modules = {"here": here, "above": tmp_path / "project", "NODE_PATH": tmp_path / "other"}[how] / "node_modules"
    (modules / "a-package").mkdir(parents=True)
    (modules / "a-package" / "package.json").write_text(json.dumps({"version": "1.2.3"}))
    monkeypatch.chdir(here)
    monkeypatch.setenv("NODE_PATH", os.fspath(modules) if how == "NODE_PATH" else "")
    assert NodePackage("a-package").version() == "1.2.3"
    assert NodePackage("another").version() is None
    (modules / "a-package" / "package.json").write_text("{")
    assert NodePackage("a-package").version() == ""
