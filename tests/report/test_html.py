"""The report is one file that anyone may open: complete, inert, accessible, and never wider than the page."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxcal
from onnxcal.errors import UsageError
from onnxcal.report.figures import WORDS, Pictures, _drawn, pictures_of
from onnxcal.report.verdict import sentence
from tests import builders
from tests.reference.refusals import refused
from tests.test_several_heads import data, two_heads

X, Y = builders.labelled_data(400)
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Elements with their attributes, and the text that is shown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.shown = ""
        self._open: list[str] = []
        self.unclosed: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.unclosed.append(tag)
        else:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.shown += data


def report(tmp_path: Path, model: Any = None, **options: Any) -> tuple[str, onnxcal.pipeline.CalibrateResult]:
    path = tmp_path / "report.html"
    result = onnxcal.calibrate(
        builders.classifier([builders.softmax()], output="probs") if model is None else model,
        (X, Y),
        report=path,
        **options,
    )
    return path.read_text(encoding="utf-8"), result


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    return report(tmp_path_factory.mktemp("report"))


def test_the_report_needs_nothing_from_elsewhere(made: tuple[str, Any]) -> None:
    text, _ = made
    page = Page(text)
    assert not [tag for tag, _ in page.elements if tag in ("script", "link", "iframe", "object", "img")]
    references = [value for _, attributes in page.elements for key, value in attributes.items() if key.endswith("href")]
    assert all(value is not None and value.startswith("#") for value in references)
    assert not re.search(r"@import|url\((?!#)", text)
    assert len(text.encode()) < 1_500_000


def test_every_element_is_closed_and_every_id_is_one_of_a_kind(made: tuple[str, Any]) -> None:
    page = Page(made[0])
    assert page.unclosed == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = {value[1:] for _, a in page.elements for key, value in a.items() if key.endswith("href") and value}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", made[0]))
    assert wanted <= set(ids)


def test_pictures_have_labels_and_tables_have_headers(made: tuple[str, Any]) -> None:
    page = Page(made[0])
    pictures = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(pictures) == 5
    assert all(picture.get("role") == "img" and picture.get("aria-label") for picture in pictures)
    headers = [attributes for tag, attributes in page.elements if tag == "th"]
    assert headers
    assert all(header.get("scope") in ("row", "col") for header in headers)
    assert ("html", {"lang": "en"}) in page.elements


def test_the_figures_are_those_of_the_result(made: tuple[str, Any]) -> None:
    text, result = made
    shown = " ".join(Page(text).shown.split())
    metrics = result.metrics
    assert sentence(result.calibration, metrics) in shown
    assert f"NLL, nats{metrics.before.nll:.4f}" in shown.replace(" ", "") or f"{metrics.before.nll:.4f}" in shown
    low, high = metrics.intervals.difference.ece
    assert f"[{low:+.4f}, {high:+.4f}]" in shown
    assert result.output.sha256 in shown
    assert result.model.sha256 in shown
    for check in result.verification.checks:
        assert check.name in shown
    assert shown.count("passed") >= len(result.verification.checks)
    for warning in result.warnings:
        assert " ".join(warning.split()) in shown


def test_the_drawing_marks_what_the_patch_adds(made: tuple[str, Any]) -> None:
    assert re.search(r'<span class="patch">[^<]*÷', made[0])


HOSTILE = "<script>alert(1)</script>\u202e\x1b[31m" + "a" * 10_000


def test_hostile_names_are_inert(tmp_path: Path) -> None:
    text, _ = report(tmp_path, builders.classifier([builders.softmax(target=HOSTILE)], output=HOSTILE))
    page = Page(text)
    assert not [tag for tag, _ in page.elements if tag == "script"]
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "a" * 2_000 not in text
    assert len(text.encode()) < 1_500_000


def test_several_heads_have_a_part_each(tmp_path: Path) -> None:
    x, _, y = data()
    path = tmp_path / "report.html"
    onnxcal.calibrate(two_heads(), (x, y), head=["kind", "alarm"], report=path)
    page = Page(path.read_text(encoding="utf-8"))
    assert "Head kind" in page.shown
    assert "Head alarm" in page.shown
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_command_is_the_one_that_was_given(cli: Any, tmp_path: Path, demo_data: Path) -> None:
    out, path = tmp_path / "my model.onnx", tmp_path / "r.html"
    done = cli("calibrate", demo_data / "digits.onnx", "--data", demo_data / "digits.npz", "-o", out, "--report", path)
    assert done.exit_code == 0
    assert "".join(done.stdout.split()).endswith(f"report{path}")
    shown = html.unescape(path.read_text())
    assert f"onnxcal calibrate {demo_data / 'digits.onnx'} --data {demo_data / 'digits.npz'} --output '{out}'" in shown
    assert f"onnxcal revert '{out}' -o original.onnx" in shown


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Reports without pictures, which take a while; what they would have been of."""
    seen: list[Any] = []

    def none(subjects: Any) -> Pictures:
        seen.append(subjects)
        return Pictures(dict.fromkeys(subjects, ()), left_out=False)

    monkeypatch.setattr("onnxcal.pipeline.pictures_of", none)
    return seen


