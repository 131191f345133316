"""The benchmark of fits runs, knows the right T, and reports what it says it does; no time is asserted."""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import bench_fit
import numpy as np
import pytest
from fitbench import problems
from fitbench.accuracy import Accuracy
from fitbench.drawing import draw
from fitbench.optimum import optimum
from fitbench.peers import PEERS, Fit, Peer
from fitbench.problems import Problem, drawn, temperatures, variants
from fitbench.race import EXP, race

from tests.reference.likelihood import best_temperature, one_hot, pairs, slope_in_decimals

SCRIPT = Path(bench_fit.__file__)
CHEAP = {"onnxcal", "scipy", "newton", "sklearn"}


@pytest.fixture(scope="module")
def problem() -> Problem:
    return drawn(400, 5)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the shortened run leaves, after a look at what it says."""
    folder = tmp_path_factory.mktemp("bench_fit")
    command = [sys.executable, str(SCRIPT), "--quick", "--accuracy", "--data", str(folder)]
    command += ["--json", str(folder / "fit.json"), "--plot", str(folder / "fit.svg")]
    done = subprocess.run(command, env={**os.environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for words in ("500×5 float32", "÷ fastest", "÷ exp", "onnxcal", EXP, "at most 1e-07: 15 of 15 met"):
        assert words in done.stdout
    assert (folder / "fit.svg").read_text(encoding="utf-8").startswith("<?xml")
    loaded: dict[str, Any] = json.loads((folder / "fit.json").read_text(encoding="utf-8"))
    return loaded


def test_ratios_are_those_of_the_medians(report: dict[str, Any]) -> None:
    (result,) = report["races"]
    assert set(result["fits"]) == CHEAP
    assert result["failed"] == {}
    assert result["fastest"] in CHEAP - {"onnxcal"}
    fastest, exp = result["fits"][result["fastest"]], result["limits"][EXP]
    assert fastest["to_fastest"] == exp["to_exp"] == 1
    for timed in (*result["fits"].values(), *result["limits"].values()):
        assert timed["runs"] == len(timed["seconds"]) >= 2
        assert timed["median_seconds"] == np.median(timed["seconds"])
        assert timed["to_fastest"] == timed["median_seconds"] / fastest["median_seconds"]
        assert timed["to_exp"] == timed["median_seconds"] / exp["median_seconds"]
    for timed in result["fits"].values():
        assert timed["correct"]
        assert timed["relative_error"] == abs(timed["temperature"] / result["temperature"] - 1)


def test_accuracy_is_over_every_kind_of_logits(report: dict[str, Any]) -> None:
    names = [fit["problem"] for fit in report["accuracy"]]
    assert names[0] == "500×5"
    assert len(names) == len(set(names)) == 7 + 8
    for fit in report["accuracy"]:
        assert fit["relative_error"] == abs(fit["fitted"] / fit["temperature"] - 1)
        assert fit["met"] == (fit["relative_error"] <= 1e-7)


def test_the_optimum_is_that_of_an_independent_bisection(problem: Problem) -> None:
    assert problem.temperature == pytest.approx(best_temperature(problem.z, one_hot(problem.y, 5)), rel=1e-11)
    assert 1.9 < problem.temperature < 2.7, "labels are drawn from softmax(z / 2.3)"


def test_the_optimum_is_right_to_1e_12_in_fifty_digits(problem: Problem) -> None:
    """The slope changes its sign there: d NLL / dβ is positive for a T that is too small."""
    w = one_hot(problem.y, 5)
    assert slope_in_decimals(problem.z, w, problem.temperature * (1 - 1e-12)) > 0
    assert slope_in_decimals(problem.z, w, problem.temperature * (1 + 1e-12)) < 0


def test_the_optimum_of_a_sigmoid_is_that_of_its_pairs(problem: Problem) -> None:
    s, flags = problem.z[:, 0], (problem.y == 0).astype(np.int64)
    found = optimum(s, flags)
    assert found.temperature == pytest.approx(best_temperature(*pairs(s, flags)), rel=1e-11)
    assert found.residual < 1e-12


@pytest.mark.parametrize("guess", [1e-6, 1.0, 1e6])
def test_the_optimum_is_found_from_afar(problem: Problem, guess: float) -> None:
    assert optimum(problem.z, problem.y, guess).temperature == pytest.approx(problem.temperature, rel=1e-12)


def test_the_reference_refuses_what_has_no_optimum(problem: Problem) -> None:
    with pytest.raises(ArithmeticError, match="no finite optimum"):
        optimum(problem.z, problem.z.argmax(axis=1))
    with pytest.raises(ArithmeticError, match="no finite optimum"):
        optimum(problem.z, problem.z.argmin(axis=1))


def test_variants_have_optima_of_their_own(problem: Problem) -> None:
    plain, *others = variants(problem)
    assert plain is problem
    by_name = {other.name.removeprefix("400×5, "): other for other in others}
    assert set(by_name) == {"× 20", "× 0.02", "× 5000", "+ 1000", "float16", "rows with −inf"}
    assert by_name["× 20"].temperature == pytest.approx(20 * problem.temperature, rel=1e-6)
    assert by_name["+ 1000"].temperature != problem.temperature, "float32 lost bits"
    assert by_name["float16"].z.dtype == np.float16
    masked = by_name["rows with −inf"]
    assert np.isneginf(masked.z).sum() == 200
    assert np.isfinite(masked.z[np.arange(400), masked.y]).all()
    for exponent, other in zip(range(-3, 5), temperatures(problem), strict=True):
        assert other.temperature == pytest.approx(10.0**exponent, rel=1e-6)


def test_published_sets_have_their_published_temperature(published: Path) -> None:
    expected = json.loads((published / "expected.json").read_text())["datasets"]
    found = {problem.name: problem.temperature for problem in problems.published(published)}
    assert len(found) >= 7
    for name, temperature in found.items():
        assert temperature == pytest.approx(expected[name]["T"], rel=1e-7)


def contestant(title: str, temperature: float) -> Peer:
    def prepare(_: Problem) -> Fit:
        return lambda: temperature

    return Peer(title, prepare, cheap=True)


def absent(_: Problem) -> Fit:
    raise ModuleNotFoundError("No module named 'elsewhere'")


def run(problem: Problem, **peers: Peer) -> Any:
    return race(problem, {"onnxcal": PEERS["onnxcal"], **peers}, runs=1, budget=1, progress=lambda _: None)


def test_a_peer_with_a_wrong_temperature_is_not_the_fastest(problem: Problem, tmp_path: Path) -> None:
    wrong, none = contestant("wrong", problem.temperature * 1.001), contestant("none", math.nan)
    result = run(problem, wrong=wrong, none=none, newton=PEERS["newton"])
    assert result.fastest == "newton"
    assert not result.fits["wrong"].correct
    assert result.fits["wrong"].to_fastest < 1
    assert result.fits["none"].relative_error is None
    draw([result], tmp_path / "race.svg")
    assert "<svg" in (tmp_path / "race.svg").read_text(encoding="utf-8")


def test_without_a_correct_peer_there_is_no_ratio_to_one(problem: Problem, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(problem, wrong=contestant("off", 1.0))
    assert result.fastest is None
    assert result.fits["onnxcal"].to_fastest is None
    bench_fit.print_race(result)
    assert "wrong" in capsys.readouterr().out


def test_who_cannot_be_imported_is_named(problem: Problem, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(problem, elsewhere=Peer("elsewhere", absent, cheap=True))
    assert result.failed == {"elsewhere": "ModuleNotFoundError: No module named 'elsewhere'"}
    bench_fit.print_race(result)
    assert "No module named 'elsewhere'" in capsys.readouterr().out


def test_who_is_too_slow_gets_no_second_turn(problem: Problem) -> None:
    result = race(problem, {"onnxcal": PEERS["onnxcal"]}, runs=50, budget=0, progress=lambda _: None)
    turns = {name: timed.runs for name, timed in (result.fits | result.limits).items()}
    assert max(turns.values()) <= 20, "one turn each"


def test_a_refusal_is_an_accuracy_not_met(capsys: pytest.CaptureFixture[str]) -> None:
    refused = Accuracy("hard", 1.0, None, None, 0.1, refused="NoFiniteOptimum: every label is the arg max")
    assert not refused.met
    bench_fit.print_accuracy(refused)
    assert "NoFiniteOptimum: every label is the arg max  not met" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "size"), [("5000x10", (5000, 10)), ("50_000X100", (50000, 100)), ("7×2", (7, 2))])
def test_sizes_are_rows_and_classes(text: str, size: tuple[int, int]) -> None:
    assert bench_fit.size(text) == size


@pytest.mark.parametrize("text", ["", "10", "x", "0x3", "5x1", "-4x3", "1.5x2"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no size"):
        bench_fit.size(text)
