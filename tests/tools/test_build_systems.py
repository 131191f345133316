"""Make, CMake, Meson, the GitHub Action's script, pre-commit and Olive, for real, with what examples/build says."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "examples" / "build" / "README.md").read_text(encoding="utf-8")
DEMO = ROOT / "onnxcal" / "demo_data"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def block(language: str, number: int = 0) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.M | re.S)[number]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder whose name has blanks and letters beyond ASCII."""
    made = tmp_path / "mein Bau ü"
    made.mkdir()
    return made


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Run:
    """Run a command there, with this tree's `onnxcal` and PyPI's build tools before the system's."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "onnxcal").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m onnxcal "$@"\n')
    (tools / "onnxcal").chmod(0o755)
    path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def call(*words: object, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        command = [str(word) for word in words]
        done = subprocess.run(command, cwd=folder, env={**env, **more}, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return call


def put(model: Path, data: Path, samples: int | None = None) -> None:
    """The demo's model, and its data: all, or so few that --max-ece 0.05 cannot be kept."""
    if not model.exists():
        shutil.copy(DEMO / "digits.onnx", model)
    with np.load(DEMO / "digits.npz") as arrays:
        np.savez(data, **{name: array[:samples] for name, array in arrays.items()})


def state(path: Path) -> tuple[bytes, int]:
    return path.read_bytes(), path.stat().st_mtime_ns


def built_again_for_what_changed(build: Callable[[int], str], data: Path, output: Path) -> None:
    """First build, no-op, data that change, and data with which the gate says no."""
    build(0)
    first = state(output)
    build(0)
    assert state(output) == first, "a second build did something"
    put(output, data, 900)
    build(0)
    second = state(output)
    assert second[0] != first[0], "other data made no other model"
    put(output, data, 60)
    assert "more than --max-ece 0.05; nothing was written" in build(1)
    assert state(output) == second, "a gate that said no touched the output"


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make(folder: Path, run: Run) -> None:
    (folder / "Makefile").write_text(block("make"))
    put(folder / "größe.onnx", folder / "größe.npz")

    def build(code: int) -> str:
        return run("make", "größe.calibrated.onnx", code=2 if code else 0).stderr

    built_again_for_what_changed(build, folder / "größe.npz", folder / "größe.calibrated.onnx")


def test_cmake_and_ninja(folder: Path, run: Run) -> None:
    (folder / "CMakeLists.txt").write_text(block("cmake"))
    put(folder / "digits.onnx", folder / "val data.npz")
    run("cmake", "-S", ".", "-B", "out", "-G", "Ninja", f"-DCMAKE_MODULE_PATH={ROOT / 'tools' / 'cmake'}")

    def build(code: int) -> str:
        return run("cmake", "--build", "out", code=code).stdout

    built_again_for_what_changed(build, folder / "val data.npz", folder / "out" / "digits.calibrated.onnx")


@pytest.mark.parametrize(
    ("call", "said"),
    [("TARGET d MODEL digits.onnx", "DATA is missing"), ("TARGET d MODEL m DATA d DATEN x", "unknown argument 'DATEN")],
)
def test_cmake_says_what_is_wrong_with_a_call(call: str, said: str, folder: Path, run: Run) -> None:
    text = block("cmake")
    (folder / "CMakeLists.txt").write_text(text[: text.index("onnxcal_calibrate")] + f"onnxcal_calibrate({call})\n")
    module = f"-DCMAKE_MODULE_PATH={ROOT / 'tools' / 'cmake'}"
    assert said in run("cmake", "-S", ".", "-B", "out", "-G", "Ninja", module, code=1).stderr


def test_meson(folder: Path, run: Run) -> None:
    (folder / "meson.build").write_text(block("meson"))
    put(folder / "digits.onnx", folder / "digits.npz")
    run("meson", "setup", "out")
    run("ninja", "-C", "out")
    first = state(folder / "out" / "digits.calibrated.onnx")
    assert "no work to do" in run("ninja", "-C", "out").stdout
    assert state(folder / "out" / "digits.calibrated.onnx") == first


def test_the_pages_toml_and_commands(folder: Path, run: Run) -> None:
    for name in ("models", "data", "dist"):
        (folder / name).mkdir()
    put(folder / "models" / "digits.onnx", folder / "data" / "val.npz", 900)
    (folder / "onnxcal.toml").write_text(block("toml"))
    (folder / "data" / "loader.py").write_text(
        "import pathlib, numpy as np\n\ndef batches():\n"
        "    with np.load(pathlib.Path(__file__).with_name('val.npz')) as data:\n"
        "        yield data['image'], data['labels']\n"
    )
    first = run("bash", "-euo", "pipefail", "-c", block("sh"))
    assert "something is out of date" in first.stdout
    assert "digits-by-code: made" in first.stderr
    assert Path(run("bash", "-c", block("sh", 1)).stdout.strip()).is_file()
    assert run(sys.executable, "-W", "error", "-c", block("python")).stdout == "digits up to date None\n"
    assert "PASSED" in run("bash", "-c", block("sh", 2)).stdout


# The GitHub Action


