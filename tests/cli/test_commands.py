"""Each command as a user types it: what it prints, writes and returns."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnxcal
from tests.cli.conftest import MODEL, X, Y, contents

pytestmark = pytest.mark.usefixtures("work")

LINES: dict[str, list[str]] = {
    "inspect": ["inspect", "m.onnx"],
    "calibrate": ["calibrate", "m.onnx", "--data", "d.npz"],
    "logits": ["logits", "m.onnx", "--data", "d.npz", "-o", "out.npz"],
    "fit": ["fit", "z.npz"],
    "patch": ["patch", "m.onnx", "--temperature", "1.7"],
    "patch --data": ["patch", "m.onnx", "--temperature", "1.7", "--data", "d.npz"],
    "verify": ["verify", "m.onnx", "p.onnx", "--data", "d.npz"],
    "evaluate": ["evaluate", "m.onnx", "--data", "d.npz"],
    "revert": ["revert", "p.onnx", "-o", "back.onnx"],
    "demo": ["demo", "demo"],
}
WRITTEN = {
    "calibrate": {"m.calibrated.onnx"},
    "logits": {"out.npz"},
    "patch": {"m.calibrated.onnx"},
    "patch --data": {"m.calibrated.onnx"},
    "revert": {"back.onnx"},
    "demo": {"demo/digits.onnx", "demo/digits.npz", "demo/digits.calibrated.onnx"},
}
KEYS = {
    "inspect": {"schema", "model", "heads", "calibration", "inputs", "opset", "warnings"},
    "calibrate": {"schema", "model", "output", "head", "calibration", "metrics", "verification", "warnings"},
    "logits": {"schema", "output", "head", "warnings"},
    "fit": {"schema", "calibration", "metrics", "warnings"},
    "patch": {"schema", "model", "output", "head", "calibration", "verification", "warnings"},
    "patch --data": {"schema", "model", "output", "head", "calibration", "verification", "warnings"},
    "verify": {"schema", "verification", "warnings"},
    "evaluate": {"schema", "model", "head", "metrics", "warnings"},
    "revert": {"schema", "model", "output", "warnings"},
    "demo": {"schema", "model", "output", "head", "calibration", "metrics", "verification", "warnings"},
}
HEAD = {"output": "probs", "logits": "logits", "task": "multiclass", "activation": "softmax", "axis": 1,
        "num_classes": 4, "dtype": "float32"}  # fmt: skip


@pytest.mark.parametrize("command", LINES)
def test_command_succeeds_and_writes_what_it_says_and_nothing_else(command: str, cli: Any, work: Path) -> None:
    before = contents(work)
    result = cli(*LINES[command])
    assert (result.exit_code, result.stderr) == (0, "")
    after = contents(work)
    assert set(after) - set(before) == WRITTEN.get(command, set())
    assert {name: after[name] for name in before} == before
    assert result.stdout.strip()
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", LINES)
def test_json_is_one_object_with_the_contracts_keys_and_nothing_else(command: str, cli: Any) -> None:
    result = cli(*LINES[command], "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    document = json.loads(result.stdout)
    assert document.keys() >= KEYS[command]
    assert document["schema"] == "onnxcal/1"
    assert isinstance(document["warnings"], list)
    if command in ("inspect", "fit", "verify"):
        assert document.keys() - KEYS[command] <= {
            "calibrations", "patches", "nodes_to_exclude", "ir_version", "external_data", "nodes", "moved",
            "metrics", "made_from", "made_by", "targets",
        }  # fmt: skip
    if "head" in document and command != "demo":
        assert document["head"] == HEAD
    if command == "inspect":
        assert document["heads"] == [HEAD]
        assert document["calibration"] is None


def test_inspect_shows_where_the_division_goes_and_where_it_is(cli: Any) -> None:
    assert "─►[ ÷ T ]─► Softmax ─► probs" in cli(*LINES["inspect"]).stdout
    assert cli("patch", "m.onnx", "--temperature", "1.7", "-o", "out.onnx").exit_code == 0
    assert "─►[ ÷ 1.7 ]─► Softmax ─► probs" in cli("inspect", "out.onnx").stdout


def test_calibrate_json_has_every_key_of_the_contracts_example(cli: Any, work: Path) -> None:
    document = json.loads(cli(*LINES["calibrate"], "--json").stdout)
    assert document["model"].keys() == {"path", "sha256"} == document["output"].keys()
    assert (document["model"]["path"], document["output"]["path"]) == ("m.onnx", "m.calibrated.onnx")
    wanted = {"method", "temperature", "stderr", "objective", "n_samples", "converged"}
    assert document["calibration"].keys() >= wanted
    assert document["calibration"]["method"] == "temperature"
    assert document["calibration"]["objective"] == "nll"
    assert document["calibration"]["converged"] is True
    assert document["metrics"].keys() >= {"n_samples", "split", "before", "after"}
    for when in ("before", "after"):
        assert document["metrics"][when].keys() >= {"accuracy", "nll", "ece", "brier"}
    assert document["metrics"]["split"] == "holdout"
    (runtime,) = document["verification"]["runtimes"]
    assert runtime.keys() >= {"name", "version", "passed", "max_abs_error", "argmax_changed", "n_samples"}


@pytest.mark.parametrize("command", LINES)
@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_quiet_prints_nothing_when_all_is_well(command: str, flag: str, cli: Any) -> None:
    result = cli(*LINES[command], flag)
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize("command", ["calibrate", "patch --data", "demo"])
def test_verbose_prints_every_check(command: str, cli: Any) -> None:
    brief = cli(*LINES[command]).stdout
    again = ["--force"] if command != "demo" else []
    verbose = cli(*LINES[command], *again, "-v").stdout
    for check in ("untouched bytes", "onnx.checker", "arg max of"):
        assert check in verbose
        assert check not in brief


@pytest.mark.parametrize("command", LINES)
def test_text_fits_80_columns_without_colour(command: str, cli: Any) -> None:
    lines = cli(*LINES[command]).stdout.splitlines()
    assert [line for line in lines if len(line) > 80 and not line.strip().startswith(("next:", "onnxcal "))] == []
    assert "\x1b" not in "\n".join(lines)


def test_warnings_stay_visible_in_quiet_and_json(cli: Any, work: Path) -> None:
    np.savez(work / "double.npz", x=X.astype(np.float64), labels=Y)
    sentence = "was cast from float64 to float32"
    for flag in ("-q", "--json"):
        result = cli("evaluate", "m.onnx", "--data", "double.npz", flag)
        assert result.stderr.startswith("onnxcal: warning: 'double.npz': input 'x'")
        assert sentence in result.stderr
    assert sentence in " ".join(cli("evaluate", "m.onnx", "--data", "double.npz").stdout.split())


# Round trips


def test_fit_writes_a_calibration_that_patch_reads(cli: Any, work: Path) -> None:
    assert cli("fit", "z.npz", "-o", "cal.json").exit_code == 0
    assert cli("patch", "m.onnx", "--calibration", "cal.json", "-o", "out.onnx").exit_code == 0
    fitted = onnxcal.fit(*(np.load(work / "z.npz")[name] for name in ("logits", "labels")))
    in_file = onnxcal.inspect(work / "out.onnx").calibration
    assert in_file is not None
    assert np.float32(in_file.temperature) == np.float32(fitted.temperature)
    assert in_file.stderr == pytest.approx(fitted.stderr, rel=1e-4)


def test_what_fit_prints_as_json_is_a_calibration_too(cli: Any, work: Path) -> None:
    (work / "cal.json").write_text(cli("fit", "z.npz", "--json").stdout)
    assert cli("fit", "z.npz", "-o", "written.json", "-q").exit_code == 0
    assert json.loads((work / "cal.json").read_text()) == json.loads((work / "written.json").read_text())
    for name in ("cal", "written"):
        assert cli("patch", "m.onnx", "--calibration", f"{name}.json", "-o", f"{name}.onnx").exit_code == 0
    assert (work / "cal.onnx").read_bytes() == (work / "written.onnx").read_bytes()


def test_logits_then_fit_gives_the_temperature_of_calibrate(cli: Any) -> None:
    assert cli(*LINES["logits"]).exit_code == 0
    fitted = json.loads(cli("fit", "out.npz", "--json").stdout)
    calibrated = json.loads(cli(*LINES["calibrate"], "--no-holdout", "--json").stdout)
    assert fitted["calibration"]["temperature"] == calibrated["calibration"]["temperature"]
    assert fitted["metrics"] == calibrated["metrics"]


def test_a_saved_calibration_is_the_one_in_the_file(cli: Any, work: Path) -> None:
    assert cli(*LINES["calibrate"], "--save-calibration", "cal.json").exit_code == 0
    assert cli("patch", "m.onnx", "--calibration", "cal.json", "-o", "again.onnx").exit_code == 0
    assert (work / "again.onnx").read_bytes() == (work / "m.calibrated.onnx").read_bytes()


def test_logits_file_holds_the_models_logits(cli: Any, work: Path) -> None:
    assert cli(*LINES["logits"]).exit_code == 0
    with np.load(work / "out.npz", allow_pickle=False) as stored:
        np.testing.assert_array_equal(stored["logits"], onnxcal.collect_logits(MODEL, (X, Y)).values)
        np.testing.assert_array_equal(stored["labels"], Y)


def test_logits_of_a_binary_head_are_fitted_as_binary(cli: Any, work: Path) -> None:
    from tests import builders

    node = onnx.helper.make_node("Sigmoid", ["logits"], ["p"])
    builders.save(builders.classifier([node], output="p", output_shape=["N", 1], classes=1), work / "b.onnx")
    rng = np.random.default_rng(0)
    z = onnxcal.collect_logits(str(work / "b.onnx"), (X, rng.integers(0, 2, 200))).values
    np.savez(work / "b.npz", x=X, labels=rng.random(200) < 1 / (1 + np.exp(-z / 3)))
    assert cli("logits", "b.onnx", "--data", "b.npz", "-o", "bz.npz").exit_code == 0
    fitted = json.loads(cli("fit", "bz.npz", "--json").stdout)["calibration"]
    calibrated = json.loads(cli("calibrate", "b.onnx", "--data", "b.npz", "--json").stdout)["calibration"]
    assert fitted["temperature"] == calibrated["temperature"]
    assert fitted["task"] == "binary"


def test_revert_gives_the_original_byte_for_byte(cli: Any, work: Path) -> None:
    result = cli(*LINES["revert"])
    assert "byte for byte" in result.stdout
    assert (work / "back.onnx").read_bytes() == (work / "m.onnx").read_bytes()


def test_patch_says_that_it_was_not_run_and_names_the_command_that_would(cli: Any, work: Path) -> None:
    result = cli(*LINES["patch"])
    assert "not run" in result.stdout
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("next: onnxcal verify")]
    words = line.removeprefix("next: onnxcal ").replace("DATA", "d.npz").split()
    assert cli(*words).exit_code == 0
    document = json.loads(cli(*LINES["patch"], "--force", "--json").stdout)
    assert document["verification"] is None


@pytest.mark.parametrize(
    "data", [["d.npz"], ["x.npy", "--labels", "y.npy"], ["x.npy", "--labels", "d.npz"], ["f.py:f"]]
)
def test_every_kind_of_data_gives_the_same_temperature(data: list[str], cli: Any, work: Path) -> None:
    (work / "f.py").write_text(
        "import numpy as np\ndef f():\n    with np.load('d.npz') as f: d = dict(f)\n    yield d['x'], d['labels']\n"
    )
    document = json.loads(cli("calibrate", "m.onnx", "--data", *data, "--json").stdout)
    assert document["calibration"]["temperature"] == onnxcal.calibrate(MODEL, (X, Y)).calibration.temperature


def test_a_data_function_that_prints_does_not_spoil_json(cli: Any, work: Path, capfd: Any) -> None:
    """`--json`: exactly one JSON object on stdout, nothing else there; a loader's chatter belongs on stderr."""
    (work / "chatty.py").write_text(
        "import os\nimport numpy as np\nprint('importing')\n"
        "def f():\n    print('loading')\n    os.system('echo unpacking')\n"
        "    with np.load('d.npz') as f: d = dict(f)\n    yield d['x'], d['labels']\n"
    )
    result = cli("calibrate", "m.onnx", "--data", "chatty.py:f", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["verification"]["passed"] is True
    assert capfd.readouterr() == ("", "unpacking\n" * 2), "once to collect, once to verify"


def test_in_place_changes_the_model_only(cli: Any, work: Path) -> None:
    before = contents(work)
    assert cli(*LINES["calibrate"], "--in-place").exit_code == 0
    after = contents(work)
    assert {name for name in after if after[name] != before.get(name)} == {"m.onnx"}
    assert cli("revert", "m.onnx", "-o", "m.onnx", "--force").exit_code == 0
    assert contents(work) == before


# Demo, help, completion


@pytest.mark.parametrize("times", [1, 2])
def test_demo_works_in_a_fresh_folder_and_again(times: int, cli: Any, work: Path) -> None:
    outputs = [cli("demo") for _ in range(times)]
    assert {result.exit_code for result in outputs} == {0}
    assert len({result.stdout for result in outputs}) == 1
    text = " ".join(outputs[0].stdout.split())
    assert re.search(r"T = [1-9]\.\d+ ± 0\.\d+", text)
    assert "PASSED" in text
    for name in ("digits.onnx", "digits.npz", "digits.calibrated.onnx"):
        assert f"onnxcal-demo/{name}" in text
        assert (work / "onnxcal-demo" / name).is_file()


def test_demo_does_not_replace_files_of_the_users(cli: Any, work: Path) -> None:
    """Someone else's digits.npz in DIR is not ours to overwrite without --force."""
    (work / "digits.npz").write_bytes(b"my own digits")
    cli("demo", ".")
    assert (work / "digits.npz").read_bytes() == b"my own digits"


@pytest.mark.parametrize("command", [[], *[[name] for name in onnxcal.__all__ if name in LINES]])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_goes_to_stdout(command: list[str], flag: str, cli: Any) -> None:
    result = cli(*command, flag)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage: onnxcal")


def test_help_lists_every_command(cli: Any) -> None:
    from onnxcal.cli import COMMANDS

    text = cli("--help").stdout
    assert all(re.search(rf"^  {command} ", text, re.MULTILINE) for command in COMMANDS)


def test_no_arguments_show_the_help_and_no_error_about_it(cli: Any) -> None:
    result = cli()
    assert result.exit_code in (0, 2)
    assert "error: Usage" not in result.output
    assert "onnxcal demo" in result.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: str, cli: Any) -> None:
    result = cli("completion", shell)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "_ONNXCAL_COMPLETE" in result.stdout
    assert shell in result.stdout


@pytest.mark.parametrize(
    ("words", "wanted"),
    [("onnxcal cal", "calibrate"), ("onnxcal fit --ta", "--task"), ("onnxcal fit --task b", "binary")],
)
def test_completion_completes_commands_options_and_choices(words: str, wanted: str, shell: Any) -> None:
    env = {"_ONNXCAL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    assert f"plain,{wanted}" in shell(env=env).stdout.splitlines()


def test_a_batch_size_that_is_found_by_trying_is_named(cli: Any) -> None:
    result = cli("evaluate", "m.onnx", "--data", "d.npz", "--batch-size", "auto", "--json")
    assert result.exit_code == 0
    (note,) = json.loads(result.stdout)["warnings"]
    assert re.match(r"--batch-size auto chose \d+ samples a run", note)


@pytest.mark.parametrize("given", ["fast", "0", "-3"])
def test_a_batch_size_is_a_number_or_auto(cli: Any, given: str) -> None:
    result = cli("evaluate", "m.onnx", "--data", "d.npz", "--batch-size", given)
    assert result.exit_code == 2
    assert "--batch-size" in result.stderr
