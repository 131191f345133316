"""What a user sees in 80 columns. `python -m tests.report.test_golden` writes it anew: look at what changed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"
COMMANDS = {
    "demo": ["demo", "."],
    "inspect": ["inspect", "digits.calibrated.onnx"],
    "calibrate": ["calibrate", "digits.onnx", "--data", "digits.npz", "-o", "again.onnx", "--plot"],
    "logits": ["logits", "digits.onnx", "--data", "digits.npz", "-o", "logits.npz"],
    "fit": ["fit", "logits.npz", "--exact"],
    "patch": ["patch", "digits.onnx", "--temperature", "2", "-o", "by-hand.onnx"],
    "verify": ["verify", "digits.onnx", "by-hand.onnx", "--data", "digits.npz"],
    "evaluate": ["evaluate", "digits.calibrated.onnx", "--data", "digits.npz"],
    "revert": ["revert", "digits.calibrated.onnx", "-o", "original.onnx"],
    "refused": ["patch", "digits.onnx", "--temperature", "0"],
}


def seen(folder: Path, encoding: str = "utf-8") -> dict[str, str]:
    """What each command prints in an 80-column terminal without colour; figures that depend on the machine are cut."""
    environment = {**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": encoding, "NO_COLOR": "1"}
    texts = {}
    for name, words in COMMANDS.items():
        done = subprocess.run(
            [sys.executable, "-m", "onnxcal", *words],
            cwd=folder, env=environment, capture_output=True, text=True, encoding=encoding,
        )  # fmt: skip
        texts[name] = done.stdout + done.stderr
    return texts


def without_figures(text: str) -> str:
    """Numbers may differ in their last digits between machines, and versions differ: every digit becomes a 0."""
    text = re.sub(r"\d+(\.\d+)?e[+-]\d+", "0", text)
    return "\n".join(re.sub(r"\s+", " ", line).strip() for line in re.sub(r"\d", "0", text).splitlines())


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return seen(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_prints_what_it_did(texts: dict[str, str], name: str) -> None:
    wanted = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
    ours, theirs = ("".join(without_figures(text).split()) for text in (texts[name], wanted))
    ours, theirs = (re.sub(r"[█▏▎▍▌▋▊▉│0.,+-]", "", text) for text in (ours, theirs))
    assert ours == theirs


@pytest.mark.parametrize("name", COMMANDS)
def test_no_line_is_longer_than_the_terminal(texts: dict[str, str], name: str) -> None:
    commands = [line for line in texts[name].splitlines() if re.match(r"(next:|     ) onnxcal ", line)]
    assert [line for line in texts[name].splitlines() if len(line) > 80 and line not in commands] == []


def test_it_is_printed_where_only_ascii_can_be(tmp_path: Path) -> None:
    texts = seen(tmp_path, "ascii")
    assert all("Traceback" not in text for text in texts.values())
    assert "PASSED" in texts["calibrate"]
    assert "0.93-1.00" in texts["calibrate"]
    assert "+- 0.14 (robust standard error)" in texts["calibrate"]
    assert " -> " in texts["calibrate"]
    assert [text for text in texts.values() if "?" in text] == []
    assert all(len(line) <= 80 for line in texts["calibrate"].splitlines())


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        for of, shown in seen(Path(made)).items():
            (GOLDEN / f"{of}.txt").write_text(shown, encoding="utf-8")
