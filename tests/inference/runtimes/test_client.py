"""The process of a runtime: whatever happens in it, what is heard of it is one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxcal.inference.runtimes.client import RuntimeFailed, RuntimeProcess
from onnxcal.inference.runtimes.runtime import Job
from tests import builders
from tests.inference.runtimes import faulty

X = builders.labelled_data(8)[0]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return builders.save(builders.classifier([builders.softmax()], output="probs"), tmp_path / "m.onnx")


def job(model: Path, fault: str) -> Job:
    return Job(model, {"x": X.shape}, ("probs",), fault)


def reason(process: RuntimeProcess, what: Job) -> str:
    try:
        process.load("bad", what)
        process._timeout = 2  # only what comes now is to be quick
        process.run("bad", {"x": X})
    except RuntimeFailed as error:
        return str(error)
    return "it ran"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("crashes", "it crashed: SIGSEGV"),
        ("ends", "it crashed: exit code 3"),
        ("hangs", "it did not run within 2 s (--runtime-timeout)"),
        ("refuses", "this operator is not known"),
    ],
)
def test_a_fault_is_one_sentence_and_the_next_model_runs(fault: str, said: str, model: Path, tmp_path: Path) -> None:
    with RuntimeProcess(faulty.RUNTIME, tmp_path, 60) as process:
        assert reason(process, job(model, fault)) == said
        process._timeout = 60
        process.load("good", job(model, "right"))
        (probs,) = process.run("good", {"x": X})
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-6)


def test_what_a_runtime_prints_does_not_come_between(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with RuntimeProcess(faulty.RUNTIME, tmp_path, 60) as process:
        process.load("m", job(model, "prints"))
        (probs,) = process.run("m", {"x": X})
    assert probs.shape == (8, 4)
    assert capfd.readouterr().out == ""


def test_no_process_is_left_behind(model: Path, tmp_path: Path) -> None:
    with RuntimeProcess(faulty.RUNTIME, tmp_path, 60) as process:
        process.load("m", job(model, "right"))
        child = process._process
        assert child is not None
    assert child.poll() is not None
