"""`onnxcal plot`: every kind in every format, what it is of, and what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import onnxcal
from onnxcal.report.plots.kinds import KINDS
from onnxcal.subjects import of_stored
from tests.cli.conftest import contents

BEGINS = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}
MODEL = ("m.onnx", "--data", "d.npz")


@pytest.mark.parametrize(
    ("kind", "suffix"), [*((kind, "svg") for kind in KINDS), ("reliability", "png"), ("reliability", "pdf")]
)
def test_every_kind_is_drawn_and_in_every_format(cli, work: Path, kind: str, suffix: str) -> None:
    done = cli("plot", kind, "z.npz", "-o", f"p.{suffix}", "--bootstrap", 20)
    assert done.exit_code == 0, done.stderr
    assert (work / f"p.{suffix}").read_bytes().startswith(BEGINS[suffix])
    assert "written" in done.stdout
    assert not list(work.glob(".onnxcal*"))


def test_the_same_command_writes_the_same_bytes(cli, shell, work: Path) -> None:
    words = ("plot", "reliability", *MODEL, "--style", "dark")
    assert cli(*words, "-o", "one.pdf").exit_code == 0
    assert shell(*words, "-o", "two.pdf", env={"PYTHONHASHSEED": "3"}).returncode == 0
    assert (work / "one.pdf").read_bytes() == (work / "two.pdf").read_bytes()


def shown(cli, *words: object) -> dict:
    done = cli("plot", *words, "-o", "p.svg", "--force", "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_a_model_is_measured_as_calibrate_measures_it(cli, work: Path) -> None:
    plot = shown(cli, "reliability", *MODEL)
    metrics = json.loads(cli("calibrate", *MODEL, "--json").stdout)["metrics"]
    assert (plot["split"], plot["n_samples"]) == (metrics["split"], metrics["n_samples"]) == ("holdout", 100)
    for when in ("before", "after"):
        assert plot["data"][when]["scores"]["ece"] == metrics[when]["ece"]
        assert plot["data"][when]["ece_interval"] == metrics["intervals"][when]["ece"]


def test_stored_logits_are_measured_as_fit_measures_them(cli, work: Path) -> None:
    plot = shown(cli, "reliability", "z.npz")
    fitted = json.loads(cli("fit", "z.npz", "--json").stdout)
    assert plot["temperature"] == fitted["calibration"]["temperature"]
    assert plot["data"]["after"]["scores"]["ece"] == fitted["metrics"]["after"]["ece"]
    bins = plot["data"]["after"]["bins"]
    assert sum(bins["counts"]) == 200
    assert len(bins["edges"]) == 16


def test_a_patched_model_is_shown_at_its_own_temperature(cli, work: Path) -> None:
    plot = shown(cli, "reliability", "p.onnx", "--data", "d.npz")
    assert plot["temperature"] == 2.0
    for when, model in (("before", "m.onnx"), ("after", "p.onnx")):
        scores = json.loads(cli("evaluate", model, "--data", "d.npz", "--json").stdout)["metrics"]
        assert plot["data"][when]["scores"]["ece"] == pytest.approx(scores["ece"], abs=1e-6)
        assert plot["data"][when]["scores"]["nll"] == pytest.approx(scores["nll"], abs=1e-6)


@pytest.mark.parametrize("source", [("z.npz",), MODEL, ("p.onnx", "--data", "d.npz")])
def test_a_temperature_can_be_given(cli, work: Path, source: tuple[str, ...]) -> None:
    cli("fit", "z.npz", "-o", "cal.json")
    fitted = json.loads((work / "cal.json").read_text())["calibration"]["temperature"]
    assert shown(cli, "sweep", *source, "--temperature", 1.7)["temperature"] == 1.7
    assert shown(cli, "sweep", *source, "--calibration", "cal.json")["temperature"] == fitted


def test_the_temperature_curve_is_of_all_samples_that_were_fitted_on(cli, work: Path) -> None:
    plot = shown(cli, "temperature", *MODEL)
    fitted = json.loads(cli("calibrate", *MODEL, "--json").stdout)["calibration"]
    assert plot["n_samples"] == 200
    assert plot["temperature"] == fitted["temperature"]
    assert plot["data"]["interval"] == fitted["interval"]


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (("relaibility", "z.npz", "-o", "p.svg"), "there is no plot 'relaibility'", "did you mean reliability?"),
        (("reliability", "z.npz", "-o", "p.gif"), "'.gif'", ".svg, .png or .pdf"),
        (("reliability", "z.npz", "-o", "p"), "no suffix", ".svg, .png or .pdf"),
        (("reliability", "z.npz", "-o", "there.svg"), "'there.svg' exists", "--force"),
        (("reliability", "z.npz", "-o", "none/p.svg"), "does not exist", "create it first"),
        (("reliability", "m.onnx", "-o", "p.svg"), "there is none", "--data DATA"),
        (("reliability", "z.npz", "--head", "probs", "-o", "p.svg"), "--head does nothing", "--data"),
        (("reliability", "z.npz", "--labels", "y.npy", "-o", "p.svg"), "--labels does nothing", "--data"),
        (("reliability", "gone.npz", "-o", "p.svg"), "cannot read 'gone.npz'", "check the path"),
        (("reliability", "d.npz", "-o", "p.svg"), "no array named logits", "onnxcal logits"),
        (("reliability", "z.npz", "--temperature", "0", "-o", "p.svg"), "temperature 0.0 is not", "T = 1"),
        (
            ("reliability", "z.npz", "--temperature", "2", "--calibration", "c.json", "-o", "p.svg"),
            "both a temperature", "one of them",
        ),
        (("reliability", "z.npz", "--style", "sepia", "-o", "p.svg"), "'sepia'", "--help"),
        (("reliability", "z.npz"), "'-o'", "--help"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(cli, work: Path, words: tuple[str, ...], said: str, hint: str) -> None:
    (work / "there.svg").write_text("mine")
    before = contents(work)
    done = cli("plot", *words)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("onnxcal: error: ")
    assert said in done.stderr
    assert hint in done.stderr.partition("hint: ")[2]
    assert contents(work) == before


def test_force_replaces_a_picture(cli, work: Path) -> None:
    (work / "p.svg").write_text("mine")
    assert cli("plot", "sweep", "z.npz", "-o", "p.svg", "--force").exit_code == 0
    assert (work / "p.svg").read_text().startswith("<?xml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only_is_refused(cli, work: Path) -> None:
    folder = work / "closed"
    folder.mkdir(mode=0o500)
    done = cli("plot", "sweep", "z.npz", "-o", folder / "p.svg")
    assert done.exit_code == 2
    assert "read-only" in done.stderr


def test_a_failure_while_writing_leaves_nothing(cli, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    def full(self: Figure, file, **_: object) -> None:
        file.write(b"<?xml half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    (work / "p.svg").write_text("mine")
    before = contents(work)
    done = cli("plot", "sweep", "z.npz", "-o", "p.svg", "--force")
    assert done.exit_code == 2
    assert "No space left" in done.stderr
    assert contents(work) == before


def test_without_matplotlib_the_extra_is_named(shell, work: Path) -> None:
    (work / "hidden").mkdir()
    (work / "hidden" / "matplotlib.py").write_text("raise ImportError('not here')\n")
    done = shell("plot", "reliability", *MODEL, "-o", "p.svg", env={"PYTHONPATH": path_with(work / "hidden")})
    assert done.returncode == 2
    assert done.stderr == (
        "onnxcal: error: plots need matplotlib, which is not installed\n  hint: pip install 'onnxcal[report]'\n"
    )
    assert not (work / "p.svg").exists()


def path_with(folder: Path) -> str:
    return os.pathsep.join([str(folder), str(Path(onnxcal.__file__).parents[1])])


def test_a_model_that_has_learned_its_data_by_heart_is_drawn_at_a_given_temperature_only(cli, work: Path) -> None:
    z = np.eye(4)[np.arange(40) % 4] * 3.0
    np.savez(work / "heart.npz", logits=z, labels=np.arange(40) % 4)
    assert cli("plot", "reliability", "heart.npz", "-o", "p.svg").exit_code == 2
    assert cli("plot", "reliability", "heart.npz", "--temperature", "0.5", "-o", "p.svg").exit_code == 0


def test_warnings_are_shown(cli, work: Path) -> None:
    np.savez(work / "few.npz", logits=np.array([[2.0, 0, 0], [0, 2, 0], [0, 0, 2], [2, 0, 0]]), labels=[0, 1, 2, 1])
    quiet = cli("plot", "confidence", "few.npz", "-o", "p.svg", "-q")
    assert quiet.exit_code == 0
    assert quiet.stdout == ""
    assert quiet.stderr.count("onnxcal: warning:") == len(
        json.loads(cli("fit", "few.npz", "--json").stdout)["warnings"]
    )


def test_help_lists_the_kinds_with_what_they_show(cli) -> None:
    text = cli("plot", "--help").stdout
    assert all(kind in text for kind in KINDS)
    assert "Example: onnxcal plot" in text


def test_shells_complete_the_kinds(shell) -> None:
    done = shell(env={"_ONNXCAL_COMPLETE": "bash_complete", "COMP_WORDS": "onnxcal plot r", "COMP_CWORD": "2"})
    assert {line.partition(",")[2] for line in done.stdout.split()} == {"reliability", "risk-coverage"}


NAMES = ("cat", "dog", "<script>", "\u202ebird")


def test_classes_are_named_by_a_file(cli, work: Path) -> None:
    Path("names.txt").write_text("\ufeff" + "\r\n".join(NAMES) + "\n", encoding="utf-8")
    plot = shown(cli, "classes", "z.npz", "--class-names", "names.txt", "--bootstrap", 0)
    assert sorted(one["index"] for one in plot["data"]["worst"]) == [0, 1, 2, 3]
    assert all(one["name"] == NAMES[one["index"]] for one in plot["data"]["worst"])
    picture = Path("p.svg").read_text(encoding="utf-8")
    assert "<script" not in picture
    assert "\u202e" not in picture


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"a\nb\n", "2 names for 4 classes"), (b"\xff\xfe\x00", "not UTF-8"), (None, "cannot read class names")],
)
def test_class_names_that_do_not_fit_are_refused(cli, work: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        Path("names.txt").write_bytes(content)
    done = cli("plot", "classes", "z.npz", "--class-names", "names.txt", "-o", "p.svg")
    assert done.exit_code == 2
    assert said in done.stderr
    assert "hint:" in done.stderr
    assert not Path("p.svg").exists()


def test_stored_logits_keep_the_names_of_the_models_classes(cli, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxcal.subjects.class_names", lambda head: NAMES)
    assert cli("logits", *MODEL, "-o", "named.npz").exit_code == 0
    for known in (None, onnxcal.Calibration(2.0)):
        assert of_stored(Path("named.npz"), known, bootstrap=0).subject().classes == NAMES


@pytest.mark.parametrize("words", ["calibrate m.onnx --data ", "calibrate m.onnx --eval-data ", "plot reliability "])
def test_shells_complete_files_where_data_is_named(shell, work: Path, words: str) -> None:
    done = shell(
        env={
            "COMP_WORDS": f"onnxcal {words}",
            "COMP_CWORD": str(len(words.split()) + 1),
            "_ONNXCAL_COMPLETE": "bash_complete",
        }
    )
    assert done.stdout.strip().startswith("file,")
