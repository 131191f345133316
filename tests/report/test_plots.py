"""Plots: whole, legible, inert whatever names are, and the same bytes on any day."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

import onnxcal
from onnxcal import UsageError, plots
from onnxcal.metrics.subject import Subject
from onnxcal.report.plots import find_plot, write_figure
from onnxcal.report.plots.canvas import drawing
from onnxcal.report.plots.caption import caption
from onnxcal.report.plots.kinds import KINDS, STYLES
from onnxcal.report.plots.style import DARK, LIGHT, MARKERS, Palette, palette_of
from onnxcal.report.plots.text import count_text, shown_name
from tests.metrics.test_plot_data import multiclass, subject
from tests.reference.refusals import refused

HOSTILE = (
    r"$\frac{1}{0}$", "a_b^c", "<script>alert(1)</script>", "\x1b[31mred\x07\x00\n", "\u202eabc\u202d", "W" * 10_000,
    "i" * 10_000, "שלום\u200f", "猫", r"\input{x} %#&~", "", "$", "</svg>",
)  # fmt: skip
HOSTILE_SUBJECTS = {
    "many classes": Subject(subject(2.5).sample, 2.5, resamples=50, classes=HOSTILE[:8], output=HOSTILE[5]),
    "other names": Subject(subject(2.5).sample, 2.5, resamples=50, classes=HOSTILE[5:], output=HOSTILE[0]),
}
SUBJECTS = {
    **HOSTILE_SUBJECTS,
    "fitted": plots.subject(*multiclass(), bootstrap=50),
    "binary": Subject(subject(2.5, task="binary").sample, 2.5, resamples=50),
    "multilabel": Subject(subject(2.5, task="multilabel").sample, 2.5, resamples=50, output="tags"),
    "weighted": Subject(subject(0.4, weighted=True).sample, 0.4, resamples=50),
    "one sample": plots.subject([[1.0, 2.0, 0.0]], [1], 1.0, bootstrap=50),
    "all right": plots.subject(multiclass(40)[0], multiclass(40)[0].argmax(axis=1), 0.01, bootstrap=50),
    "all wrong": plots.subject(multiclass(40)[0], multiclass(40)[0].argmin(axis=1), 400.0, bootstrap=0),
    "many samples": plots.subject(*multiclass(30_000, 3), 2.4, bootstrap=20),
}


@pytest.fixture(autouse=True)
def no_figure_is_left() -> Iterator[None]:
    yield
    plt.close("all")


def texts(figure: Figure) -> list[Text]:
    return [t for t in figure.findobj(Text) if isinstance(t, Text) and t.get_visible() and t.get_text().strip()]


def saved(figure: Figure, suffix: str) -> bytes:
    file = io.BytesIO()
    write_figure(figure, file, suffix)
    return file.getvalue()


def all_axes(figure: Figure) -> list[Axes]:
    return list(figure.axes)


# Whole and legible


@pytest.mark.parametrize("name", SUBJECTS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_text_is_cut_off_or_lies_over_another(kind: str, name: str) -> None:
    figure = plots.figure(kind, SUBJECTS[name])
    with drawing("light"):
        figure.draw_without_rendering()
    frame = figure.bbox
    undrawn = undrawn_ticks(figure)
    drawn = [t for t in texts(figure) if t not in undrawn]
    boxes = [(t.get_text(), t.get_window_extent()) for t in drawn]
    for text, box in boxes:
        inside = box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 and box.y1 <= frame.y1
        assert inside, f"{text!r} is cut off: {box} in {frame}"
    for number, (text, box) in enumerate(boxes):
        for other, there in boxes[number + 1 :]:
            across = min(box.x1, there.x1) - max(box.x0, there.x0)
            down = min(box.y1, there.y1) - max(box.y0, there.y0)
            assert across < 1.5 or down < 1.5, f"{text!r} lies over {other!r}"


def undrawn_ticks(figure: Figure) -> set[Text]:
    """Labels of ticks beyond the limits of their axes, which matplotlib keeps but does not draw."""
    found = set()
    for ax in figure.axes:
        for axis, limits in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            slack = 1e-9 * abs(limits[1] - limits[0])
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not min(limits) - slack <= tick.get_loc() <= max(limits) + slack:
                    found |= {tick.label1, tick.label2}
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_axes_have_labels_and_there_is_a_legend(kind: str) -> None:
    figure = plots.figure(kind, SUBJECTS["fitted"])
    axes = all_axes(figure)
    labels = {ax.get_xlabel() for ax in axes} | {ax.get_ylabel() for ax in axes}
    assert any(words in label for label in labels for words in ("confidence", "temperature", "coverage"))
    assert any(ax.get_ylabel() for ax in axes)
    legends = [*figure.legends, *(ax.get_legend() for ax in axes if ax.get_legend())]
    assert legends
    assert all(text.get_text() for legend in legends for text in legend.get_texts())


@pytest.mark.parametrize("kind", KINDS)
def test_no_letter_is_smaller_than_seven_points(kind: str) -> None:
    assert min(text.get_fontsize() for text in texts(plots.figure(kind, SUBJECTS["fitted"]))) >= 7


def test_reliability_says_what_was_measured() -> None:
    what = SUBJECTS["fitted"]
    said = "\n".join(text.get_text() for text in texts(plots.figure("reliability", what)))
    metrics = what.metrics
    assert metrics.intervals is not None
    for scores, sure in ((metrics.before, metrics.intervals.before), (metrics.after, metrics.intervals.after)):
        assert f"ECE {scores.ece:.3f}" in said
        assert f"[{sure.ece[0]:.3f}, {sure.ece[1]:.3f}]" in said
        assert f"NLL {scores.nll:.3f}" in said
    assert f"T = {what.temperature:.3g}" in said
    assert "1,500 samples" in said


def test_positions_of_one_image_are_said_to_be_positions() -> None:
    z, y = multiclass(60)
    dense = plots.subject(z.reshape(10, 6, 8).transpose(0, 2, 1), y.reshape(10, 6), 2.0, axis=1, bootstrap=0)
    assert dense.sample.n_groups == 10
    assert caption(dense) == "60 positions in 10 samples"
    assert caption(plots.subject(z, y, 2.0, bootstrap=0)) == "60 samples"


def test_every_bin_shows_its_count_and_an_empty_one_that_it_is_empty() -> None:
    figure = plots.figure("reliability", SUBJECTS["fitted"])
    counts = SUBJECTS["fitted"].metrics.after.bins.counts
    below = figure.axes[3]
    assert [text.get_text() for text in below.texts] == [count_text(int(count)) for count in counts]
    assert (counts == 0).any()
    assert "no samples" in [text.get_text() for text in figure.legends[0].get_texts()]


# Colours


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("temperature", [0.3, 0.9, 2.5])
def test_no_two_temperatures_of_a_sweep_have_one_colour_or_marker(temperature: float, style: str) -> None:
    ax = plots.figure("sweep", Subject(subject(2.5).sample, temperature, resamples=0), style=style).axes[0]
    lines = [line for line in ax.lines if str(line.get_label()).startswith("T = ")]
    assert len(lines) >= 5
    assert len({line.get_color() for line in lines}) == len(lines)
    assert len({line.get_marker() for line in lines}) == len(lines)


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_colours_differ_from_the_background_as_much_as_wcag_asks(palette: Palette) -> None:
    for colour in (palette.ink, palette.muted):
        assert contrast(colour, palette.background) >= 4.5
    for colour in (palette.main, palette.other, *palette.series):
        assert contrast(colour, palette.background) >= 2.9


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, contrast ratio."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_lines_of_a_sweep_differ_without_colour() -> None:
    (ax,) = plots.figure("sweep", SUBJECTS["fitted"]).axes
    named = [line for line in ax.get_lines() if line.get_label().startswith("T = ")]
    assert len({line.get_marker() for line in named}) == len(named) <= len(MARKERS)


@pytest.mark.parametrize("style", STYLES)
def test_style_is_the_background(style: str) -> None:
    picture = Image.open(io.BytesIO(saved(plots.figure("risk-coverage", SUBJECTS["fitted"], style=style), ".png")))
    dark = sum(picture.convert("RGB").getpixel((2, 2))) < 200  # type: ignore[arg-type]
    assert dark == (style == "dark")


def test_drawing_into_dark_axes_takes_the_colours_for_dark() -> None:
    with plt.style.context("dark_background"):
        ax = plots.risk_coverage_curve(SUBJECTS["fitted"])
        assert palette_of(ax) is DARK
    assert palette_of(plots.risk_coverage_curve(SUBJECTS["fitted"])) is LIGHT


# Names


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        *((name, suffix) for name in HOSTILE_SUBJECTS for suffix in (".svg", ".pdf")),
        (next(iter(HOSTILE_SUBJECTS)), ".png"),
    ],
)
def test_hostile_names_come_out_inert(name: str, suffix: str) -> None:
    for kind in ("classes", "reliability"):
        data = saved(plots.figure(kind, HOSTILE_SUBJECTS[name]), suffix)
        assert len(data) < 1_500_000
        if suffix == ".svg":
            root = ET.fromstring(data)
            assert not [e for e in root.iter() if e.tag.endswith("script") or e.tag.endswith("foreignObject")]
            assert b"<script" not in data
            assert b"\x1b" not in data


@pytest.mark.parametrize("name", HOSTILE)
def test_shown_name_is_short_and_printable(name: str) -> None:
    assert len(shown_name(name)) <= 32
    assert not name or shown_name(name).isprintable()


def test_dollars_are_dollars_in_the_users_own_axes() -> None:
    _, ax = plt.subplots()
    plots.class_reliability_diagram(HOSTILE_SUBJECTS["many classes"], index=0, ax=ax)
    title = ax.get_title(loc="left")
    assert title == HOSTILE[0]
    ax.figure.canvas.draw()  # mathtext would refuse a fraction of 1 and 0 braces, or draw one


# Bytes


@pytest.mark.parametrize(
    ("kind", "suffix"), [*((kind, ".svg") for kind in KINDS), ("reliability", ".png"), ("reliability", ".pdf")]
)
def test_same_figure_gives_the_same_bytes_without_a_date(kind: str, suffix: str) -> None:
    one, other = (saved(plots.figure(kind, SUBJECTS["fitted"]), suffix) for _ in range(2))
    assert one == other
    assert not re.search(rb"CreationDate|ModDate|dc:date|tIME|20\d\d-\d\d-\d\dT", one)


def test_another_process_with_other_settings_writes_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("font.size: 23\naxes.grid: True\nsvg.fonttype: none\naxes.facecolor: red\n")
    program = (
        "import sys\nfrom onnxcal import plots\nfrom tests.report.test_plots import saved, SUBJECTS\n"
        "for suffix in ('.svg', '.pdf', '.png'):\n"
        "    sys.stdout.buffer.write(saved(plots.figure('reliability', SUBJECTS['fitted']), suffix))"
    )
    root = Path(onnxcal.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    out = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, check=True).stdout
    here = b"".join(saved(plots.figure("reliability", SUBJECTS["fitted"]), s) for s in (".svg", ".pdf", ".png"))
    assert out == here


def test_the_users_settings_are_as_they_were() -> None:
    before = dict(mpl.rcParams)
    saved(plots.figure("confidence", SUBJECTS["fitted"]), ".svg")
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []


# The functions


FUNCTIONS = (
    plots.reliability_diagram, plots.class_reliability_diagram, plots.temperature_curve, plots.reliability_sweep,
    plots.risk_coverage_curve, plots.confidence_histogram,
)  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("layout", [None, "constrained", "tight"])
def test_function_draws_into_the_axes_and_returns_them(function: Callable[..., Axes], layout: str | None) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout=layout)
    assert function(SUBJECTS["fitted"], ax=left) is left
    assert left.get_ylabel()
    assert left.get_legend() is not None
    assert not right.has_data()
    assert function(SUBJECTS["fitted"], ax=right, legend=False).get_legend() is None
    figure.canvas.draw()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_function_makes_axes_where_there_are_none(function: Callable[..., Axes]) -> None:
    ax = function(SUBJECTS["fitted"])
    assert ax.has_data()
    assert plt.get_fignums()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_function_keeps_within_axes_that_were_placed_by_hand(function: Callable[..., Axes]) -> None:
    figure = plt.figure()
    ax = figure.add_axes((0.2, 0.3, 0.5, 0.4))
    function(SUBJECTS["fitted"], ax=ax)
    for one in figure.axes:
        box = one.get_position()
        assert box.x0 >= 0.2 - 1e-9
        assert box.y0 >= 0.3 - 1e-9
        assert box.x1 <= 0.7 + 1e-9
        assert box.y1 <= 0.7 + 1e-9


def test_before_is_at_temperature_one() -> None:
    assert "T = 1" in plots.reliability_diagram(SUBJECTS["fitted"], at="before").get_title(loc="left")
    assert "T = 1" in plots.confidence_histogram(SUBJECTS["fitted"], at="before").get_title(loc="left")
    with refused(UsageError, "at='middle'", hint="'before' or 'after'"):
        plots.reliability_diagram(SUBJECTS["fitted"], at="middle")  # type: ignore[arg-type]


def test_what_fit_returns_can_be_drawn_and_a_number_cannot() -> None:
    calibration = onnxcal.fit(*multiclass())
    assert plots.reliability_diagram(calibration).has_data()
    with refused(UsageError, "without logits", hint="plots.subject"):
        plots.reliability_diagram(onnxcal.Calibration(1.7))
    with refused(UsageError, "a float cannot be plotted", hint="onnxcal.fit"):
        plots.risk_coverage_curve(1.7)  # type: ignore[arg-type]
    with refused(UsageError, "of class 77", hint="8 classes"):
        plots.class_reliability_diagram(calibration, index=77)


def test_temperature_curve_is_of_the_samples_that_were_fitted_on(demo_data: Path, tmp_path: Path) -> None:
    result = onnxcal.calibrate(demo_data / "digits.onnx", demo_data / "digits.npz", output=tmp_path / "out.onnx")
    said = [text.get_text() for text in texts(plots.figure("temperature", result.calibration))]
    assert any(text.startswith(f"T = {result.calibration.temperature:.3g} [") for text in said)
    assert any("1,597 samples, which T was fitted on" in text for text in said)
    said = [text.get_text() for text in texts(plots.figure("reliability", result.calibration))]
    assert any("798 samples, the held-out half" in text for text in said)


def test_unknown_kinds_and_styles_are_refused() -> None:
    with refused(UsageError, "no plot 'risk'", hint="did you mean risk-coverage?"):
        find_plot("risk")
    with refused(UsageError, "no plot 'zzz'", hint="there are reliability, classes"):
        plots.figure("zzz", SUBJECTS["fitted"])
    with refused(UsageError, "style 'sepia'", hint="light or dark"):
        plots.figure("sweep", SUBJECTS["fitted"], style="sepia")


@pytest.mark.parametrize("kind", KINDS)
def test_kind_is_the_module_of_its_name(kind: str) -> None:
    plot = find_plot(kind)
    assert plot.data.__module__.startswith("onnxcal.metrics.")
    assert plot.fill.__module__ == f"onnxcal.report.plots.{kind.replace('-', '_')}"


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0"), (999, "999"), (1000, "1.0k"), (1449, "1.4k"), (9949, "9.9k"), (12_345, "12k"), (3_400_000, "3.4M")],
)
def test_counts_have_at_most_four_letters(count: int, shown: str) -> None:
    assert count_text(count) == shown
