"""The summary of a calibration, and the card of a calibrated file, as Markdown renders them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnxcal
from onnxcal.errors import ModelError, UsageError
from onnxcal.report.markdown import card_of
from onnxcal.report.terminal import verdict
from tests import builders

HOSTILE = "a|b`c<script>alert(1)</script>\n# @everyone [x](http://evil) &amp; _*~$\x1b[2J\u202e"
X, Y = builders.labelled_data(200)


def model(output: str = "probs") -> onnx.ModelProto:
    return builders.classifier([builders.softmax(target=output)], output=output)


def tables(text: str) -> list[list[list[str]]]:
    """Every table as rows of cells, read as GitHub reads it: a line of cells, a line of dashes, lines of cells."""
    found: list[list[list[str]]] = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines()]
        assert all(re.fullmatch("-{3}:?", cell) for cell in rows[1])
        assert {len(row) for row in rows} == {len(rows[0])}
        found.append([rows[0], *rows[2:]])
    return found


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("summary")
    source = builders.save(model(), folder / "m.onnx")
    result = onnxcal.calibrate(source, (X, Y), output=folder / "c.onnx", summary=folder / "s.md", bootstrap=50)
    return result, folder


def test_the_summary_has_the_figures_of_the_result(calibrated: tuple[Any, Path]) -> None:
    result, folder = calibrated
    scores, fit, file = tables((folder / "s.md").read_text(encoding="utf-8"))
    assert scores[0] == ["held-out half, 100 samples", "before", "after", "change (95 %)"]
    by_name = {row[0]: row[1:] for row in scores[1:]}
    before, after, sure = result.metrics.before, result.metrics.after, result.metrics.intervals
    assert by_name["accuracy"][:2] == [f"{100 * before.accuracy:.2f} %", f"{100 * after.accuracy:.2f} %"]
    low, high = sure.after.nll
    assert by_name["NLL, nats"][1] == f"{after.nll:.4f} ({low:.4f} to {high:.4f})"
    low, high = sure.difference.ece
    assert by_name["ECE, 15 bins"][2] == f"{low:+.4f} to {high:+.4f}"
    low, high = result.calibration.interval
    assert fit[1][1].startswith(f"{result.calibration.temperature:.5g}, 95 % interval {low:.4g} to {high:.4g}")
    rows = dict(map(tuple, file[1:]))
    assert rows["verified"].startswith("yes: onnxruntime")
    assert (rows["calibrated model"], rows["made from"]) == (
        f"SHA-256 `{result.output.sha256}`", f"SHA-256 `{result.model.sha256}`"
    )  # fmt: skip
    assert rows["made by"] == f"onnxcal `{onnxcal.__version__}`"


def test_the_card_is_the_summary_but_for_what_running_showed(calibrated: tuple[Any, Path], cli: Any) -> None:
    _, folder = calibrated
    card = cli("inspect", folder / "c.onnx", "--card")
    assert (card.exit_code, card.stderr) == (0, "")
    ours, theirs = (text.splitlines() for text in (card.stdout, (folder / "s.md").read_text(encoding="utf-8")))
    differing = [line for line in ours if line not in theirs]
    assert differing == ["| verified | the file does not say; `onnxcal verify` runs it |"]


def test_a_temperature_that_was_given_has_no_scores() -> None:
    patched = onnxcal.patch(model(), temperature=2.0).proto
    assert patched is not None
    text = card_of(onnxcal.inspect(patched))
    assert "T was given, not measured" in text
    assert [table[0][0] for table in tables(text)] == ["temperature", "file"]


def test_a_file_of_a_version_that_kept_no_scores_is_readable() -> None:
    patched = onnxcal.calibrate(model(), (X, Y), bootstrap=0).proto
    assert patched is not None
    (entry,) = (prop for prop in patched.metadata_props if prop.key == "onnxcal.calibration")
    document = json.loads(entry.value)
    del document["heads"][0]["calibration"]["metrics"]
    entry.value = json.dumps(document)
    inspection = onnxcal.inspect(patched)
    assert inspection.metrics == (None,)
    assert f"{inspection.calibration.temperature:.5g}" in card_of(inspection)  # type: ignore[union-attr]


def test_scores_that_cannot_be_read_are_an_error() -> None:
    patched = onnxcal.calibrate(model(), (X, Y), bootstrap=0).proto
    assert patched is not None
    (entry,) = (prop for prop in patched.metadata_props if prop.key == "onnxcal.calibration")
    document = json.loads(entry.value)
    document["heads"][0]["calibration"]["metrics"]["after"] = "good"
    entry.value = json.dumps(document)
    with pytest.raises(ModelError, match=r"onnxcal\.calibration"):
        onnxcal.inspect(patched)


def test_scores_of_other_heads_stay_when_one_is_calibrated_again() -> None:
    sigmoid = onnx.helper.make_node("Sigmoid", ["x"], ["marks"])
    marks = onnx.helper.make_tensor_value_info("marks", onnx.TensorProto.FLOAT, ["N", 6])
    two = builders.classifier([builders.softmax(), sigmoid], output="probs", more_outputs=[marks])
    labels = {"probs": Y, "marks": np.random.default_rng(0).integers(0, 2, (200, 6))}
    calibrated = onnxcal.calibrate(two, X, labels=labels, head=["probs", "marks"], bootstrap=0, prior=1).proto
    assert calibrated is not None
    again = onnxcal.patch(calibrated, temperature=2.0, head="marks").proto
    assert again is not None
    before, after = (
        dict(zip((c.output for c in found.calibrations), found.metrics, strict=True))
        for found in map(onnxcal.inspect, (calibrated, again))
    )
    assert before["probs"] is not None
    assert (after["probs"], after["marks"]) == (before["probs"], None)


def test_names_are_no_markup(tmp_path: Path) -> None:
    source = builders.save(model(HOSTILE), tmp_path / "m|<b>`.onnx")
    out, summary = tmp_path / "c|<i>`@all.onnx", tmp_path / "s.md"
    onnxcal.calibrate(source, (X, Y), output=out, summary=summary, bootstrap=50)
    for text in (summary.read_text(encoding="utf-8"), card_of(onnxcal.inspect(out))):
        assert len(tables(text)) == 3
        assert not re.search(r"<(?!/?code>)", text)
        outside = re.sub(r"<code>.*?</code>|`[^`]*`", "", text)
        assert not re.search(r"[@\x1b\u202e]|http|script", outside)
        inside = " ".join(re.findall(r"<code>(.*?)</code>", text))
        assert not re.search(r"[`|\[\]*_<>@\x1b\u202e]", inside)


def test_the_summary_is_never_written_over_another_file(tmp_path: Path) -> None:
    summary = tmp_path / "s.md"
    summary.write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        onnxcal.calibrate(model(), (X, Y), summary=summary)
    assert summary.read_text() == "mine"
    onnxcal.calibrate(model(), (X, Y), summary=summary, force=True, bootstrap=0)
    assert summary.read_text(encoding="utf-8").startswith("### `the model`")


def test_the_same_calibration_has_the_same_summary(calibrated: tuple[Any, Path], tmp_path: Path) -> None:
    _, folder = calibrated
    onnxcal.calibrate(folder / "m.onnx", (X, Y), output=tmp_path / "c.onnx", summary=tmp_path / "s.md", bootstrap=50)
    assert (tmp_path / "s.md").read_bytes() == (folder / "s.md").read_bytes()
    assert (tmp_path / "c.onnx").read_bytes() == (folder / "c.onnx").read_bytes()


def test_other_runtimes_have_a_row_each_and_the_verdict_says_on_how_many_samples(tmp_path: Path) -> None:
    result = onnxcal.calibrate(
        model(), (X, Y), runtime="onnx-reference", runtime_samples=64, summary=tmp_path / "s.md", bootstrap=0
    )
    entry = result.verification.runtimes[1]
    rows = dict(map(tuple, tables((tmp_path / "s.md").read_text(encoding="utf-8"))[-1][1:]))
    said = rows[f"in `onnx-reference {onnx.__version__}`"]
    assert said.startswith(f"PASSED: 64 samples, largest error {entry.max_abs_error:.2g} (limit 0.0001), 0 predictions")
    assert verdict(result.verification).endswith("; right in onnx-reference (64 samples)")
