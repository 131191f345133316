"""How a temperature is fitted, from the command line: shards, single pass, priors, smoothing, intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxcal

pytestmark = pytest.mark.usefixtures("work")

KEYS = [
    "method", "temperature", "stderr", "robust_stderr", "interval", "p_value", "precision", "gradient", "objective",
    "prior", "smoothing", "n_samples", "enough_samples", "converged", "task", "output", "data_sha256",
]  # fmt: skip


@pytest.fixture
def arrays(work: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(work / "z.npz") as stored:
        return stored["logits"], stored["labels"]


@pytest.fixture
def shards(work: Path, arrays: Any) -> list[str]:
    z, y = arrays
    for number, part in enumerate((slice(0, 90), slice(90, 130), slice(130, None))):
        np.savez(work / f"shard-{number}.npz", logits=z[part], labels=y[part])
    return [f"shard-{number}.npz" for number in range(3)]


def fitted(cli: Any, *words: object) -> dict[str, Any]:
    result = cli("fit", *words, "--json")
    assert result.exit_code == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_json_has_the_documented_keys_in_their_order(cli: Any) -> None:
    document = fitted(cli, "z.npz")
    assert list(document) == ["schema", "calibration", "metrics", "warnings"]
    assert list(document["calibration"]) == KEYS
    metrics = document["metrics"]
    assert list(metrics) == ["n_samples", "split", "before", "after", "intervals"]
    assert list(metrics["intervals"]) == ["level", "resamples", "before", "after", "difference"]
    assert list(metrics["intervals"]["difference"]) == ["nll", "ece", "brier"]
    assert metrics["before"].keys() >= {"accuracy", "confidence", "nll", "ece", "ece_floor", "brier"}


def test_exact_gives_the_gradient(cli: Any, arrays: Any) -> None:
    found = fitted(cli, "z.npz", "--exact")["calibration"]
    assert abs(found["gradient"]) < 1e-12
    assert found["temperature"] == onnxcal.fit(*arrays, exact=True).temperature
    assert fitted(cli, "z.npz")["calibration"]["gradient"] is None


def test_a_prior_and_smoothing_are_those_of_fit(cli: Any, arrays: Any) -> None:
    found = fitted(cli, "z.npz", "--prior", "0.5")["calibration"]
    assert (found["objective"], found["prior"]) == ("nll+prior", 0.5)
    assert found["temperature"] == onnxcal.fit(*arrays, prior=0.5).temperature
    found = fitted(cli, "z.npz", "--smoothing", "0.05")["calibration"]
    assert found["smoothing"] == 0.05
    assert found["temperature"] == onnxcal.fit(*arrays, smoothing=0.05).temperature


@pytest.mark.parametrize("option", [["--prior", "1"], ["--smoothing", "0.01"]])
def test_separable_logits_have_a_temperature_where_one_is_asked_for(option: list[str], cli: Any, work: Path) -> None:
    with np.load(work / "z.npz") as stored:
        np.savez(work / "right.npz", logits=stored["logits"], labels=stored["logits"].argmax(axis=1))
    refused = cli("fit", "right.npz")
    assert refused.exit_code == 2
    assert "every label is the arg max" in refused.stderr
    result = cli("fit", "right.npz", *option, "-o", "cal.json")
    assert result.exit_code == 0, result.stderr
    assert onnxcal.patch("m.onnx", "cal.json", output="out.onnx").calibration.temperature < 1


@pytest.mark.parametrize("command", [["fit", "z.npz"], ["calibrate", "m.onnx", "--data", "d.npz"]])
def test_the_bootstrap_can_be_switched_off_and_seeded(command: list[str], cli: Any) -> None:
    def intervals(*options: str) -> Any:
        document = json.loads(cli(*command, *options, "--json", *(["--force"] * (command[0] != "fit"))).stdout)
        return document["metrics"]["intervals"]

    assert intervals("--bootstrap", "0") is None
    assert intervals("--bootstrap", "50")["resamples"] == 50
    assert intervals() == intervals("--seed", "0")
    assert intervals() != intervals("--seed", "1")


@pytest.mark.parametrize("option", [["--prior", "1"], ["--smoothing", "0.1"], ["--exact"]])
def test_calibrate_fits_as_fit_does(option: list[str], cli: Any) -> None:
    result = cli("calibrate", "m.onnx", "--data", "d.npz", *option, "--json")
    assert result.exit_code == 0, result.stderr
    calibration = json.loads(result.stdout)["calibration"]
    assert calibration["temperature"] == pytest.approx(
        fitted(cli, "z.npz", *option)["calibration"]["temperature"], rel=1e-12
    )
    assert onnxcal.inspect("m.calibrated.onnx").calibration.as_json()["prior"] == calibration["prior"]


def test_shards_are_fitted_as_the_whole(cli: Any, shards: list[str]) -> None:
    whole, parts = fitted(cli, "z.npz"), fitted(cli, *shards)
    for key in KEYS:
        if key not in ("output", "data_sha256"):
            assert parts["calibration"][key] == whole["calibration"][key], key
    assert parts["metrics"] == whole["metrics"]


def test_a_single_pass_over_shards(cli: Any, shards: list[str]) -> None:
    document = fitted(cli, *shards, "--no-spool")
    whole = fitted(cli, "z.npz", "--exact")["calibration"]
    assert document["metrics"] is None
    found = document["calibration"]
    assert found["temperature"] == pytest.approx(whole["temperature"], rel=1e-10)
    assert 0 <= found["precision"] < 1e-9
    assert found["p_value"] == pytest.approx(whole["p_value"], rel=1e-2, abs=1e-9)
    shown = cli("fit", *shards, "--no-spool")
    assert shown.exit_code == 0
    assert shown.stdout.strip()


def test_a_single_pass_can_be_measured_elsewhere(cli: Any, shards: list[str]) -> None:
    document = fitted(cli, *shards, "--no-spool", "--eval-data", "z.npz")
    assert document["metrics"]["split"] == "eval"
    assert document["metrics"]["n_samples"] == 200


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["z.npz", "--no-spool", "--exact"], "a single pass"),
        (["z.npz", "--no-spool", "--prior", "1"], "a single pass"),
        (["z.npz", "--prior", "0"], "--prior"),
        (["z.npz", "--prior", "nan"], "prior"),
        (["z.npz", "--smoothing", "1"], "--smoothing"),
        (["z.npz", "--smoothing", "nan"], "smoothing"),
        (["z.npz", "--bootstrap", "-1"], "--bootstrap"),
        (["z.npz", "nope.npz"], "nope.npz"),
        ([], "Missing argument"),
    ],
)
def test_options_that_cannot_be_are_refused(words: list[str], said: str, cli: Any) -> None:
    result = cli("fit", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("onnxcal: error:")
    assert said in result.stderr


def test_the_terminal_says_how_sure_t_is(cli: Any) -> None:
    shown = cli("fit", "z.npz").stdout
    calibration = fitted(cli, "z.npz")["calibration"]
    low, high = calibration["interval"]
    assert f"{low:.4g}" in shown or f"{low:.3g}" in shown
    assert f"{high:.4g}" in shown or f"{high:.3g}" in shown


def test_next_to_no_information_is_no_crash(cli: Any, work: Path) -> None:
    np.savez(work / "little.npz", logits=np.array([[1.0, 0.0], [1.0, 0.0], [2.0**-12, 0.0]]), labels=[0, 1, 0])
    result = cli("fit", "little.npz", "-o", "cal.json")
    assert result.exit_code == 0, result.stderr
    assert fitted(cli, "little.npz")["calibration"]["interval"] == [0.0, None]
    assert cli("patch", "m.onnx", "--calibration", "cal.json", "-o", "out.onnx").exit_code == 0
