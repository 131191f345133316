"""The straight road: what is measured on what, what is written where, and what is left when a step says no."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from scipy.optimize import minimize_scalar

import onnxcal
from onnxcal import DataError, GateError, ModelError, UsageError, collect_logits
from onnxcal.verification import verify
from tests import builders
from tests.inference.test_collect import dense_model
from tests.inference.test_feeds import strings_model
from tests.inference.test_session import external

X, Y = builders.labelled_data(400)
X_TEST, Y_TEST = builders.labelled_data(300, seed=2)
MODEL = builders.classifier([builders.softmax()], output="probs")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return builders.save(MODEL, tmp_path / "work" / "m.onnx")


def folder_of(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path.parent)): p.read_bytes() for p in path.parent.rglob("*") if p.is_file()}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def probabilities(model: Path | onnx.ModelProto, x: np.ndarray, output: str = "probs") -> np.ndarray:
    source = os.fspath(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run([output], {"x": x})[0]
    return result


def torch_nll(z: np.ndarray, y: np.ndarray, temperature: float) -> float:
    scaled = torch.from_numpy(z.astype(np.float64)) / temperature
    return float(torch.nn.functional.cross_entropy(scaled, torch.from_numpy(y)))


def best_temperature(z: np.ndarray, y: np.ndarray) -> float:
    found = minimize_scalar(lambda log_t: torch_nll(z, y, np.exp(log_t)), bounds=(-4, 4), method="bounded",
                            options={"xatol": 1e-10})  # fmt: skip
    return float(np.exp(found.x))


# What is measured on what


def test_the_written_temperature_is_fitted_on_all_samples(model: Path) -> None:
    result = onnxcal.calibrate(model, (X, Y))
    z = collect_logits(MODEL, (X, Y)).values
    assert result.calibration.temperature == pytest.approx(best_temperature(z, Y), rel=1e-5)
    assert result.calibration.n_samples == 400
    assert result.calibration.output == "probs"
    p = probabilities(Path(str(result.output.path)), X)
    expected = torch.softmax(torch.from_numpy(z.astype(np.float64)) / result.calibration.temperature, 1)
    np.testing.assert_allclose(p, expected.numpy(), atol=1e-6)


def test_the_metrics_are_those_of_a_half_that_was_not_fitted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recomputed with torch: T of one half, scores on the other."""
    room = sys.modules["onnxcal.heldout"]
    split: list[Any] = []
    halves = room.halves

    def remember(*args: Any) -> Any:
        split.append(halves(*args))
        return split[-1]

    monkeypatch.setattr(room, "halves", remember)
    metrics = onnxcal.calibrate(MODEL, (X, Y)).metrics
    ((fitted_on, held_out),) = split
    assert sorted([*fitted_on, *held_out]) == list(range(400))
    z = collect_logits(MODEL, (X, Y)).values
    half_t = best_temperature(z[fitted_on], Y[fitted_on])
    assert (metrics.split, metrics.n_samples) == ("holdout", len(held_out))
    assert metrics.before.nll == pytest.approx(torch_nll(z[held_out], Y[held_out], 1.0), rel=1e-6)
    assert metrics.after.nll == pytest.approx(torch_nll(z[held_out], Y[held_out], half_t), rel=1e-6)
    assert metrics.before.accuracy == (z[held_out].argmax(axis=1) == Y[held_out]).mean()


def test_eval_data_are_measured_with_the_final_temperature() -> None:
    result = onnxcal.calibrate(MODEL, (X, Y), eval_data=(X_TEST, Y_TEST))
    z = collect_logits(MODEL, (X_TEST, Y_TEST)).values
    assert (result.metrics.split, result.metrics.n_samples) == ("eval", 300)
    assert result.calibration.n_samples == 400
    after = torch_nll(z, Y_TEST, result.calibration.temperature)
    assert result.metrics.after.nll == pytest.approx(after, rel=1e-6)


def test_evaluation_data_that_were_fitted_on_are_told() -> None:
    (said,) = onnxcal.calibrate(MODEL, (X, Y), eval_data=(X.copy(), Y.copy())).warnings
    assert "evaluation data are the data that T was fitted on" in said
    assert not onnxcal.calibrate(MODEL, (X, Y), eval_data=(X[:-1], Y[:-1])).warnings