@pytest.mark.usefixtures("no_pictures")
def test_a_long_command_is_shown_whole(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["folder" * 8] * 6)
    deep.mkdir(parents=True)
    model = builders.save(builders.classifier([builders.softmax()], output="probs"), deep / "m.onnx")
    text, _ = report(tmp_path, model, output=deep / "o.onnx")
    shown = html.unescape(text)
    assert f"--output {deep / 'o.onnx'} --report {tmp_path / 'report.html'}" in shown
    assert f"onnxcal revert {deep / 'o.onnx'} -o original.onnx" in shown


@pytest.mark.usefixtures("no_pictures")
def test_arrays_and_their_labels_are_in_memory(tmp_path: Path) -> None:
    path, model = tmp_path / "r.html", builders.classifier([builders.softmax()], output="probs")
    onnxcal.calibrate(model, X, labels=Y, eval_data=X, eval_labels=Y, report=path, bootstrap=0)
    shown = html.unescape(path.read_text(encoding="utf-8"))
    assert "calibrate '(in memory)'" not in shown
    assert "onnxcal calibrate (in memory) --data (in memory) --labels (in memory)" in shown


def test_classes_have_the_names_that_the_model_gives_them(
    tmp_path: Path, no_pictures: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxcal.pipeline.class_names", lambda head: ("a", "b", "c", "d"))
    report(tmp_path, bootstrap=0)
    assert [subject.classes for subject in no_pictures[0]["probs"]] == [("a", "b", "c", "d")] * 2


def test_a_report_says_which_standard_error_its_interval_is_made_of(made: tuple[str, Any]) -> None:
    text, result = made
    calibration = result.calibration
    plain = f"{calibration.stderr:.2g} (observed information), which the interval is made of"
    robust = f"{calibration.robust_stderr:.2g} (robust, sandwich), which the interval is made of"
    assert (robust if calibration.is_robust else plain) in " ".join(text.split())


def test_pictures_of_many_heads_keep_to_their_room(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    z = 3 * rng.normal(size=(60, 3))
    one = onnxcal.plots.subject(z, (z / 2 + rng.gumbel(size=z.shape)).argmax(axis=1), 2.0, bootstrap=0)
    drawn = _drawn("risk-coverage", one)
    monkeypatch.setattr("onnxcal.report.figures._drawn", lambda kind, subject: drawn)
    made = pictures_of({"a": (one, one), "b": (one, one)}, room=2 * WORDS + 4 * len(drawn))
    kinds = {name: [picture.kind for picture in pictures] for name, pictures in made.heads.items()}
    assert made.left_out
    assert 5 <= len(kinds["a"]) + len(kinds["b"]) < 10
    assert set(kinds["a"]) >= set(kinds["b"]) >= {"reliability", "temperature"}
    pictures = [picture.svg for pictures in made.heads.values() for picture in pictures]
    assert sum(map(len, pictures)) < 4 * len(drawn)
    ids = re.findall(r' id="([^"]+)"', "".join(pictures))
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', "".join(pictures))) <= set(ids)
    assert not pictures_of({"a": (one, one)}).left_out


def test_a_report_that_exists_is_kept(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("mine")
    with refused(UsageError, "report.html"):
        report(tmp_path)
    assert (tmp_path / "report.html").read_text() == "mine"


def test_a_missing_library_is_named_before_anything_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxcal.report.html.find_spec", lambda name: None)
    with refused(UsageError, "Jinja2 and matplotlib", hint="onnxcal[report]"):
        report(tmp_path)
    assert not (tmp_path / "report.html").exists()


MEASURE = """<!doctype html><body>{frames}<pre id="measured"></pre><script>
addEventListener("load", () => {{
  const sizes = [...document.querySelectorAll("iframe")].map(frame => {{
    const page = frame.contentDocument.documentElement;
    const header = page.querySelector("th[scope=row]");
    return [frame.width, page.scrollWidth, page.clientWidth, page.querySelectorAll("h2").length, header.offsetWidth];
  }});
  document.getElementById("measured").textContent = JSON.stringify(sizes);
}});
</script></body>"""


def test_a_browser_shows_it_without_a_sideways_scroll(made: tuple[str, Any], tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("there is no Chromium here")
    widths = (360, 800, 1400)
    frames = "".join(f'<iframe width="{w}" height="900" srcdoc="{html.escape(made[0])}"></iframe>' for w in widths)
    (tmp_path / "measure.html").write_text(MEASURE.format(frames=frames), encoding="utf-8")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--enable-logging=stderr"]
    options += ["--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    try:
        done = subprocess.run(
            [browser, *options, (tmp_path / "measure.html").as_uri()], capture_output=True, text=True, timeout=60
        )
    except subprocess.TimeoutExpired:
        pytest.skip("Chromium did not come to an end within a minute")
    found = re.search(r'<pre id="measured">(.+?)</pre>', done.stdout)
    assert found is not None, done.stderr[-500:]
    sizes = json.loads(html.unescape(found[1]))
    assert [int(size[0]) for size in sizes] == list(widths)
    assert all(scrolls <= client for _, scrolls, client, _, _ in sizes)
    assert all(headings >= 4 and header >= 80 for *_, headings, header in sizes)
    assert "Uncaught" not in done.stderr
    assert "CONSOLE" not in done.stderr
