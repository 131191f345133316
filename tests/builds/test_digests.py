"""Digests of files, and when they are read again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from onnxcal.builds import digests
from onnxcal.builds.digests import DigestCache
from onnxcal.errors import DataError


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read whole."""
    seen: list[Path] = []

    def digest(path: Path) -> str:
        seen.append(path)
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()

    monkeypatch.setattr(digests, "file_digest", digest)
    monkeypatch.setattr(digests, "SETTLED_SECONDS", -1.0)
    return seen


def looked_up(path: Path, cache: Path) -> str:
    """As by a process of its own."""
    found = DigestCache(cache)
    digest = found.sha256(path)
    found.save()
    return digest


def test_a_file_that_nobody_touched_is_read_once(tmp_path: Path, reads: list[Path]) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"one")
    for _ in range(3):
        assert looked_up(file, tmp_path / "cache" / "digests.json") == hashlib.sha256(b"one").hexdigest()
    assert reads == [file]


def test_another_content_of_the_same_size_and_time_has_another_digest(tmp_path: Path, reads: list[Path]) -> None:
    file, cache = tmp_path / "f", tmp_path / "digests.json"
    file.write_bytes(b"one")
    stat = os.stat(file)
    looked_up(file, cache)
    file.write_bytes(b"two")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert looked_up(file, cache) == hashlib.sha256(b"two").hexdigest()


def test_what_was_written_a_moment_ago_is_not_remembered(tmp_path: Path, reads: list[Path]) -> None:
    """It may be written again within what the file system's clock can tell."""
    digests.SETTLED_SECONDS = 2.0
    file, cache = tmp_path / "f", tmp_path / "digests.json"
    file.write_bytes(b"one")
    looked_up(file, cache)
    assert not cache.exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"1 2 3 4 5": 6}', b"\xff"])
def test_a_cache_that_cannot_be_read_costs_time_only(content: bytes, tmp_path: Path, reads: list[Path]) -> None:
    file, cache = tmp_path / "f", tmp_path / "digests.json"
    file.write_bytes(b"one")
    cache.write_bytes(content)
    assert looked_up(file, cache) == hashlib.sha256(b"one").hexdigest()


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path, reads: list[Path]) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"one")
    for _ in range(2):
        assert looked_up(file, file / "digests.json") == hashlib.sha256(b"one").hexdigest()
    assert len(reads) == 2


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*nope"):
        DigestCache(tmp_path / "digests.json").sha256(tmp_path / "nope")
