"""OUT appears whole or not at all, whatever goes wrong on the way."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxcal
from onnxcal.errors import ModelError, OnnxcalError, UsageError, VerificationError
from onnxcal.graph.modelfile import open_model
from onnxcal.graph.write import Draft
from onnxcal.verification.head import TOLERANCE
from tests.builders import classifier, save, softmax
from tests.graph.test_external import external, tree


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    return save(classifier([softmax()], output="probs"), tmp_path / "a" / "m.onnx")


STEPS = [
    (os, "fsync"),
    (os, "replace"),
    (os, "chmod"),
    (tempfile, "mkstemp"),
    (tempfile, "mkdtemp"),
    (shutil, "copyfile"),
]
FAILURES = {
    "disk full": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "interrupted": KeyboardInterrupt,
}


def fail(monkeypatch, module, name: str, at: int, failure: Callable[[], BaseException]) -> list[int]:
    """Let the call number `at` of a function fail; returns a list that is not empty once it has."""
    original, calls, failed = getattr(module, name), [0], []

    def wrapper(*args, **kwargs):
        calls[0] += 1
        if calls[0] == at:
            failed.append(at)
            raise failure()
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, wrapper)
    return failed


@pytest.mark.parametrize("older", [None, b"an older output"], ids=["no OUT yet", "an older OUT"])
@pytest.mark.parametrize("data", ["inline", "external"])
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[1])
def test_a_failure_leaves_everything_as_it_was(step, at, failure, data, older, tmp_path: Path, monkeypatch) -> None:
    """Or the whole output: what fails after it appeared cannot take it back."""
    source = tmp_path / "a" / "m.onnx"
    if data == "external":
        external(tmp_path / "a")
    else:
        (tmp_path / "a").mkdir()
        save(classifier([softmax()], output="probs"), source)
    out = tmp_path / "b" / "out.onnx"
    out.parent.mkdir()
    if older is not None:
        out.write_bytes(older)
    before = tree(tmp_path)
    with monkeypatch.context() as patched:
        failed = fail(patched, *step, at, FAILURES[failure])
        try:
            onnxcal.patch(source, temperature=2, output=out, force=True)
        except (OnnxcalError, KeyboardInterrupt):
            assert failed
    after = tree(tmp_path)
    if out.exists() and after.get("b/out.onnx") != older:
        assert set(after) == set(before) | {"b/out.onnx"} | ({"b/m.data"} if data == "external" else set())
        assert onnxcal.inspect(out).calibration.temperature == 2
    else:
        assert after == before
    assert list(tmp_path.rglob(".*")) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
@pytest.mark.parametrize("limit", [0, 100, 70_000])
def test_a_file_that_does_not_fit_leaves_nothing(limit: int, tmp_path: Path) -> None:
    """The operating system itself refuses to write more."""
    pytest.importorskip("resource")
    save(classifier([softmax()], output="probs", features=6000), tmp_path / "m.onnx")
    script = (
        "import resource, signal, sys\n"
        "from onnxcal.cli import main\n"
        "import onnxcal.cli.patch, onnxcal.pipeline\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "sys.argv = ['onnxcal', 'patch', 'm.onnx', '--temperature', '2']\n"
        "main()\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(onnxcal.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("onnxcal: error: cannot write")
    assert "internal error" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx"]


def test_an_output_that_fails_verification_is_not_written(model: Path, monkeypatch) -> None:
    monkeypatch.setitem(TOLERANCE, "float32", -1.0)
    with pytest.raises(VerificationError):
        onnxcal.patch(model, temperature=2, data=np.zeros((3, 6), np.float32))
    assert [path.name for path in model.parent.iterdir()] == ["m.onnx"]


def test_an_output_that_exists_is_not_replaced_without_force(model: Path) -> None:
    out = model.parent / "m.calibrated.onnx"
    out.write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists"):
        onnxcal.patch(model, temperature=2)
    assert out.read_bytes() == b"mine"
    onnxcal.patch(model, temperature=2, force=True)
    assert onnxcal.inspect(out).calibration.temperature == 2


@pytest.mark.parametrize("link", [os.symlink, os.link, None], ids=["symlink", "hard link", "the same path"])
def test_the_model_itself_is_not_written_to_by_another_name(model: Path, link) -> None:
    before = model.read_bytes()
    out = model.parent / "other.onnx" if link else model.parent / "." / "m.onnx"
    if link:
        link(model, out)
    with pytest.raises(UsageError):
        onnxcal.patch(model, temperature=2, output=out, force=True)
    assert model.read_bytes() == before


def test_in_place_writes_to_the_model_and_revert_takes_it_back(model: Path) -> None:
    before = model.read_bytes()
    onnxcal.patch(model, temperature=2, in_place=True)
    assert onnxcal.inspect(model).calibration.temperature == 2
    onnxcal.patch(model, temperature=3, in_place=True)
    assert onnxcal.inspect(model).calibration.temperature == 3
    onnxcal.revert(model, output=model, force=True)
    assert model.read_bytes() == before
    assert [path.name for path in model.parent.iterdir()] == ["m.onnx"]


def test_a_symbolic_link_stays_one(model: Path) -> None:
    real = model.parent / "real.onnx"
    link = model.parent / "link.onnx"
    real.write_bytes(b"older")
    link.symlink_to(real.name)
    onnxcal.patch(model, temperature=2, output=link, force=True)
    assert link.is_symlink()
    assert onnxcal.inspect(real).calibration.temperature == 2


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX")
def test_a_new_file_has_the_permissions_that_files_get_here(model: Path) -> None:
    old = os.umask(0o027)
    try:
        onnxcal.patch(model, temperature=2)
    finally:
        os.umask(old)
    out = model.parent / "m.calibrated.onnx"
    assert stat.S_IMODE(out.stat().st_mode) == 0o640
    out.chmod(0o604)
    onnxcal.patch(model, temperature=3, force=True)
    assert stat.S_IMODE(out.stat().st_mode) == 0o604


@pytest.mark.parametrize("name", ["no/such/folder/out.onnx", "folder", "m.onnx/out.onnx"])
def test_targets_that_cannot_be_written_are_refused(name: str, model: Path) -> None:
    (model.parent / "folder").mkdir()
    with pytest.raises(UsageError) as caught:
        onnxcal.patch(model, temperature=2, output=model.parent / name, force=True)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["ü" * 120 + ".onnx", "模" * 83 + ".onnx", "a" * 250 + ".onnx", "😀" * 62 + ".onnx"])
def test_any_name_that_the_file_system_takes_will_do(name: str, model: Path) -> None:
    out = model.parent / name
    try:
        out.write_bytes(b"")
    except OSError:
        pytest.skip("this file system does not take such names")
    out.unlink()
    onnxcal.patch(model, temperature=2, output=out)
    assert onnxcal.inspect(out).calibration.temperature == 2


def test_a_patch_that_would_make_the_file_too_large_is_refused(model: Path, monkeypatch) -> None:
    size = model.stat().st_size
    monkeypatch.setattr("onnxcal.graph.patch.ONNXRUNTIME_LARGEST", size + 100)
    with pytest.raises(ModelError, match="at most") as caught:
        onnxcal.patch(model, temperature=2)
    assert caught.value.hint
    assert [path.name for path in model.parent.iterdir()] == ["m.onnx"]


def test_a_patch_may_fill_the_limit_exactly(model: Path, monkeypatch) -> None:
    onnxcal.patch(model, temperature=2)
    out = model.parent / "m.calibrated.onnx"
    size = out.stat().st_size
    monkeypatch.setattr("onnxcal.graph.patch.ONNXRUNTIME_LARGEST", size)
    onnxcal.patch(model, temperature=2, force=True)
    monkeypatch.setattr("onnxcal.graph.patch.ONNXRUNTIME_LARGEST", size - 1)
    with pytest.raises(ModelError, match="at most"):
        onnxcal.patch(model, temperature=2, force=True)


def test_digests_are_those_of_the_files(model: Path) -> None:
    import hashlib

    result = onnxcal.patch(model, temperature=2)
    out = model.parent / "m.calibrated.onnx"
    assert result.model.sha256 == hashlib.sha256(model.read_bytes()).hexdigest()
    assert result.output.sha256 == hashlib.sha256(out.read_bytes()).hexdigest()
    reverted = onnxcal.revert(out, output=model.parent / "back.onnx")
    assert reverted.output.sha256 == result.model.sha256


def test_a_file_of_many_blocks_is_copied_whole(tmp_path: Path, monkeypatch) -> None:
    path = save(classifier([softmax()], output="probs", features=50_000, scale=0.01), tmp_path / "m.onnx")
    onnxcal.patch(path, temperature=2, output=tmp_path / "one.onnx")
    expected = (tmp_path / "one.onnx").read_bytes()
    monkeypatch.setattr("onnxcal.graph.mapped._READ_BYTES", 1000)
    monkeypatch.setattr("onnxcal.graph.write._WRITE_BACK_SECONDS", 1e-4)
    onnxcal.patch(path, temperature=2, output=tmp_path / "many.onnx")
    assert (tmp_path / "many.onnx").read_bytes() == expected
    monkeypatch.delattr(os, "preadv")
    onnxcal.patch(path, temperature=2, output=tmp_path / "none.onnx")
    assert (tmp_path / "none.onnx").read_bytes() == expected
    assert onnx.ModelProto.FromString(expected).graph.node[0].op_type == "Gemm"


def test_a_disk_that_fails_while_writing_back_is_reported(model: Path, monkeypatch) -> None:
    """The kernel tells of a lost write once; the fsync that follows knows nothing of it."""
    failed = threading.Event()

    def lost(descriptor: int) -> None:
        failed.set()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("onnxcal.graph.write._WRITE_BACK_SECONDS", 1e-4)
    monkeypatch.setattr(os, "fdatasync", lost)
    draft = Draft(model.parent / "out.onnx", open_model(model))
    with draft, pytest.raises(UsageError, match="Input/output error"), draft.writing_back():
        assert failed.wait(30)
    assert [path.name for path in model.parent.iterdir()] == ["m.onnx"]
