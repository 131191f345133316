"""README's commands and code run as they are written (CI runs the two Quick start blocks themselves)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from onnxcal.data.preprocess import open_preprocess

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo's model and data, as README assumes."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("digits.onnx", "digits.npz"):
        shutil.copy(ROOT / "onnxcal" / "demo_data" / name, folder)
    return folder


def test_the_first_two_blocks_are_the_quick_start():
    start = README.index("## Quick start")
    assert README.index("```sh") > start
    assert "onnxcal demo" in blocks("sh")[0]
    assert "pytest" in blocks("sh")[1]


def test_every_shell_block_behind_the_quick_start_runs(folder: Path):
    for block in blocks("sh")[2:]:
        run(["bash", "-euo", "pipefail", "-c", block], folder)
    assert (folder / "original.onnx").read_bytes() == (folder / "digits.onnx").read_bytes()


@pytest.mark.parametrize(
    ("page", "written"),
    [
        ("is_it_calibrated", ("report.html", "temperature.svg", "reliability.svg")),
        ("edge", ("folded.onnx", "tunable.onnx", "before-quantising.onnx")),
    ],
)
def test_a_page_runs(page: str, written: tuple[str, ...], tmp_path: Path):
    for name in ("digits.onnx", "digits.npz"):
        shutil.copy(ROOT / "onnxcal" / "demo_data" / name, tmp_path)
    text = (ROOT / "examples" / page / "README.md").read_text(encoding="utf-8")
    for block in blocks("sh", text):
        run(["bash", "-euo", "pipefail", "-c", block], tmp_path)
    for block in blocks("python", text):
        run([sys.executable, "-W", "error", "-c", block], tmp_path)
    for name in written:
        assert (tmp_path / name).stat().st_size > 1000


def test_the_keys_on_the_page_of_data_are_understood(tmp_path: Path):
    (text,) = blocks("toml", (ROOT / "examples" / "data" / "README.md").read_text(encoding="utf-8"))
    (tmp_path / "preprocess.toml").write_text(text)
    assert open_preprocess(tmp_path / "preprocess.toml").crop == (224, 224)


def test_every_python_block_runs(folder: Path):
    assert blocks("python")
    for block in blocks("python"):
        run([sys.executable, "-W", "error", "-c", block], folder)


def test_the_demo_figures_are_those_of_the_demo(cli, tmp_path: Path):
    metrics = json.loads(cli("demo", tmp_path, "--json").stdout)["metrics"]
    rows = {"accuracy": "accuracy", "mean confidence": "confidence", "NLL": "nll", "ECE (15 bins)": "ece"}
    for name, key in rows.items():
        shown = re.search(rf"^\| {re.escape(name)} \| ([\d.]+)( %)? \| ([\d.]+)( %)? \|$", README, re.M)
        assert shown is not None, name
        for text, split in ((shown[1], "before"), (shown[3], "after")):
            figure = metrics[split][key] * (100 if shown[2] else 1)
            digits = len(text.partition(".")[2])
            assert float(text) == pytest.approx(figure, abs=0.51 * 10**-digits)


def test_every_linked_file_exists():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_quickstart_example_runs(tmp_path: Path):
    out = run([sys.executable, "-W", "error", str(ROOT / "examples/quickstart/quickstart.py")], tmp_path)
    assert "verified: True" in out


def run(command: list[str], folder: Path) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