def test_no_holdout_measures_on_what_was_fitted_on() -> None:
    result = onnxcal.calibrate(MODEL, (X, Y), no_holdout=True)
    z = collect_logits(MODEL, (X, Y)).values
    assert (result.metrics.split, result.metrics.n_samples) == ("fit", 400)
    assert result.metrics.after.nll == pytest.approx(torch_nll(z, Y, result.calibration.temperature), rel=1e-6)


def test_how_it_is_measured_does_not_change_the_temperature() -> None:
    options: list[dict[str, Any]] = [{}, {"no_holdout": True}, {"eval_data": (X_TEST, Y_TEST)}, {"seed": 7}]
    assert len({onnxcal.calibrate(MODEL, (X, Y), **o).calibration.temperature for o in options}) == 1


def test_the_seed_chooses_the_halves() -> None:
    nlls = [onnxcal.calibrate(MODEL, (X, Y), seed=seed).metrics.before.nll for seed in (0, 0, 1)]
    assert nlls[0] == nlls[1] != nlls[2]


@pytest.mark.parametrize("option", [{"seed": -1}, {"max_ece": float("nan")}, {"max_ece": -0.5}, {"batch_size": 0}])
def test_a_number_that_makes_no_sense_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        onnxcal.calibrate(MODEL, (X, Y), **option)


# Very little data


def test_one_sample_is_measured_on_itself_or_refused() -> None:
    """A half of one sample is empty: that must not be a crash."""
    z = collect_logits(MODEL, (X, Y)).values
    truth = z[np.arange(400), Y]
    (one,) = np.flatnonzero((truth < z.max(axis=1)) & (truth > z.mean(axis=1)))[:1]  # a finite optimum
    result = onnxcal.calibrate(MODEL, (X[[one]], Y[[one]]))
    assert result.metrics.split == "fit"
    assert any("half" in warning for warning in result.warnings)


