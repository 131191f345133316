"""The example with tabular classifiers, with few trees."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.examples.test_quantized import example


def test_calibrating_lowers_the_nll_on_the_test_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["tabular.py", "--trees", "5", "--picture", str(tmp_path / "picture.svg")]
    monkeypatch.setattr(sys, "argv", words)
    rows = {row.name: row for row in example("tabular").main()}
    for row in rows.values():
        assert row.nll[1] < row.nll[0]
        assert row.ece[1] < row.ece[0]
    assert rows["logistic regression"].temperature == pytest.approx(
        rows["logistic regression"].of_scikit_learn, rel=1e-3
    )
    assert rows["naive Bayes"].temperature > 5
    assert b"<svg" in (tmp_path / "picture.svg").read_bytes()
