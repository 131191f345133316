"""The example that quantises and then calibrates, on half of its images."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def example(name: str) -> ModuleType:
    """The script of an example, as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / name / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_calibrating_what_was_quantised_lowers_its_nll_on_held_out_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["quantized.py", "--small", "--picture", str(tmp_path / "picture.svg")])
    rows = example("quantized").main()
    assert rows[0].name == "float32"
    for row in rows:
        as_it_is, borrowed, own = row.nll
        assert own < 0.7 * as_it_is
        assert abs(borrowed - own) < 0.02
        assert row.ece[2] < row.ece[0]
        assert 2.5 < row.temperature < 4.5
    assert all(row.size < rows[0].size / 2 for row in rows[1:])
    assert b"<svg" in (tmp_path / "picture.svg").read_bytes()