def test_one_image_of_a_dense_head_is_measured_on_itself() -> None:
    """Its positions stay together, so there is no other half."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 2, 5, 4)).astype(np.float32)
    z = collect_logits(dense_model(), (x, np.zeros((1, 5, 4), int))).values
    y = (z / 4 + rng.gumbel(size=z.shape)).argmax(axis=1).reshape(1, 5, 4)
    result = onnxcal.calibrate(dense_model(), (x, y))
    assert (result.metrics.split, result.metrics.n_samples) == ("fit", 20)
    assert any("half" in warning for warning in result.warnings)


def test_a_half_without_an_optimum_is_said() -> None:
    z = collect_logits(MODEL, (X, Y)).values
    right = np.flatnonzero(z.argmax(axis=1) == Y)[:9]
    truth = z[np.arange(400), Y]
    (wrong,) = np.flatnonzero((truth < z.max(axis=1)) & (truth > z.mean(axis=1)))[:1]
    rows = [*right, wrong]
    results = [onnxcal.calibrate(MODEL, (X[rows], Y[rows]), seed=seed) for seed in range(6)]
    fallen_back = [result for result in results if result.metrics.split == "fit"]
    assert fallen_back
    for result in fallen_back:
        assert any("half of them have no temperature" in warning for warning in result.warnings)


# Warnings


def test_it_is_said_when_calibration_makes_things_worse() -> None:
    flipped = (Y_TEST + 1) % 4
    confident = collect_logits(MODEL, (X_TEST, Y_TEST)).values.argmax(axis=1)
    result = onnxcal.calibrate(MODEL, (X, Y), eval_data=(X_TEST, confident))
    assert result.metrics.after.nll > result.metrics.before.nll
    assert result.metrics.after.ece > result.metrics.before.ece
    for name in ("NLL", "ECE"):
        (sentence,) = (w for w in result.warnings if w.startswith(f"calibration made {name} worse"))
        assert "on the evaluation set (300 samples)" in sentence
    assert not onnxcal.calibrate(MODEL, (X, Y), eval_data=(X_TEST, flipped)).warnings


def test_it_is_said_when_the_temperature_cannot_be_told_from_1() -> None:
    z = collect_logits(MODEL, (X, Y)).values.astype(np.float64)
    honest = (z + np.random.default_rng(1).gumbel(size=z.shape)).argmax(axis=1)
    result = onnxcal.calibrate(MODEL, (X, honest), no_holdout=True)
    assert result.calibration.stderr is not None
    assert abs(result.calibration.temperature - 1) < 1.96 * result.calibration.stderr
    assert any("not distinguishable from 1" in warning for warning in result.warnings)
    assert not any("distinguishable" in w for w in onnxcal.calibrate(MODEL, (X, Y)).warnings)


def test_a_cast_is_said() -> None:
    result = onnxcal.calibrate(MODEL, (X.astype(np.float64), Y))
    assert "the arrays: input 'x' was cast from float64 to float32" in result.warnings
    assert result.calibration.temperature == onnxcal.calibrate(MODEL, (X, Y)).calibration.temperature


# The gate


def test_the_gate_lets_pass_what_is_good_enough_and_nothing_else(model: Path) -> None:
    ece = onnxcal.calibrate(MODEL, (X, Y)).metrics.after.ece
    before = folder_of(model)
    with pytest.raises(GateError, match="more than --max-ece") as caught:
        onnxcal.calibrate(model, (X, Y), max_ece=ece * 0.999)
    assert caught.value.exit_code == 1
    assert folder_of(model) == before
    onnxcal.calibrate(model, (X, Y), max_ece=ece)
    assert set(folder_of(model)) - set(before) == {"m.calibrated.onnx"}


# What is left when a step says no


def broken_on_second_reading() -> Any:
    """Batches for the fit, but none for the verification."""
    readings: list[int] = []

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        readings.append(1)
        yield X[:300], Y[:300]
        if len(readings) > 1:
            raise OSError("the disk is gone")
        yield X[300:], Y[300:]

    return batches


@pytest.mark.parametrize("older", [True, False])
@pytest.mark.parametrize(
    ("data", "options", "error"),
    [
        ((X, Y), {"max_ece": 1e-9}, GateError),
        (broken_on_second_reading, {}, DataError),
        ((X, Y + 1), {}, DataError),
        ((X, Y), {"head": "nope"}, ModelError),
        ((X, Y), {"eval_data": (X, Y - 1)}, DataError),
        ((X, Y), {"output_name": "logits"}, ModelError),
        ((X, Y), {"task": "binary"}, onnxcal.OnnxcalError),
    ],
)
def test_a_failure_leaves_the_folder_as_it_was(
    older: bool, data: Any, options: dict[str, Any], error: type[Exception], model: Path
) -> None:
    out = model.parent / "out.onnx"
    if older:
        out.write_bytes(b"the older one")
    before = folder_of(model)
    data = data() if data is broken_on_second_reading else data
    with pytest.raises(error):
        onnxcal.calibrate(model, data, output=out, force=True, **options)
    assert folder_of(model) == before


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, RuntimeError])
@pytest.mark.parametrize("stage", ["collecting logits", "verifying"])
def test_an_interruption_leaves_the_folder_as_it_was(stop: type[BaseException], stage: str, model: Path) -> None:
    def progress(at: str, done: int, total: int | None) -> None:
        if at == stage:
            raise stop

    before = folder_of(model)
    with pytest.raises(stop):
        onnxcal.calibrate(model, (X, Y), progress=progress)
    assert folder_of(model) == before


# Where it goes


def test_the_default_output_lies_beside_the_model(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = model.read_bytes()
    result = onnxcal.calibrate("work/m.onnx", (X, Y))
    assert result.output.path == os.path.join("work", "m.calibrated.onnx")
    assert result.model.path == os.path.join("work", "m.onnx")
    assert (result.model.sha256, result.output.sha256) == (sha256(model), sha256(model.parent / "m.calibrated.onnx"))
    assert sorted(folder_of(model)) == ["m.calibrated.onnx", "m.onnx"]
    assert model.read_bytes() == before
    assert result.proto is None


@pytest.mark.parametrize("work", ["calibrate", "patch"])
def test_an_output_that_exists_needs_force(work: str, model: Path) -> None:
    out = model.parent / "out.onnx"
    out.write_bytes(b"mine")

    def run(**options: Any) -> Any:
        if work == "calibrate":
            return onnxcal.calibrate(model, (X, Y), output=out, **options)
        return onnxcal.patch(model, temperature=1.7, output=out, **options)

    with pytest.raises(UsageError, match="exists"):
        run()
    assert out.read_bytes() == b"mine"
    assert run(force=True).output.sha256 == sha256(out)


@pytest.mark.parametrize("name", ["m.onnx", "./m.onnx", "../work/m.onnx", "link.onnx", "hard.onnx"])
@pytest.mark.parametrize("force", [True, False])
def test_the_model_itself_is_no_output(name: str, force: bool, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    (model.parent / "link.onnx").symlink_to("m.onnx")
    (model.parent / "hard.onnx").hardlink_to(model)
    before = folder_of(model)
    for work in (
        lambda: onnxcal.calibrate("m.onnx", (X, Y), output=name, force=force),
        lambda: onnxcal.patch("m.onnx", temperature=2.0, output=name, force=force),
    ):
        with pytest.raises(UsageError, match="is the model itself"):
            work()
    assert folder_of(model) == before


def test_in_place_writes_to_the_model_and_nowhere_else(model: Path) -> None:
    before, mode = sha256(model), model.stat().st_mode
    result = onnxcal.calibrate(model, (X, Y), in_place=True)
    assert list(folder_of(model)) == ["m.onnx"]
    assert (result.model.sha256, result.output.sha256) == (before, sha256(model))
    assert model.stat().st_mode == mode
    assert verify(MODEL, model, X).verification.passed


def test_in_place_tells_the_digest_of_the_model_as_it_was_also_if_it_was_patched(model: Path) -> None:
    onnxcal.patch(model, temperature=5.0, in_place=True)
    before = sha256(model)
    assert onnxcal.patch(model, temperature=2.0, in_place=True).model.sha256 == before
    before = sha256(model)
    assert onnxcal.calibrate(model, (X, Y), in_place=True).model.sha256 == before


@pytest.mark.parametrize("where", ["fifo", "folder", "missing folder"])
def test_what_is_no_file_is_not_replaced(where: str, model: Path) -> None:
    """With --force onto /dev/null, a build script that runs as root would take the device away."""
    out = model.parent / "out"
    if where == "fifo":
        os.mkfifo(out)
    elif where == "folder":
        out.mkdir()
    else:
        out = out / "m.onnx"
    kind = out.stat().st_mode if out.exists() else None
    with pytest.raises(UsageError, match="cannot write"):
        onnxcal.patch(model, temperature=2.0, output=out, force=True)
    assert (out.stat().st_mode if out.exists() else None) == kind


@pytest.mark.parametrize("options", [{"in_place": True, "output": "o.onnx"}, {"in_place": True}])
def test_in_place_needs_a_file_and_takes_no_output(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="in-place"):
        onnxcal.calibrate(MODEL, (X, Y), **options)


def test_a_model_in_memory_stays_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = MODEL.SerializeToString()
    result = onnxcal.calibrate(MODEL, (X, Y))
    assert list(tmp_path.iterdir()) == []
    assert (result.model.path, result.output.path) == (None, None)
    assert isinstance(result.proto, onnx.ModelProto)
    assert MODEL.SerializeToString() == before
    assert hashlib.sha256(result.proto.SerializeToString()).hexdigest() == result.output.sha256
    assert verify(MODEL, result.proto, X).verification.passed


def test_a_model_in_memory_may_be_written(tmp_path: Path) -> None:
    result = onnxcal.calibrate(MODEL, (X, Y), output=tmp_path / "out.onnx")
    assert result.proto is None
    assert verify(MODEL, tmp_path / "out.onnx", X).verification.passed


# The same input, the same bytes


def test_two_runs_in_different_folders_give_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for folder in ("one", "two/deeper"):
        (tmp_path / folder).mkdir(parents=True)
        model = builders.save(MODEL, tmp_path / folder / f"{folder[:3]}.onnx")
        np.savez(tmp_path / folder / "data.npz", x=X, labels=Y)
        result = onnxcal.calibrate(model, tmp_path / folder / "data.npz", batch_size=50)
        written.append(Path(str(result.output.path)).read_bytes())
    assert written[0] == written[1]
    assert str(tmp_path).encode() not in written[0]


@pytest.mark.parametrize("options", [{"batch_size": 400}, {"batch_size": 13}, {"seed": 3}, {"no_holdout": True}])
def test_how_it_is_run_does_not_change_the_temperature_beyond_rounding(options: dict[str, Any]) -> None:
    one, other = (onnxcal.calibrate(MODEL, (X, Y), **o).calibration for o in ({}, options))
    assert one.temperature == pytest.approx(other.temperature, rel=1e-6)
    assert one.data_sha256 == other.data_sha256


def test_string_inputs_give_the_same_bytes_twice() -> None:
    model, w = strings_model(TensorProto.STRING, [b"a", b"b", b"c"])  # type: ignore[list-item]
    rng = np.random.default_rng(0)
    s = rng.choice(["a", "b", "c", "dd"], size=(300, 3))
    y = ((s == np.array(["a", "b", "c"])) @ w / 2 + rng.gumbel(size=(300, 4))).argmax(axis=1)
    written = [onnxcal.calibrate(model, (s.copy(), y)).output.sha256 for _ in range(3)]
    assert len(set(written)) == 1


# Where data come from


def as_forms(tmp_path: Path) -> dict[str, Any]:
    np.savez(tmp_path / "d.npz", x=X, labels=Y)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    batches = [(X[i : i + 64], Y[i : i + 64]) for i in range(0, 400, 64)]
    return {
        "path": tmp_path / "d.npz",
        "npy": tmp_path / "x.npy",
        "pair": (X, Y),
        "dict": {"x": X, "labels": Y},
        "list of batches": batches,
        "iterator": iter(batches),
        "generator": (batch for batch in batches),
        "callable": lambda: iter(batches),
        "dicts": [({"x": x}, y) for x, y in batches],
        "DataLoader": torch.utils.data.DataLoader(dataset, batch_size=64),
    }


@pytest.mark.parametrize(
    "form",
    [
        "path", "npy", "pair", "dict", "list of batches", "iterator", "generator", "callable", "dicts", "DataLoader",
    ],
)  # fmt: skip
def test_every_form_of_data_gives_the_same_calibration(form: str, tmp_path: Path) -> None:
    labels = tmp_path / "y.npy" if form == "npy" else None
    result = onnxcal.calibrate(MODEL, as_forms(tmp_path)[form], labels=labels)
    expected = onnxcal.calibrate(MODEL, (X, Y))
    assert result.calibration == expected.calibration
    assert result.verification.runtimes[0].n_samples == 400
    assert result.output.sha256 == expected.output.sha256


# Patching again, and taking it out


def test_recalibrating_a_patched_model_replaces_its_calibration(model: Path, tmp_path: Path) -> None:
    once = onnxcal.calibrate(model, (X, Y), output=tmp_path / "once.onnx")
    onnxcal.patch(model, temperature=9.0, output=tmp_path / "nine.onnx")
    again = onnxcal.calibrate(tmp_path / "nine.onnx", (X, Y), output=tmp_path / "again.onnx")
    assert again.calibration == once.calibration
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "once.onnx").read_bytes()
    assert len(onnxcal.inspect(tmp_path / "again.onnx").calibrations) == 1


@pytest.mark.parametrize("options", [{}, {"keep_logits": True}, {"output_name": "calibrated"}])
def test_revert_gives_the_original_back_after_any_number_of_patches(
    options: dict[str, Any], model: Path, tmp_path: Path
) -> None:
    path = model
    for number, temperature in enumerate((2.0, 3.0, 0.5)):
        out = tmp_path / f"{number}.onnx"
        onnxcal.patch(path, temperature=temperature, output=out, **options)
        path = out
    result = onnxcal.revert(path, output=tmp_path / "back.onnx")
    assert result.byte_identical
    assert (tmp_path / "back.onnx").read_bytes() == model.read_bytes()
    assert result.output.sha256 == sha256(model)


def test_revert_may_write_over_the_patched_file_with_force(model: Path) -> None:
    original = model.read_bytes()
    onnxcal.patch(model, temperature=2.0, in_place=True)
    with pytest.raises(UsageError, match="exists"):
        onnxcal.revert(model, output=model)
    assert onnxcal.revert(model, output=model, force=True).byte_identical
    assert folder_of(model) == {"m.onnx": original}


def test_revert_of_a_model_that_is_not_patched_is_refused(model: Path) -> None:
    with pytest.raises(ModelError, match="not patched"):
        onnxcal.revert(model, output=model.parent / "back.onnx")
    assert list(folder_of(model)) == ["m.onnx"]


def test_a_renamed_output_keeps_its_new_name_when_it_is_calibrated_again() -> None:
    """Deployed callers of the patched file know it by that name."""
    first = onnxcal.patch(MODEL, temperature=2.0, output_name="calibrated", keep_logits=True).proto
    assert first is not None
    again = onnxcal.patch(first, temperature=3.0).proto
    assert again is not None
    assert [o.name for o in again.graph.output] == [o.name for o in first.graph.output]


def two_heads() -> onnx.ModelProto:
    """Two Softmax heads on one feature vector."""
    rng = np.random.default_rng(0)
    names = ("a", "b")
    nodes, weights = [], []
    for name in names:
        weights.append(numpy_helper.from_array((3 * rng.normal(size=(6, 4))).astype(np.float32), f"w{name}"))
        nodes.append(helper.make_node("MatMul", ["x", f"w{name}"], [f"z{name}"]))
        nodes.append(helper.make_node("Softmax", [f"z{name}"], [f"p{name}"], axis=1))
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])],
        [helper.make_tensor_value_info(f"p{name}", TensorProto.FLOAT, ["N", 4]) for name in names],
        weights,
    )
    return builders.model(graph)


@pytest.mark.parametrize("order", [("pa", "pb"), ("pb", "pa")])
def test_calibrating_one_head_keeps_the_calibration_of_the_other(order: tuple[str, str]) -> None:
    model: onnx.ModelProto = two_heads()
    for head, temperature in zip(order, (2.0, 5.0), strict=True):
        patched = onnxcal.patch(model, temperature=temperature, head=head).proto
        assert patched is not None
        model = patched
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for head, temperature in zip(order, (2.0, 5.0), strict=True):
        z = collect_logits(two_heads(), (X, Y), head=head).values.astype(np.float64)
        expected = torch.softmax(torch.from_numpy(z) / temperature, 1).numpy()
        np.testing.assert_allclose(session.run([head], {"x": X})[0], expected, atol=1e-6)
    assert sorted(c.temperature for c in onnxcal.inspect(model).calibrations) == [2.0, 5.0]
    assert verify(two_heads(), model, X).verification.passed


def test_two_heads_need_a_choice() -> None:
    with pytest.raises(ModelError, match=r"2 outputs that can be a classifier: 'pa' .* 'pb'") as caught:
        onnxcal.calibrate(two_heads(), (X, Y))
    assert "--head pa" in str(caught.value.hint)


# patch alone


def test_patch_alone_does_not_run_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a session was opened")

    monkeypatch.setattr(sys.modules["onnxcal.verification.both"], "open_session", never)
    assert onnxcal.patch(MODEL, temperature=1.7).verification is None


def test_patch_with_data_is_verified() -> None:
    result = onnxcal.patch(MODEL, temperature=1.7, data=X)
    assert result.verification is not None
    assert result.verification.passed


def test_patch_with_a_fitted_calibration_is_what_calibrate_writes() -> None:
    found = collect_logits(MODEL, (X, Y))
    fitted = onnxcal.fit(found.values, found.labels)
    whole = onnxcal.calibrate(MODEL, (X, Y))
    assert fitted.temperature == whole.calibration.temperature
    one, other = onnxcal.patch(MODEL, fitted).proto, onnxcal.patch(MODEL, whole.calibration).proto
    assert other is not None
    assert whole.proto is not None
    assert one is not None
    assert other.SerializeToString() == whole.proto.SerializeToString()
    np.testing.assert_array_equal(probabilities(one, X), probabilities(whole.proto, X))


@pytest.mark.parametrize("words", [{}, {"temperature": 1.5, "calibration": onnxcal.Calibration(1.5)}])
def test_patch_takes_one_temperature(words: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="either a temperature or a calibration"):
        onnxcal.patch(MODEL, **words)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf"), float("-inf")])
def test_a_temperature_is_positive_and_finite(temperature: float) -> None:
    with pytest.raises(UsageError, match="not a positive, finite number"):
        onnxcal.patch(MODEL, temperature=temperature)


@pytest.mark.parametrize("temperature", [1e-300, 1e300, 1e-39])
def test_a_temperature_that_the_head_cannot_hold_is_refused(temperature: float) -> None:
    with pytest.raises(ModelError, match="cannot be held in float32"):
        onnxcal.patch(MODEL, temperature=temperature)


# evaluate


def test_evaluate_scores_the_model_as_it_stands() -> None:
    result = onnxcal.calibrate(MODEL, (X, Y), eval_data=(X_TEST, Y_TEST))
    assert result.proto is not None
    before, after = (onnxcal.evaluate(m, (X_TEST, Y_TEST)).metrics for m in (MODEL, result.proto))
    assert before == result.metrics.before
    for key in ("accuracy", "nll", "ece", "brier", "confidence"):
        assert getattr(after, key) == pytest.approx(getattr(result.metrics.after, key), abs=1e-6), key


# External data


def test_out_beside_the_model_shares_its_external_data(tmp_path: Path) -> None:
    model = external(tmp_path / "m")
    result = onnxcal.calibrate(model, (X, Y))
    assert sorted(folder_of(model)) == ["model.calibrated.onnx", "model.onnx", "weights.bin"]
    assert result.verification.passed
    np.testing.assert_allclose(
        probabilities(Path(str(result.output.path)), X), probabilities(calibrated_in_memory(), X), atol=1e-6
    )


def calibrated_in_memory() -> onnx.ModelProto:
    proto = onnxcal.calibrate(MODEL, (X, Y)).proto
    assert proto is not None
    return proto


def test_out_in_another_folder_takes_its_external_data_along(tmp_path: Path) -> None:
    model = external(tmp_path / "m")
    out = tmp_path / "o" / "out.onnx"
    out.parent.mkdir()
    onnxcal.calibrate(model, (X, Y), output=out)
    assert sorted(folder_of(out)) == ["out.onnx", "weights.bin"]
    assert (out.parent / "weights.bin").read_bytes() == (model.parent / "weights.bin").read_bytes()
    assert not (out.parent / "weights.bin").is_symlink()
    onnxcal.revert(out, output=out.parent / "back.onnx")
    assert (out.parent / "back.onnx").read_bytes() == model.read_bytes()


def test_other_external_data_of_that_name_are_not_overwritten(tmp_path: Path) -> None:
    model = external(tmp_path / "m")
    out = tmp_path / "o" / "out.onnx"
    out.parent.mkdir()
    (out.parent / "weights.bin").write_bytes(b"of another model")
    before = folder_of(out)
    with pytest.raises(UsageError, match=r"weights.bin' exists with other contents"):
        onnxcal.calibrate(model, (X, Y), output=out)
    assert folder_of(out) == before


def test_a_failure_leaves_no_copied_external_data(tmp_path: Path) -> None:
    model = external(tmp_path / "m")
    out = tmp_path / "o" / "out.onnx"
    out.parent.mkdir()
    with pytest.raises(DataError):
        onnxcal.calibrate(model, broken_on_second_reading(), output=out)
    assert list(out.parent.iterdir()) == []


# The metadata


def test_the_calibration_stands_in_the_file(model: Path) -> None:
    result = onnxcal.calibrate(model, (X, Y))
    inspection = onnxcal.inspect(str(result.output.path))
    assert inspection.calibration is not None
    told, fitted = inspection.calibration.as_json(), result.calibration.as_json()
    assert np.float32(told["temperature"]) == np.float32(fitted["temperature"])
    assert told.keys() == fitted.keys()
    for key, value in fitted.items():
        figures = isinstance(value, (float, tuple))
        assert told[key] == (pytest.approx(value, rel=1e-4) if figures else value), key
    proto = onnx.ModelProto.FromString(Path(str(result.output.path)).read_bytes())
    for prop in proto.metadata_props:
        json.loads(prop.value)
