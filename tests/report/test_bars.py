"""The reliability diagram in text: bars, marks and counts where the bins say, and never wider than the terminal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxcal.metrics import ReliabilityBins, reliability_bins
from onnxcal.report.bars import ASCII_BARS, BarGlyphs, bar_glyphs_for, reliability_lines


def bins(confidence, correct) -> ReliabilityBins:
    return reliability_bins(np.array(confidence, float), np.array(correct, bool))


def row(lines: list[str], label: str) -> str:
    return next(line for line in lines if line.startswith(label))


def test_a_bar_is_as_long_as_the_accuracy_and_the_mark_is_at_the_confidence():
    some = bins([0.95] * 4, [True, True, False, False])
    line = row(reliability_lines([("", some)], 80, ASCII_BARS), "0.93-1.00")
    bar = line[13:54]
    assert bar.count("#") == 20  # half of 40
    assert bar.index("|") == 38  # .95 of 40
    assert line.endswith("4")


def test_an_empty_bin_is_no_perfect_one():
    line = row(reliability_lines([("", bins([0.95], [True]))], 80), "0.00-0.07")
    assert "·" in line
    assert "█" not in line
    assert line.endswith(" 0")


def test_a_part_of_a_cell_is_drawn_by_a_part():
    lines = reliability_lines([("", bins([0.5] * 80, [True] * 41 + [False] * 39))], 80)
    assert row(lines, "0.47-0.53")[13:].startswith("█" * 20)
    assert row(lines, "0.47-0.53")[33] == "│"  # the mark goes before what is left of the bar


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40),
    st.integers(60, 200),
    st.sampled_from([ASCII_BARS, BarGlyphs()]),
)
def test_no_line_is_wider_than_the_terminal(predictions, width, glyphs):
    some = bins(*zip(*predictions, strict=True))
    lines = reliability_lines([("before", some), ("after", some)], width, glyphs)
    assert len(lines) == 17
    assert all(len(line) <= max(width, 78) for line in lines)


@pytest.mark.parametrize(
    ("encoding", "glyphs"), [("utf-8", BarGlyphs()), ("ascii", ASCII_BARS), ("no such", ASCII_BARS)]
)
def test_blocks_are_drawn_where_the_encoding_has_them(encoding, glyphs):
    assert bar_glyphs_for(encoding) == glyphs


@pytest.mark.parametrize("command", ["fit", "evaluate", "calibrate"])
def test_plot_draws_it(cli, tmp_path, command, demo_data):
    model, data, logits = demo_data / "digits.onnx", demo_data / "digits.npz", tmp_path / "l.npz"
    cli("logits", model, "--data", data, "-o", logits)
    arguments = {"fit": [logits], "evaluate": [model, "--data", data]}
    arguments["calibrate"] = [model, "--data", data, "-o", tmp_path / "o.onnx"]
    done = cli(command, *arguments[command], "--plot")
    assert done.exit_code == 0
    assert "0.93-1.00" in done.stdout
    assert "mean confidence; the gap" in done.stdout
