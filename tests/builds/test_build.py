"""`onnxcal build` for real: processes, failures, interruptions, other file systems."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import onnxcal
from onnxcal.builds.results import BuildResult, TargetResult
from tests import builders
from tests.builds.conftest import TOML, contents, write_data, write_toml

ROOT = Path(__file__).resolve().parents[2]
SLOW = """
import os, pathlib, subprocess, time, signal
from tests import builders

def wait(mine, other):
    pathlib.Path(mine).touch()
    end = time.monotonic() + 30
    while not pathlib.Path(other).exists():
        assert time.monotonic() < end, "the other one never started"
        time.sleep(0.01)

def first():
    wait("first", "second")
    subprocess.run(["echo", "a tool that a loader runs"], check=True)
    yield builders.labelled_data(100)

def second():
    wait("second", "first")
    yield builders.labelled_data(100)

def killed():
    os.kill(os.getpid(), signal.SIGKILL)

def forever():
    wait("started", "never")
"""


def status(result: BuildResult) -> dict[str, str]:
    return {target.name: target.status for target in result.targets}


def test_first_build_no_op_and_rebuild_after_data_changed(project: Path, cli: Any, cache: Path) -> None:
    first = cli("build", "--depfile", "build.d")
    assert first.exit_code == 0, first.stderr
    assert "ü: made (there is no out put/ü.onnx)" in first.stderr
    assert "made" in first.stdout
    assert onnxcal.verify("größe 1.onnx", "out put/ü.onnx", "val data.npz").verification.passed
    rule = Path("build.d").read_text(encoding="utf-8").replace(" \\\n ", "").splitlines()[0]
    assert rule == r"out\ put/ü.onnx: größe\ 1.onnx val\ data.npz onnxcal.toml"
    before = contents(project)
    again = cli("build", "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout)["targets"][0]["status"] == "up to date"
    assert contents(project) == before
    assert cli("build", "--check").exit_code == 0

    write_data(Path("val data.npz"), seed=2)
    check = cli("build", "--check", "-q")
    assert check.exit_code == 1
    assert contents(project)["out put/ü.onnx"] == before["out put/ü.onnx"]
    assert cli("build").exit_code == 0
    assert contents(project)["out put/ü.onnx"] != before["out put/ü.onnx"]
    assert onnxcal.build(check=True).exit_code == 0


def test_one_failure_does_not_stop_the_others_and_the_worst_is_the_exit_code(project: Path, cli: Any) -> None:
    """Two at once; one waits for the other, so that neither could be made alone."""
    Path("slow.py").write_text(SLOW)
    for name in "cd":
        builders.save(builders.classifier([builders.softmax()], output="probs"), Path(f"{name}.onnx"))
    write_toml(
        TOML.replace("[targets", '[targets.c]\nmodel = "c.onnx"\ndata = "slow.py:first"\n'
        '[targets.d]\nmodel = "d.onnx"\ndata = "slow.py:second"\n'
        '[targets.dead]\nmodel = "c.onnx"\noutput = "dead.onnx"\ndata = "slow.py:killed"\n'
        '[targets.gone]\nmodel = "gone.onnx"\n[targets', 1)
        + "gates = {max-ece = 1e-9, min-accuracy = 1}\n"
    )  # fmt: skip
    result = cli("build", "-j", "2", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == document["exit_code"] == 2
    assert "onnxcal: error: 2 of 5 targets could not be made: dead, gone" in result.stderr
    found = {target["name"]: target for target in document["targets"]}
    assert {name: target["status"] for name, target in found.items()} == {
        "c": "made", "d": "made", "dead": "failed", "gone": "failed", "ü": "refused",
    }  # fmt: skip
    assert found["dead"]["error"] == f"the process that made it was ended by signal {signal.SIGKILL.value}"
    assert "No such file" in found["gone"]["error"]
    assert [gate["name"] for gate in found["ü"]["result"]["gates"]] == ["max-ece", "min-accuracy"]
    assert not Path("dead.onnx").exists()


def test_codes_of_a_build_are_2_over_1_over_0() -> None:
    made, refused, failed = (TargetResult(s, s, None, "o") for s in ("made", "refused", "failed"))  # type: ignore[arg-type]
    for targets, code in (((made,), 0), ((made, refused), 1), ((failed, refused, made), 2), ((), 0)):
        assert BuildResult("onnxcal.toml", targets).exit_code == code


def test_a_gate_that_says_no_leaves_the_old_output_and_builds_again_until_it_passes(project: Path) -> None:
    assert status(onnxcal.build()) == {"ü": "made"}
    old = Path("out put/ü.onnx").read_bytes()
    write_toml(TOML + "gates = {max-temperature-change = 0.01}\n")
    write_data(Path("val data.npz"), seed=5)
    (target,) = onnxcal.build().targets
    assert target.status == "refused"
    assert "more than --max-temperature-change 0.01; nothing was written" in str(target.error)
    assert Path("out put/ü.onnx").read_bytes() == old
    assert onnxcal.build(check=True).exit_code == 1
    assert sorted(os.listdir("out put")) == ["ü.onnx"]


def test_an_interrupted_build_leaves_nothing_and_nobody_behind(project: Path) -> None:
    Path("slow.py").write_text(SLOW)
    write_toml(TOML + 'data = "slow.py:forever"\n')
    before = set(contents(project))
    process = subprocess.Popen(
        [sys.executable, "-m", "onnxcal", "build"], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    end = time.monotonic() + 60
    while not Path("started").exists():
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.strip() == "onnxcal: error: interrupted; nothing half-written is left"
    assert set(contents(project)) - {"started"} - {n for n in contents(project) if "__pycache__" in n} == before
    mine = [pid for pid in os.listdir("/proc") if pid.isdigit() and _folder_of(pid) == project]
    assert mine == [str(os.getpid())], "a worker is still there"


def _folder_of(pid: str) -> Path | None:
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd"))
    except OSError:
        return None


def test_a_folder_that_cannot_be_written_is_said_and_the_others_are_made(project: Path) -> None:
    """A file in place of the folder, a file system that takes no files, and a folder without permission."""
    Path("file").touch()
    places = ["file/o.onnx", "/proc/o.onnx", "no such folder/o.onnx"]
    if os.geteuid() != 0:  # to root, permissions are no barrier
        Path("sealed").mkdir(mode=0o555)
        places.append("sealed/o.onnx")
    more = "".join(f'[targets.t{n}]\nmodel = "größe 1.onnx"\noutput = "{place}"\n' for n, place in enumerate(places))
    write_toml(TOML + more)
    result = onnxcal.build(jobs=2)
    assert status(result) == {"ü": "made"} | {f"t{n}": "failed" for n in range(len(places))}
    for target in result.targets[1:]:
        assert "cannot write" in str(target.error), target
    assert result.exit_code == 2


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no /dev/shm")
def test_the_output_may_lie_on_another_file_system(project: Path, tmp_path: Path) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        if os.stat(folder).st_dev == os.stat(project).st_dev:
            pytest.skip("/dev/shm is the same file system")
        write_toml(TOML.replace("out put/ü.onnx", f"{folder}/ü.onnx"))
        assert status(onnxcal.build()) == {"ü": "made"}
        assert os.listdir(folder) == ["ü.onnx"]
        assert onnxcal.build(check=True).exit_code == 0


def test_two_builds_in_two_folders_with_other_threads_give_the_same_bytes(
    demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A convolutional network, with threads for its runs and for the linear algebra of the fit."""
    made = []
    for number, zone in enumerate(("UTC", "Asia/Tokyo")):
        threads = str(number + 1)
        folder = tmp_path / f"folder {number}"
        folder.mkdir()
        (folder / "onnxcal.toml").write_text(
            f'[targets.t{number}]\nmodel = "{demo_data / "digits.onnx"}"\ndata = "{demo_data / "digits.npz"}"\n'
            f'output = "o{number}.onnx"\nthreads = {threads}\n'
        )
        for name, value in {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "TZ": zone}.items():
            monkeypatch.setenv(name, value)
        assert onnxcal.build(config=folder / "onnxcal.toml").exit_code == 0
        made.append((folder / f"o{number}.onnx").read_bytes())
    assert made[0] == made[1]


@pytest.mark.parametrize("batch_size", [7, 1000])
def test_a_calibration_is_the_same_at_any_batch_size_and_on_any_day(
    batch_size: int, demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for number, size in enumerate((64, batch_size)):
        out = tmp_path / f"{number}.onnx"
        onnxcal.calibrate(
            demo_data / "digits.onnx", demo_data / "digits.npz",
            output=out, batch_size=size, threads=number + 1, bootstrap=0,
        )  # fmt: skip
        made.append(out.read_bytes())
        monkeypatch.setattr(time, "time", lambda now=time.time: now() + 1e7)
    assert made[0] == made[1]