@pytest.fixture
def script() -> ModuleType:
    """tools/action/run.py as a module."""
    spec = importlib.util.spec_from_file_location("action_run", ROOT / "tools" / "action" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_action_writes_summary_outputs_and_annotations(folder: Path, run: Run) -> None:
    put(folder / "digits.onnx", folder / "d.npz")
    (folder / "onnxcal.toml").write_text(
        '[defaults]\ndata = "d.npz"\n[targets."a|b"]\nmodel = "digits.onnx"\noutput = "a.onnx"\n'
        '[targets.strict]\nmodel = "digits.onnx"\noutput = "strict.onnx"\ngates.max-ece = 0.001\n'
    )
    inputs = {"ONNXCAL_JOBS": "2", "ONNXCAL_CONFIG": "", "ONNXCAL_TARGETS": "", "ONNXCAL_CHECK": "false"}
    done = run(
        sys.executable, ROOT / "tools" / "action" / "run.py", code=1,
        GITHUB_OUTPUT=str(folder / "outputs"), GITHUB_STEP_SUMMARY=str(folder / "summary.md"), **inputs,
    )  # fmt: skip
    outputs = dict(re.findall(r"^(.+?)<<(?:end-\w+)\n(.*?)\nend-\w+$", (folder / "outputs").read_text(), re.M | re.S))
    assert (outputs["exit-code"], outputs["made"]) == ("1", "a.onnx")
    document = json.loads(outputs["result"])
    t = document["targets"][0]["result"]["calibration"]["temperature"]
    rows = (folder / "summary.md").read_text(encoding="utf-8").splitlines()
    assert rows[4].startswith(f"| a\\|b | ✅ made | {t:.4g} ± ")
    assert rows[4].endswith("| yes |")
    assert rows[5].startswith("| strict | ❌ refused |")
    assert "**strict**: ECE after calibration is" in rows[7]
    errors = [line for line in done.stdout.splitlines() if line.startswith("::error")]
    assert len(errors) == 1
    assert errors[0].startswith("::error file=onnxcal.toml,title=onnxcal%3A strict::ECE after calibration")


def test_the_action_passes_wrong_usage_on(folder: Path, run: Run) -> None:
    done = run(sys.executable, ROOT / "tools" / "action" / "run.py", code=2, GITHUB_OUTPUT=str(folder / "outputs"))
    assert "there is no onnxcal.toml here or above" in done.stderr
    assert "exit-code<<" in (folder / "outputs").read_text()


def test_nothing_that_a_name_holds_is_markup_or_a_command(script: ModuleType) -> None:
    bad = "x\n::error::y | <b>`*"
    one = {"name": bad, "status": "failed", "output": "o", "error": bad, "reason": None, "hint": None, "result": None}
    document = {"config": bad, "targets": [one], "warnings": [bad]}
    for line in script.annotations(document):
        assert "\n" not in line
        assert line.count("::error") + line.count("::warning") - line.count("%0A::error") == 1
    table = script.summary(document)
    assert "<b>" not in table
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 7 for row in table.splitlines() if row.startswith("|"))


def test_the_actions_inputs_are_what_its_script_reads(script: ModuleType) -> None:
    yaml = pytest.importorskip("yaml")
    action = yaml.safe_load((ROOT / "tools" / "action" / "action.yml").read_text(encoding="utf-8"))
    step = action["runs"]["steps"][-1]
    assert {name.removeprefix("ONNXCAL_").lower() for name in step["env"]} == (
        set(action["inputs"]) - {"working-directory", "install"}
    )
    assert all(f"inputs.{key.removeprefix('ONNXCAL_').lower()} " in value for key, value in step["env"].items())
    words = script.command(
        {"ONNXCAL_CONFIG": "c d", "ONNXCAL_JOBS": "3", "ONNXCAL_CHECK": "true", "ONNXCAL_TARGETS": "a --force"}
    )
    assert words[3:] == ["build", "--json", "--config", "c d", "--jobs", "3", "--check", "--", "a", "--force"]
    workflow = yaml.safe_load(block("yaml"))
    used = next(step for step in workflow["jobs"]["models"]["steps"] if "onnxcal" in step.get("uses", ""))
    assert set(used["with"]) <= set(action["inputs"])


# pre-commit


def test_the_pre_commit_hook_refuses_what_was_changed_since(folder: Path, run: Run, tmp_path: Path) -> None:
    """The hook as it is published, but with the onnxcal that is here instead of one that pre-commit installs."""
    yaml = pytest.importorskip("yaml")
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    wanted = yaml.safe_load(block("yaml", 1))["repos"][0]["hooks"][0]["id"]
    hook = next(hook for hook in hooks if hook["id"] == wanted) | {"language": "system"}
    (folder / ".pre-commit-config.yaml").write_text(yaml.safe_dump({"repos": [{"repo": "local", "hooks": [hook]}]}))
    import onnxcal

    onnxcal.patch(DEMO / "digits.onnx", temperature=3.5, output=folder / "a b.calibrated.onnx")
    (folder / "other.onnx").write_bytes(b"not looked at")
    quiet = {"PRE_COMMIT_HOME": str(tmp_path / "pre-commit"), "GIT_CONFIG_GLOBAL": os.devnull}
    run("git", "init", "-q", **quiet)
    run("git", "add", ".", **quiet)
    run("pre-commit", "run", wanted, **quiet)
    content = (folder / "a b.calibrated.onnx").read_bytes()
    (folder / "a b.calibrated.onnx").write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    run("git", "add", ".", **quiet)
    said = run("pre-commit", "run", wanted, code=1, **quiet).stdout
    assert "'a b.calibrated.onnx': FAILED: recorded digest" in said


# Olive


def test_olive_runs_the_pass(folder: Path, run: Run) -> None:
    pytest.importorskip("olive", reason="olive-ai is no part of the dev extra: it pins other packages")
    put(folder / "digits.onnx", folder / "val.npz")
    path = os.pathsep.join([str(ROOT), str(ROOT / "tools" / "for_olive")])
    run(sys.executable, "-c", block("python olive"), PYTHONPATH=path, OLIVE_DISABLE_TELEMETRY="1")
    assert "PASSED" in run("onnxcal", "check", "from-olive/model.onnx").stdout
