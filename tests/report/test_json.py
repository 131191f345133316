"""Results as JSON: plain data, no NaN, the schema first."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

import onnxcal
from onnxcal.report.calibration import write_calibration
from onnxcal.report.json import as_document, as_text


@dataclass(frozen=True)
class Inner:
    value: float
    hidden: object = field(default=None, metadata={"json": False})


@dataclass(frozen=True)
class Outer:
    inner: Inner
    several: tuple[Inner, ...]
    named: dict[str, object]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.5, 1.5), (math.nan, None), (math.inf, None), (-math.inf, None), (np.float32(0.5), 0.5), (np.int64(3), 3),
        (np.float64("nan"), None), (np.bool_(True), True), (None, None), ("β ±", "β ±"), (True, True),
    ],
)  # fmt: skip
def test_values_are_what_json_has(value: object, shown: object) -> None:
    outer = Outer(Inner(value, hidden=object()), (Inner(value),), {"key": value})  # type: ignore[arg-type]
    document = as_document(outer)
    assert list(document) == ["schema", "inner", "several", "named"]
    assert document == {
        "schema": "onnxcal/1",
        "inner": {"value": shown},
        "several": [{"value": shown}],
        "named": {"key": shown},
    }
    assert json.loads(as_text(document)) == document
    assert "\n" not in as_text(document)


def fitted() -> onnxcal.Calibration:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 4))
    return onnxcal.fit(3 * z, (z + rng.gumbel(size=z.shape)).argmax(axis=1))


def test_a_calibration_comes_back_as_it_was_written(tmp_path: Path) -> None:
    calibration = fitted()
    write_calibration(calibration, tmp_path / "cal.json")
    loaded = onnxcal.Calibration.load(tmp_path / "cal.json")
    assert loaded.as_json() == calibration.as_json()
    document = json.loads((tmp_path / "cal.json").read_text(encoding="utf-8"))
    assert list(document) == ["schema", "calibration", "metrics", "warnings"]


def test_the_same_calibration_is_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_calibration(fitted(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_calibration_is_not_overwritten_without_force(tmp_path: Path) -> None:
    (tmp_path / "cal.json").write_text("mine")
    with pytest.raises(onnxcal.UsageError, match="exists"):
        write_calibration(fitted(), tmp_path / "cal.json")
    assert (tmp_path / "cal.json").read_text() == "mine"
    write_calibration(fitted(), tmp_path / "cal.json", force=True)
    assert list(tmp_path.iterdir()) == [tmp_path / "cal.json"]
