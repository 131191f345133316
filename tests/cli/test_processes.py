"""What only a process of its own shows: terminals, pipes, encodings, signals."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Shell, contents

CALIBRATE = ["calibrate", "m.onnx", "--data", "d.npz"]


def on_a_terminal(words: list[str], folder: Path, **env: str) -> tuple[int, str]:
    """Exit code and everything printed, with stdout and stderr on a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "onnxcal", *words], cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "xterm", **env},
    )  # fmt: skip
    os.close(theirs)
    printed = b""
    while True:
        try:
            block = os.read(ours, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not block:
            break
        printed += block
    os.close(ours)
    return process.wait(60), printed.decode()


def test_python_dash_m_is_the_command(shell: Shell) -> None:
    done = shell("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("onnxcal ")
    assert shell("inspect", "nope.onnx").stderr.startswith("onnxcal: error: cannot read model 'nope.onnx'")


def test_no_progress_bar_and_no_colour_without_a_terminal(shell: Shell) -> None:
    done = shell(*CALIBRATE)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert "collecting" not in done.stdout


def test_a_terminal_gets_a_progress_bar(work: Path) -> None:
    code, printed = on_a_terminal(CALIBRATE, work)
    assert code == 0
    assert "collecting logits" in printed
    assert "PASSED" in printed


def test_no_color_is_respected_on_a_terminal(work: Path) -> None:
    _, coloured = on_a_terminal(["inspect", "m.onnx"], work)
    code, plain = on_a_terminal(["inspect", "m.onnx"], work, NO_COLOR="1")
    assert code == 0
    assert "\x1b[3" not in plain  # no colours; bold may stay
    assert "probs" in coloured


def test_quiet_shows_no_progress_bar_on_a_terminal(work: Path) -> None:
    assert on_a_terminal([*CALIBRATE, "-q"], work) == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize(
    "words", [["fit", "z.npz"], ["inspect", "p.onnx"], ["demo"], [*CALIBRATE, "--json"]], ids=lambda words: words[0]
)
def test_a_terminal_that_is_not_unicode_is_no_reason_to_fail(words: list[str], encoding: str, shell: Shell) -> None:
    """Redirected output on Windows is cp1252; a locale of C may be ascii. OUT is written before anything is printed."""
    done = shell(*words, env={"PYTHONIOENCODING": encoding}, encoding=encoding)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [["--help"], ["inspect", "m.onnx", "--json"], CALIBRATE], ids=lambda words: words[0])
def test_a_reader_that_goes_away_is_no_error(words: list[str], shell: Shell) -> None:
    """`onnxcal … | head -1` must not come back as 1, which means that a check said no."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = shell(*words, stdout=writer)
    finally:
        os.close(writer)
    assert done.returncode in (0, 128 + signal.SIGPIPE)
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_behind_stdout_is_no_bug(shell: Shell) -> None:
    with open("/dev/full", "w") as full:
        done = shell("inspect", "m.onnx", stdout=full)
    assert done.returncode == 2
    assert done.stderr.startswith("onnxcal: error: ")
    assert "internal error" not in done.stderr


def test_a_loader_that_prints_in_another_process_leaves_json_alone(shell: Shell, work: Path) -> None:
    (work / "chatty.py").write_text(
        "import os\nimport numpy as np\n"
        "def f():\n    os.system('echo loading >&2')\n    d = np.load('d.npz')\n    yield d['x'], d['labels']\n"
    )
    done = shell("calibrate", "m.onnx", "--data", "chatty.py:f", "--json")
    assert json.loads(done.stdout)["verification"]["passed"] is True
    assert "loading" in done.stderr


# Signals

SLOW = """
import pathlib, time
import numpy as np
d = np.load("d.npz")
def fit():
    for i in range(0, 200, 20):
        yield d["x"][i:i + 20], d["labels"][i:i + 20]
        pathlib.Path("started").touch()
        time.sleep({pause})
readings = []
def verify():
    readings.append(1)
    for i in range(0, 200, 20):
        yield d["x"][i:i + 20], d["labels"][i:i + 20]
        if len(readings) > 1:
            pathlib.Path("started").touch()
            time.sleep({pause})
"""


def interrupted(work: Path, function: str, pause: float, number: signal.Signals, patience: float) -> Any:
    """A calibration that got a signal in the middle: its exit code, stderr, and the folder before and after."""
    (work / "slow.py").write_text(SLOW.replace("{pause}", str(pause)))
    (work / "m.calibrated.onnx").write_bytes(b"an older one")
    before = contents(work)
    process = subprocess.Popen(
        [sys.executable, "-m", "onnxcal", "calibrate", "m.onnx", "--data", f"slow.py:{function}", "--force"],
        cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    try:
        for _ in range(3000):
            if (work / "started").exists() or process.poll() is not None:
                break
            time.sleep(0.01)
        assert process.poll() is None, "it ended before it was interrupted"
        process.send_signal(number)
        out, err = process.communicate(timeout=patience)
    finally:
        process.kill()
        process.wait()
    (work / "started").unlink()
    return process.returncode, out, err, before, contents(work)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("function", ["fit", "verify"])
def test_an_interrupted_run_exits_130_and_leaves_nothing(function: str, number: signal.Signals, work: Path) -> None:
    code, out, err, before, after = interrupted(work, function, 0.3, number, 30)
    assert (code, out) == (130, "")
    assert err.strip().startswith("onnxcal: error: interrupted")
    assert "Traceback" not in err
    assert after == before


def test_an_interruption_does_not_wait_for_a_loader_that_hangs(work: Path) -> None:
    """A dead network drive or a deadlocked worker is why people press Ctrl-C."""
    code, _, err, before, after = interrupted(work, "fit", 600, signal.SIGINT, 10)
    assert code == 130
    assert "interrupted" in err
    assert after == before
