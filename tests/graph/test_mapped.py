"""The bytes of a model and their digest."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from onnxcal.errors import ModelError
from onnxcal.graph import mapped
from onnxcal.graph.mapped import ModelBytes, map_file

DATA = bytes(range(256)) * 41


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "m.onnx").write_bytes(DATA)
    return tmp_path / "m.onnx"


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 10), (5, 5), (3, len(DATA)), (0, len(DATA)), (998, 5002)])
@pytest.mark.parametrize("block", [1, 1000, 1 << 21])
def test_read_gives_the_bytes_of_a_range(path: Path, start: int, stop: int, block: int, monkeypatch) -> None:
    monkeypatch.setattr(mapped, "_READ_BYTES", block)
    for data in (map_file(path), ModelBytes("it", DATA)):
        assert b"".join(bytes(piece) for piece in data.read(start, stop)) == DATA[start:stop]


@pytest.mark.parametrize("pages", [1, 2, 100])
def test_digest_is_that_of_all_bytes(path: Path, pages: int, monkeypatch) -> None:
    monkeypatch.setattr(mapped, "_MAP_BYTES", pages * 4096)
    for data in (map_file(path), ModelBytes("it", DATA)):
        data.start_digest()
        assert data.sha256 == hashlib.sha256(DATA).hexdigest()


def test_bytes_are_those_that_were_opened(path: Path) -> None:
    data = map_file(path)
    (path.parent / "other").write_bytes(b"x" * len(DATA))
    os.replace(path.parent / "other", path)
    assert b"".join(bytes(piece) for piece in data.read(0, len(DATA))) == DATA
    assert data.sha256 == hashlib.sha256(DATA).hexdigest()


def test_a_kernel_that_reads_less_than_asked_is_asked_again(path: Path, monkeypatch) -> None:
    original = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, buffers, offset: original(file, [buffers[0][:7]], offset))
    assert b"".join(bytes(piece) for piece in map_file(path).read(0, len(DATA))) == DATA


def test_a_file_that_shrinks_or_fails_is_reported(path: Path, monkeypatch) -> None:
    data = map_file(path)
    with open(path, "r+b") as file:
        file.truncate(100)
    with pytest.raises(ModelError, match="became shorter") as caught:
        list(data.read(0, len(DATA)))
    assert caught.value.hint

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(ModelError, match="Input/output error") as caught:
        list(data.read(0, 10))
    assert caught.value.hint


def test_descriptors_are_given_back(path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else pytest.skip("needs /proc")
    for _ in range(50):
        map_file(path)
    assert len(os.listdir("/proc/self/fd")) <= before + 2
