"""Reading an onnxcal.toml: what is understood, and what is said of what is not. The JSON Schema says the same."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onnxcal
from onnxcal.builds.config import find_config, parse, read_config
from onnxcal.builds.keys import FILES, GATES, OPTIONS
from onnxcal.builds.schema import PUBLISHED, text
from onnxcal.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VALIDATOR = jsonschema.Draft7Validator(json.loads(PUBLISHED.read_text()))
ONE = {"targets": {"a": {"model": "m.onnx", "data": "d.npz"}}}


def target(**said: Any) -> dict[str, Any]:
    return {"targets": {"a": {"model": "m.onnx", "data": "d.npz", **{k.replace("_", "-"): v for k, v in said.items()}}}}


ACCEPTED: dict[str, Any] = {
    "the least": ONE,
    "data by default": {"defaults": {"data": "d.npz"}, "targets": {"a": {"model": "m.onnx"}}},
    "several heads": target(head=["a", "b"]),
    "one head": target(head="a"),
    "a word for a number": target(batch_size="auto"),
    "a whole number written as a float": target(batch_size=64.0),
    "gates of the file and of a target": {**target(gates={"max-ece": 0.1}), "gates": {"min-accuracy": 1}},
    "everything": {
        "defaults": {"data": "d.npz", "seed": 3, "threads": 2, "provider": "CPU"},
        "gates": {"max-nll": 1.5, "require-improvement": True},
        "targets": {
            "a": {
                "model": "m.onnx", "labels": "y.npy", "eval-data": "e.npy", "eval-labels": "f.npy", "depends": ["x"],
                "no-holdout": True, "task": "binary", "axis": -1, "activation": "sigmoid", "method": "temperature",
                "ignore-index": 255, "exact": True, "prior": 1, "smoothing": 0, "bootstrap": 100, "output-name": "p",
                "keep-logits": False, "output": "o.onnx", "save-calibration": "c.json", "report": "r.html",
                "gates": {"max-temperature-change": 0.2},
            }
        },
    },
}  # fmt: skip
REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "declares no target"),
    "no targets": ({"targets": {}}, "declares no target"),
    "targets that are a list": ({"targets": []}, "no table"),
    "a target that is a string": ({"targets": {"a": "m.onnx"}}, "no table"),
    "no model": ({"targets": {"a": {"data": "d.npz"}}}, "has no 'model'"),
    "no data": ({"targets": {"a": {"model": "m.onnx"}}}, "has no 'data'"),
    "an unknown section": ({**ONE, "target": {}}, "did you mean 'targets'?"),
    "an unknown key": (target(max_ece=0.1), "unknown key 'max-ece'"),
    "a key with a typing error": (target(labls="y.npy"), "did you mean 'labels'?"),
    "an underscore": ({"targets": {"a": {"model": "m", "data": "d", "batch_size": 3}}}, "did you mean 'batch-size'?"),
    "an unknown gate": (target(gates={"max-ecee": 0.1}), "did you mean 'max-ece'?"),
    "a model by default": ({"defaults": {"model": "m.onnx"}, **ONE}, "unknown key 'model'"),
    "a number as text": (target(seed="3"), "it takes a whole number from 0"),
    "a fraction of a sample": (target(batch_size=1.5), "it takes a whole number from 1, or 'auto'"),
    "another word for a number": (target(batch_size="all"), "or 'auto'"),
    "true as a number": (target(seed=True), "it takes a whole number"),
    "a number as true": (target(exact=1), "it takes true or false"),
    "a number too large": ({**ONE, "gates": {"max-ece": 1.5}}, "it takes a number from 0 to 1"),
    "an excluded end": (target(smoothing=1), "from 0 to below 1"),
    "another choice": (target(task="multi-class"), "did you mean 'multiclass'?"),
    "an empty path": (target(labels=""), "it takes a string"),
    "a number with hundreds of digits": ({**ONE, "gates": {"max-nll": 10**400}}, "it takes a number from 0 to 1e+06"),
    "a path with a zero byte": (target(labels="a\0b"), "it takes a string"),
    "an empty list": (target(head=[]), "a string or a list of strings"),
    "a list of numbers": (target(head=[1]), "a string or a list of strings"),
    "a head twice": (target(head=["a", "a"]), "a string or a list of strings"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_parser_and_schema_accept_the_same(name: str) -> None:
    VALIDATOR.validate(ACCEPTED[name])
    assert parse(ACCEPTED[name], "it")


@pytest.mark.parametrize("name", REFUSED)
def test_parser_and_schema_refuse_the_same(name: str) -> None:
    document, said = REFUSED[name]
    assert not VALIDATOR.is_valid(document)
    with pytest.raises(UsageError) as caught:
        parse(document, "it")
    assert said in str(caught.value)


VALUES = st.one_of(
    st.booleans(), st.integers(-2, 200_000), st.floats(-1, 2), st.sampled_from(["", "auto", "binary", "none", "a.npz"]),
    st.lists(st.sampled_from(["", "a", "b"]), max_size=3), st.just({}),
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(st.sampled_from([*OPTIONS, *FILES, "gates", "nonsense"]), VALUES, st.sampled_from([*GATES, "nonsense"]), VALUES)
def test_parser_and_schema_agree_on_any_value_of_any_key(key: str, value: Any, gate: str, limit: Any) -> None:
    for document in (
        {"targets": {"a": {"model": "m.onnx", "data": "d.npz", key: value}}},
        {"defaults": {key: value}, **ONE},
        {"gates": {gate: limit}, **ONE},
    ):
        try:
            parse(document, "it")
            accepted = True
        except UsageError as error:
            if " is written by " in str(error):  # that two paths are one file is beyond a schema
                continue
            accepted = False
        assert VALIDATOR.is_valid(document) == accepted, document


def test_the_published_schema_is_the_one_of_the_table_of_keys() -> None:
    """If not: python -m onnxcal.builds.schema > onnxcal/builds/onnxcal.schema.json."""
    assert PUBLISHED.read_text() == text()
    jsonschema.Draft7Validator.check_schema(json.loads(text()))


def test_keys_are_the_options_of_calibrate() -> None:
    said = {key.replace("-", "_") for key in (*OPTIONS, *FILES, *GATES)} - {"depends"}
    not_of_a_target = {"in_place", "force", "depfile", "recipe", "progress"}
    assert said == set(inspect.signature(onnxcal.calibrate).parameters) - not_of_a_target


def test_a_target_overrules_the_defaults_and_its_gates_those_of_the_file() -> None:
    (made,) = parse(
        tomllib.loads("""
            gates = {max-ece = 0.1, max-nll = 1}
            [defaults]
            data = "d.npz"
            seed = 1
            head = "p"
            [targets.a]
            model = "sub/m.onnx"
            seed = 2
            gates.max-ece = 0.2
        """),
        "it",
    )
    assert (made.name, made.model, made.output) == ("a", "sub/m.onnx", str(Path("sub/m.calibrated.onnx")))
    assert made.options == {"data": "d.npz", "seed": 2, "head": ["p"], "max-ece": 0.2, "max-nll": 1}


@pytest.mark.parametrize(
    "content",
    [
        {"a": {"model": "m.onnx"}, "b": {"model": "./m.onnx"}},
        {"a": {"model": "m.onnx", "output": "x.onnx"}, "b": {"model": "n.onnx", "report": "x.onnx"}},
        {"a": {"model": "m.onnx", "output": "m.onnx"}},
        {"a": {"model": "m.onnx", "output": "n.onnx"}, "b": {"model": "n.onnx"}},
        {"a": {"model": "m.onnx", "output": "n.onnx"}, "b": {"model": "n.onnx", "output": "m.onnx"}},
        {"a": {"model": "m.onnx", "output": "linked/x.onnx"}, "b": {"model": "n.onnx", "output": "real/x.onnx"}},
        {"a": {"model": "m.onnx", "summary": "d.npz"}},
        {"a": {"model": "m.onnx", "summary": "s.md", "report": "s.md"}},
        {"a": {"model": "m.onnx", "report": "it.toml"}},
        {"a": {"model": "m.onnx"}, "b": {"model": "n.onnx", "data": "f.py:g", "save-calibration": "f.py"}},
        {"a": {"model": "m.onnx", "data": "real", "preprocess": "imagenet", "output": "real/x.onnx"}},
    ],
    ids=[
        "one output", "an output that is a report", "in place", "one after the other", "in a circle", "by a link",
        "data", "one file besides", "the file itself", "a callable", "into a folder that is read",
    ],
)  # fmt: skip
def test_targets_that_cannot_go_together_are_refused(content: Any, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to("real")
    with pytest.raises(UsageError, match="is written by"):
        parse({"defaults": {"data": "d.npz"}, "targets": content}, "it.toml", tmp_path)


def test_the_nearest_file_is_found_here_or_above(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[tool.onnxcal.targets.a]\nmodel = "m.onnx"\ndata = "d.npz"\n')
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.ruff]\n")
    assert find_config(below) == tmp_path / "pyproject.toml"
    assert read_config(find_config(below)).chosen(["a"])[0].model == "m.onnx"
    (tmp_path / "a" / "onnxcal.toml").touch()
    assert find_config(below) == tmp_path / "a" / "onnxcal.toml"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("onnxcal.toml", b"[targets", "is not TOML"),
        ("onnxcal.toml", b"\xff", "is not TOML"),
        ("onnxcal.toml", b"a = 1" + b"0" * 5000, "is not TOML"),
        ("pyproject.toml", b"[project]", "has no [tool.onnxcal]"),
        ("pyproject.toml", b"tool = 3", "has no [tool.onnxcal]"),
        ("other.toml", None, "No such file"),
    ],
)
def test_a_file_that_says_nothing_is_refused(name: str, content: bytes | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_config(tmp_path / name)
    assert said in caught.value.message


def test_an_unknown_target_names_the_nearest_one() -> None:
    from onnxcal.builds.config import Project

    project = Project(Path("onnxcal.toml"), parse(ONE, "it"))
    with pytest.raises(UsageError, match="no target 'b'"):
        project.chosen(["b"])
