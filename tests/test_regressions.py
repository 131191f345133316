"""Wrong numbers that once came out with exit code 0: each is refused, or right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxcal
from onnxcal.errors import DataError, ModelError
from tests.builders import classifier, labelled_data, model, save, softmax
from tests.reference.likelihood import best_temperature, one_hot


def time_major() -> onnx.ModelProto:
    """x (N, 8, 4) → logits (8, N, 3): the batch is on the second axis of the logits."""
    w = numpy_helper.from_array(np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32), "w")
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["z"]),
            helper.make_node("Transpose", ["z"], ["t"], perm=[1, 0, 2]),
            softmax("t", "p", axis=2),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8, 4])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, [8, "N", 3])],
        [w],
    )
    return model(graph)


@pytest.mark.parametrize("batch_size", [8, 64])
def test_time_major_logits_are_those_of_their_samples_whatever_the_sizes(batch_size: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(64, 8, 4)).astype(np.float32)
    z = x.astype(np.float64) @ numpy_helper.to_array(time_major().graph.initializer[0]).astype(np.float64)
    y = (0.5 * z + rng.gumbel(size=z.shape)).argmax(axis=2)
    collected = onnxcal.collect_logits(time_major(), (x, y), batch_size=batch_size)
    np.testing.assert_allclose(collected.values, z.reshape(-1, 3), rtol=1e-5, atol=1e-6)
    assert (collected.labels == y.reshape(-1)).all()
    result = onnxcal.calibrate(time_major(), (x, y), batch_size=batch_size)
    expected = best_temperature(z.reshape(-1, 3), one_hot(y.reshape(-1), 3))
    assert result.calibration.temperature == pytest.approx(expected, rel=1e-6)
    assert result.verification.passed


def test_a_stored_fit_is_patched_into_the_head_that_its_logits_came_from(cli, tmp_path: Path) -> None:
    raw = helper.make_tensor_value_info("aux", TensorProto.FLOAT, ["N", 4])
    two = classifier(
        [softmax(), helper.make_node("Gemm", ["x", "w", "b"], ["aux"])], output="probs", more_outputs=[raw]
    )
    path = save(two, tmp_path / "two.onnx")
    x, y = labelled_data()
    np.savez(tmp_path / "d.npz", x=x, labels=y)
    assert cli("logits", path, "--data", tmp_path / "d.npz", "--head", "aux", "-o", tmp_path / "z.npz").exit_code == 0
    assert cli("fit", tmp_path / "z.npz", "-o", tmp_path / "c.json").exit_code == 0
    result = cli("patch", path, "--calibration", tmp_path / "c.json", "-o", tmp_path / "o.onnx", "--json")
    assert json.loads(result.stdout)["head"]["output"] == "aux"


def test_probabilities_are_not_fitted_as_logits() -> None:
    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.ones(4), 300)
    y = np.array([rng.choice(4, p=row) for row in p])
    with pytest.raises(DataError, match="probabilities") as caught:
        onnxcal.fit(p, y)
    assert "np.log" in (caught.value.hint or "")
    assert onnxcal.fit(np.log(p), y).temperature == pytest.approx(1, abs=0.3)


def test_probabilities_that_are_forced_to_be_logits_are_calibrated_with_a_warning() -> None:
    x, y = labelled_data()
    result = onnxcal.calibrate(classifier([softmax()], output="probs"), (x, y), activation="none")
    assert any("double softmax" in warning for warning in result.warnings)


def test_probabilities_out_of_a_linear_layer_are_not_calibrated_as_logits() -> None:
    _, y = labelled_data()
    p = np.random.default_rng(0).dirichlet(np.ones(4), size=6)
    rows = np.eye(6, dtype=np.float32)[np.arange(len(y)) % 6]
    model = classifier()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(p.astype(np.float32), "w"))
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.zeros(4, np.float32), "b"))
    with pytest.raises(DataError, match=r"'logits'.*holds probabilities"):
        onnxcal.calibrate(model, (rows, y))


def test_values_that_are_clipped_to_an_interval_are_no_logits() -> None:
    bounds = [numpy_helper.from_array(np.float32(v), n) for v, n in ((0, "lo"), (1, "hi"))]
    clipped = classifier([helper.make_node("Clip", ["logits", "lo", "hi"], ["c"])], output="c", initializers=bounds)
    with pytest.raises(ModelError, match="Clip"):
        onnxcal.patch(clipped, temperature=2.0)


def test_a_patched_output_is_found_under_its_new_name() -> None:
    x, y = labelled_data()
    renamed = onnxcal.calibrate(classifier([softmax()], output="probs"), (x, y), output_name="p").proto
    assert renamed is not None
    plain = onnxcal.collect_logits(classifier([softmax()], output="probs"), (x, y))
    np.testing.assert_array_equal(onnxcal.collect_logits(renamed, (x, y), head="p").values, plain.values)


def test_evaluation_data_may_have_their_labels_apart(tmp_path: Path) -> None:
    x, y = labelled_data()
    for name, array in (("x", x), ("y", y)):
        np.save(tmp_path / f"{name}.npy", array)
    result = onnxcal.calibrate(
        classifier([softmax()], output="probs"),
        (x, y),
        eval_data=tmp_path / "x.npy",
        eval_labels=tmp_path / "y.npy",
    )
    assert result.metrics.split == "eval"
    assert result.metrics.n_samples == 200


def test_a_gate_that_says_no_tells_scripts_what_it_saw(cli, demo_data: Path, tmp_path: Path) -> None:
    result = cli(
        "calibrate", demo_data / "digits.onnx", "--data", demo_data / "digits.npz", "-o", tmp_path / "o.onnx",
        "--max-ece", "0.001", "--json",
    )  # fmt: skip
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["metrics"]["after"]["ece"] > 0.001
    assert "--max-ece" in document["error"]
    assert not (tmp_path / "o.onnx").exists()
