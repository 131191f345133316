"""Several heads of one model: each with its own labels and temperature, in one file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxcal
from onnxcal.errors import DataError, ModelError, UsageError
from tests.builders import classifier, save, softmax
from tests.corpus.form import node
from tests.reference.likelihood import best_temperature, one_hot, pairs

W = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
V = np.random.default_rng(1).normal(size=(6, 1)).astype(np.float32)


def two_heads() -> onnx.ModelProto:
    """x → Softmax of 4 classes `kind`, and Sigmoid of one logit `alarm`."""
    return classifier(
        [
            softmax("logits", "kind"),
            helper.make_node("MatMul", ["x", "v"], ["z"]),
            helper.make_node("Sigmoid", ["z"], ["alarm"]),
        ],
        output="kind",
        more_outputs=[helper.make_tensor_value_info("alarm", TensorProto.FLOAT, ["N", 1])],
        initializers=[numpy_helper.from_array(V, "v")],
    )


def data(n: int = 400) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs, the logits of both heads in float64, and labels drawn from them at other temperatures."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(n, 6)).astype(np.float32)
    w, b = (numpy_helper.to_array(t).astype(np.float64) for t in two_heads().graph.initializer[:2])
    z = {"kind": x.astype(np.float64) @ w + b, "alarm": (x.astype(np.float64) @ V.astype(np.float64))[:, 0]}
    kind = (z["kind"] / 4 + rng.gumbel(size=z["kind"].shape)).argmax(axis=1)
    alarm = (rng.random(n) < 1 / (1 + np.exp(-2 * z["alarm"]))).astype(np.int64)
    return x, z, {"kind": kind, "alarm": alarm}


def expected() -> dict[str, float]:
    _, z, y = data()
    return {
        "kind": best_temperature(z["kind"], one_hot(y["kind"], 4)),
        "alarm": best_temperature(*pairs(z["alarm"], y["alarm"])),
    }


def test_each_head_gets_the_temperature_of_its_own_labels(tmp_path: Path) -> None:
    x, z, y = data()
    result = onnxcal.calibrate(
        save(two_heads(), tmp_path / "m.onnx"), (x, y), head=["kind", "alarm"], output=tmp_path / "o.onnx"
    )
    found = {one.head.output: one.calibration.temperature for one in result.heads}
    assert found == pytest.approx(expected(), rel=1e-6)
    assert (result.head, result.calibration) == (result.heads[0].head, result.heads[0].calibration)
    assert result.verification.passed
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "o.onnx", providers=["CPUExecutionProvider"])
    kind, alarm = session.run(["kind", "alarm"], {"x": x})
    scaled = z["kind"] / found["kind"]
    p = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    np.testing.assert_allclose(kind, p / p.sum(axis=1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(alarm[:, 0], 1 / (1 + np.exp(-z["alarm"] / found["alarm"])), atol=1e-5)
    onnxcal.revert(tmp_path / "o.onnx", output=tmp_path / "back.onnx")
    assert (tmp_path / "back.onnx").read_bytes() == (tmp_path / "m.onnx").read_bytes()


def test_the_command_takes_labels_of_each_head_from_the_npz(cli, tmp_path: Path) -> None:
    x, _, y = data()
    save(two_heads(), tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=x, labels_kind=y["kind"], labels_alarm=y["alarm"])
    done = cli(
        "calibrate", tmp_path / "m.onnx", "--data", tmp_path / "d.npz", "--head", "kind", "--head", "alarm", "--json"
    )
    assert done.exit_code == 0, done.stderr
    calibrated = json.loads(done.stdout)["heads"]
    found = {one["head"]["output"]: one["calibration"]["temperature"] for one in calibrated}
    assert found == pytest.approx(expected(), rel=1e-6)
    assert [c.output for c in onnxcal.inspect(tmp_path / "m.calibrated.onnx").calibrations] == ["kind", "alarm"]


def test_one_head_after_the_other_gives_the_same_temperatures(tmp_path: Path) -> None:
    x, _, y = data()
    once = onnxcal.calibrate(two_heads(), (x, y["kind"]), head="kind").proto
    assert once is not None
    twice = onnxcal.calibrate(once, (x, y["alarm"]), head="alarm").proto
    assert twice is not None
    found = {c.output: c.temperature for c in onnxcal.inspect(twice).calibrations}
    assert found == pytest.approx(expected(), rel=1e-6)


def test_labels_without_a_name_are_those_of_every_other_head() -> None:
    x, _, y = data()
    result = onnxcal.calibrate(
        two_heads(), {"x": x, "labels": y["kind"], "labels_alarm": y["alarm"]}, head=["kind", "alarm"]
    )
    found = {one.head.output: one.calibration.temperature for one in result.heads}
    assert found == pytest.approx(expected(), rel=1e-6)


def test_a_head_without_labels_is_named() -> None:
    x, _, y = data()
    with pytest.raises(DataError, match="no labels for 'alarm'"):
        onnxcal.calibrate(two_heads(), (x, {"kind": y["kind"]}), head=["kind", "alarm"])


def test_a_known_temperature_goes_into_each_head_that_is_named() -> None:
    result = onnxcal.patch(two_heads(), temperature=2.5, head=["kind", "alarm"])
    assert [head.output for head in result.heads] == ["kind", "alarm"]
    assert result.proto is not None
    assert [c.temperature for c in onnxcal.inspect(result.proto).calibrations] == [2.5, 2.5]


@pytest.mark.parametrize("option", [{"output_name": "p"}, {"save_calibration": "c.json"}], ids=str)
def test_options_that_mean_one_head_are_refused_for_several(option: dict[str, str]) -> None:
    x, _, y = data()
    with pytest.raises(UsageError, match="goes with one --head"):
        onnxcal.calibrate(two_heads(), (x, y), head=["kind", "alarm"], **option)  # type: ignore[arg-type]


def test_heads_that_share_their_probabilities_are_refused_as_two() -> None:
    twins = classifier(
        [softmax("logits", "p"), helper.make_node("Log", ["p"], ["log_p"])],
        output="p",
        more_outputs=[helper.make_tensor_value_info("log_p", TensorProto.FLOAT, ["N", 4])],
    )
    with pytest.raises(UsageError, match="same probabilities"):
        onnxcal.patch(twins, temperature=2.0, head=["p", "log_p"])


def chain(raw: bool = False) -> onnx.ModelProto:
    """x → Softmax `kind` → Softmax `sub`; or with raw logits as `kind`."""
    nodes = [node("MatMul", "kind u", "s"), softmax("s", "sub")]
    return classifier(
        [node("Identity", "logits", "kind") if raw else softmax("logits", "kind"), *nodes],
        output="kind",
        more_outputs=[helper.make_tensor_value_info("sub", TensorProto.FLOAT, ["N", 3])],
        initializers=[numpy_helper.from_array(np.eye(4, 3, dtype=np.float32), "u")],
    )


@pytest.mark.parametrize("order", [["kind", "sub"], ["sub", "kind"]])
def test_a_head_that_reads_the_probabilities_of_another_is_refused_beside_it(order: list[str]) -> None:
    """Before anything is fitted, and also where the first of the two is in the file already."""
    x, _, y = data()
    labels = {"kind": y["kind"], "sub": y["kind"] % 3}
    said = "'sub' is computed from the probabilities of 'kind'"
    with pytest.raises(UsageError, match=said):
        onnxcal.calibrate(chain(), (x, labels), head=order, progress=lambda *_: pytest.fail("it was run"))
    once = onnxcal.patch(chain(), temperature=2.0, head=order[0]).proto
    assert once is not None
    with pytest.raises(UsageError, match=said):
        onnxcal.patch(once, temperature=3.0, head=order[1])
    with pytest.raises(UsageError, match=said):
        onnxcal.calibrate(once, (x, labels[order[1]]), head=order[1], progress=lambda *_: pytest.fail("it was run"))
    again = onnxcal.calibrate(once, (x, labels[order[0]]), head=order[0], no_holdout=True)
    assert again.verification.passed


def test_a_head_that_reads_the_raw_logits_of_another_goes_with_it() -> None:
    """They stay raw for whoever else reads them."""
    x, _, y = data()
    labels = {"kind": y["kind"], "sub": y["kind"] % 3}
    both = onnxcal.calibrate(chain(raw=True), (x, labels), head=["kind", "sub"], no_holdout=True)
    alone = onnxcal.calibrate(chain(raw=True), (x, labels["sub"]), head="sub", no_holdout=True)
    assert both.verification.passed
    assert both.heads[1].calibration.temperature == alone.calibration.temperature


def test_a_head_that_is_none_is_refused() -> None:
    with pytest.raises(ModelError, match="no output 'nose'"):
        onnxcal.patch(two_heads(), temperature=2.0, head=["kind", "nose"])
