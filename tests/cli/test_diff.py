"""`onnxcal diff` as a reviewer types it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import onnx
import pytest

import onnxcal
from tests import builders
from tests.cli.conftest import MODEL

pytestmark = pytest.mark.usefixtures("work")


def spoiled(path: Path, name: str = "author") -> Path:
    proto = onnx.ModelProto.FromString(Path("p.onnx").read_bytes())
    proto.metadata_props.add(key=name, value=name)
    return builders.save(proto, path)


def test_a_patch_passes_and_a_change_besides_is_exit_code_1(cli: Any, work: Path) -> None:
    fine = cli("diff", "m.onnx", "p.onnx")
    assert (fine.exit_code, fine.stderr) == (0, "")
    assert "PASSED: a patch is put in, and nothing else changed" in " ".join(fine.stdout.split())
    assert "+ node onnxcal_div" in " ".join(fine.stdout.replace("'", "").split())
    bad = cli("diff", "m.onnx", spoiled(work / "bad.onnx"))
    assert (bad.exit_code, bad.stderr) == (1, "")
    assert "FAILED: besides a patch, metadata 'author' differs" in " ".join(bad.stdout.split())
    quiet = cli("diff", "m.onnx", "bad.onnx", "-q")
    assert (quiet.exit_code, quiet.stdout) == (1, "")
    assert quiet.stderr.startswith("FAILED: ")


def test_json_is_one_object_with_the_fields_of_the_result(cli: Any, work: Path) -> None:
    for b, code in (("p.onnx", 0), (spoiled(work / "bad.onnx"), 1)):
        result = cli("diff", "m.onnx", b, "--json")
        assert result.exit_code == code
        found, printed = onnxcal.diff("m.onnx", b), json.loads(result.stdout)
        assert next(iter(printed)) == "schema"
        assert (printed["verdict"], printed["passed"]) == (found.verdict, found.passed)
        assert [entry["name"] for entry in printed["patch_changes"]] == [c.name for c in found.patch_changes]
        assert printed["a"]["sha256"] == onnxcal.inspect("m.onnx").model.sha256


def test_it_fits_80_columns_and_colour_says_nothing_more(shell: Any) -> None:
    plain = shell("diff", "m.onnx", "p.onnx", env={"NO_COLOR": "1", "COLUMNS": "80"}).stdout
    assert max(map(len, plain.splitlines())) <= 80
    assert "\x1b" not in plain
    coloured = shell("diff", "m.onnx", "p.onnx", env={"FORCE_COLOR": "1", "COLUMNS": "80", "TERM": "xterm"}).stdout
    assert "\x1b[32m" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain


def test_names_that_a_terminal_acts_on_are_shown_as_escapes(cli: Any, work: Path) -> None:
    result = cli("diff", "m.onnx", spoiled(work / "bad.onnx", "\x1b[2J\u202e\n[bold]"))
    assert result.exit_code == 1
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout
    assert "\\x1b[2J\\u202e\\n[bold]" in result.stdout


def test_a_long_list_is_cut_unless_asked_for(cli: Any, work: Path) -> None:
    proto = onnx.ModelProto.FromString(MODEL.SerializeToString())
    for number in range(50):
        proto.metadata_props.add(key=f"key {number}", value="x")
    builders.save(proto, work / "many.onnx")
    short, whole = (cli("diff", "m.onnx", "many.onnx", *more).stdout for more in ([], ["-v"]))
    assert short.count("+ metadata") == 20
    assert "and 30 more, with -v" in short
    assert whole.count("+ metadata") == 50


@pytest.mark.parametrize("words", [["m.onnx", "none.onnx"], ["m.onnx", "d.npz"], ["m.onnx"], ["work", "m.onnx"]])
def test_what_is_no_model_is_refused(words: list[str], cli: Any) -> None:
    result = cli("diff", *words)
    assert result.exit_code == 2
    assert result.stderr.startswith("onnxcal: error:")
    assert result.stdout == ""


def test_the_original_and_its_revert_are_identical(cli: Any, work: Path) -> None:
    assert cli("revert", "p.onnx", "-o", "back.onnx").exit_code == 0
    result = cli("diff", "m.onnx", "back.onnx")
    assert result.exit_code == 0
    assert "identical" in result.stdout
