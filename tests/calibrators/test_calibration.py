"""`Calibration`: applied against scipy and torch, and read back from JSON."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import expit, softmax

from onnxcal.calibrators import Calibration, Divide, fit
from onnxcal.errors import DataError, UsageError
from tests.reference.refusals import refused

RNG = np.random.default_rng(0)


# apply


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_multiclass_probabilities_are_the_softmax_of_z_over_t(dtype):
    z = (5 * RNG.normal(size=(50, 7))).astype(dtype)
    p = Calibration(1.7).apply(z)
    assert p.dtype == np.float64
    np.testing.assert_allclose(p, softmax(z.astype(np.float64) / 1.7, axis=1), rtol=1e-13)


@pytest.mark.parametrize("shape", [(50,), (50, 1)])
def test_one_logit_a_sample_is_a_sigmoid(shape):
    z = 5 * RNG.normal(size=shape)
    np.testing.assert_allclose(Calibration(0.6).apply(z), expit(z / 0.6), rtol=1e-13)


def test_multilabel_probabilities_are_sigmoids():
    z = 5 * RNG.normal(size=(50, 7))
    np.testing.assert_allclose(Calibration(1.7, task="multilabel").apply(z), expit(z / 1.7), rtol=1e-13)


@pytest.mark.parametrize(("shape", "axis"), [((2, 3, 4, 5), None), ((2, 3, 4), -1), ((2, 3, 4, 5), 2), ((3, 9), 0)])
def test_probabilities_have_the_logits_shape_and_sum_to_one_over_the_class_axis(shape, axis):
    z = RNG.normal(size=shape)
    p = Calibration(1.7).apply(z, axis=axis)
    wanted = torch.softmax(torch.tensor(z) / 1.7, dim=1 if axis is None else axis).numpy()
    np.testing.assert_allclose(p, wanted, rtol=1e-13)


@pytest.mark.parametrize("axis", [1, 2])
def test_dense_multilabel_keeps_its_shape(axis):
    z = RNG.normal(size=(2, 3, 4))
    np.testing.assert_allclose(Calibration(2.0, task="multilabel").apply(z, axis=axis), expit(z / 2), rtol=1e-13)


def test_dense_binary_keeps_its_shape():
    z = RNG.normal(size=(2, 1, 4, 4))
    np.testing.assert_allclose(Calibration(2.0, task="binary").apply(z), expit(z / 2), rtol=1e-13)


def test_the_fitted_task_is_the_one_that_is_applied():
    z, y = RNG.normal(size=(40, 3)), RNG.integers(0, 2, (40, 3))
    y[:30] = z[:30] > 0
    calibration = fit(z, y, task="multilabel")
    np.testing.assert_allclose(calibration.apply(z), expit(z / calibration.temperature), rtol=1e-13)
    np.testing.assert_allclose(
        calibration.apply(z, task="multiclass"), softmax(z / calibration.temperature, axis=1), rtol=1e-13
    )


def test_a_list_or_a_torch_tensor_will_do():
    z = RNG.normal(size=(4, 3))
    wanted = softmax(z / 1.7, axis=1)
    np.testing.assert_allclose(Calibration(1.7).apply(z.tolist()), wanted, rtol=1e-13)
    np.testing.assert_allclose(Calibration(1.7).apply(torch.tensor(z, requires_grad=True)), wanted, rtol=1e-13)
    bfloat = torch.tensor(z).bfloat16()
    np.testing.assert_allclose(
        Calibration(1.7).apply(bfloat.float()), torch.softmax(bfloat.double() / 1.7, 1).numpy(), rtol=1e-13
    )


def test_extreme_logits_give_zero_and_one_without_overflow():
    np.testing.assert_array_equal(Calibration(0.01).apply([[1e4, -1e4]]), [[1.0, 0.0]])
    np.testing.assert_array_equal(Calibration(0.01).apply([1e4, -1e4]), [1.0, 0.0])


def test_a_masked_class_has_probability_zero():
    np.testing.assert_allclose(Calibration(2.0).apply([[-np.inf, 2.0, 0.0]]), [[0, expit(1), expit(-1)]], rtol=1e-13)


GRID = st.integers(-3200, 3200).map(lambda i: i / 16)


@given(
    arrays.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(2, 6)), elements=GRID),
    st.floats(-2, 2).map(lambda e: 10**e),
)
def test_argmax_is_unchanged_by_temperature(z, t):
    np.testing.assert_array_equal(Calibration(t).apply(z).argmax(axis=1), z.argmax(axis=1))


@given(
    arrays.arrays(np.float32, st.integers(1, 9), elements=GRID),
    st.floats(-2, 2).map(lambda e: 10**e),
)
def test_the_predicted_side_of_a_binary_logit_is_unchanged_by_temperature(s, t):
    np.testing.assert_array_equal(Calibration(t).apply(s) > 0.5, s > 0)


@given(arrays.arrays(np.float64, (3, 4), elements=GRID), st.floats(-2, 2).map(lambda e: 10**e))
def test_probabilities_are_probabilities(z, t):
    p = Calibration(t).apply(z)
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-13)


def test_integers_are_no_logits():
    with refused(DataError, "int64"):
        Calibration(1.7).apply(np.array([[1, 2]]))


@pytest.mark.parametrize("axis", [2, 5, -3])
def test_an_axis_that_is_not_there_is_refused(axis):
    with refused(DataError, "(4, 3)", "axis"):
        Calibration(1.7).apply(np.zeros((4, 3)), axis=axis)


# The record


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_calibration_has_a_positive_finite_temperature(value):
    with refused(UsageError, "positive"):
        Calibration(value)


def test_a_calibration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Calibration(1.7).temperature = 2.0  # type: ignore[misc]


def test_a_calibration_says_what_it_does_as_plain_data():
    assert Calibration(1.7).steps() == (Divide(1.7),)


def test_json_has_the_keys_of_the_contract():
    document = Calibration(1.7, stderr=0.02, objective="nll", n_samples=500, converged=True).as_json()
    contract = {"method": "temperature", "temperature": 1.7, "stderr": 0.02, "objective": "nll", "n_samples": 500}
    assert contract.items() <= document.items()
    assert document["converged"] is True


def document(calibration: Calibration) -> str:
    return json.dumps({"schema": "onnxcal/1", "calibration": calibration.as_json(), "metrics": {}, "warnings": []})


@pytest.mark.parametrize(
    "calibration",
    [
        Calibration(1.7),
        Calibration(1 / 3, stderr=0.1 + 0.2, objective="nll", n_samples=7, converged=True, task="binary"),
        Calibration(2.5, output="scores", data_sha256="ab" * 32, task="multilabel"),
    ],
)
def test_a_calibration_is_the_same_when_read_back(tmp_path, calibration):
    path = tmp_path / "cal.json"
    path.write_text(document(calibration), encoding="utf-8")
    assert Calibration.load(path) == calibration
    assert Calibration.load(str(path)) == calibration


def test_keys_of_later_versions_are_left_alone():
    assert Calibration.from_dict({"temperature": 2, "colour": "blue"}, where="here") == Calibration(2.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("[]", "schema onnxcal/1"),
        ("{}", "schema onnxcal/1"),
        ('{"schema": "onnxcal/2", "calibration": {"temperature": 1.5}}', "schema onnxcal/1"),
        ('{"schema": "onnxcal/1"}', "no number calibration.temperature"),
        ('{"schema": "onnxcal/1", "calibration": null}', "no number calibration.temperature"),
        ('{"schema": "onnxcal/1", "calibration": {"temperature": "1.5"}}', "no number calibration.temperature"),
        ('{"schema": "onnxcal/1", "calibration": {"temperature": 0}}', "not a positive, finite number"),
        ('{"schema": "onnxcal/1", "calibration": {"temperature": NaN}}', "not a positive, finite number"),
        ('{"schema": "onnxcal/1", "calibration": {"temperature": Infinity}}', "not a positive, finite number"),
        ('{"schema": "onnxcal/1", "calibration": {"temperature": 1.5, "method": "isotonic"}}', "'isotonic'"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused(tmp_path, text, said):
    path = tmp_path / "cal.json"
    path.write_text(text)
    with refused(DataError, str(path), said):
        Calibration.load(path)


def test_a_file_of_bytes_is_refused(tmp_path):
    path = tmp_path / "cal.json"
    path.write_bytes(b"\xff\xfe\x00binary")
    with refused(DataError, "is not JSON"):
        Calibration.load(path)


@pytest.mark.parametrize("name", ["nope.json", ""])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name):
    with refused(DataError, "cannot read calibration", str(tmp_path)):
        Calibration.load(tmp_path / name)


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": True},
        {"temperature": 10**400},
        {"temperature": 1.5, "task": "regression"},
        {"temperature": 1.5, "stderr": "small"},
        {"temperature": 1.5, "n_samples": "many"},
        {"temperature": 1.5, "output": 7},
    ],
)
def test_a_value_of_the_wrong_type_is_refused(values):
    with refused(DataError, "the metadata of 'm.onnx'"):
        Calibration.from_dict(values, where="the metadata of 'm.onnx'")


def test_a_record_hides_what_machines_do_not_agree_on() -> None:
    """As measured between processors with and without AVX2: 2e-9 of T, 5e-7 of its standard errors."""
    one = Calibration(
        2.882560665778601, stderr=0.0765696145993312, robust_stderr=0.07930111987901901, tested=1.2345678e-9
    )
    other = Calibration(
        2.882560660593379, stderr=0.0765696234809418, robust_stderr=0.0793011384136428, tested=1.2345679e-9
    )
    assert one.as_json() != other.as_json()
    assert one.as_record("float32") == other.as_record("float32") == one.as_record("float16")


@pytest.mark.parametrize("t", [1.0, 1.7, 3.4780904057215944, 1e-30, 1.2e38, 389.123456789])
def test_a_record_holds_the_temperature_that_a_graph_of_its_type_divides_by(t: float) -> None:
    single, double = (Calibration(t).as_record(dtype)["temperature"] for dtype in ("float32", "float64"))
    assert np.float32(single) == np.float32(t)
    assert len(f"{single!r}".split("e")[0].replace(".", "").strip("0")) <= 9
    assert double == t


@pytest.mark.parametrize("t", [1e-300, 1e-42, 1e300])
def test_a_temperature_beyond_the_range_of_float32_is_recorded_as_it_is(t: float) -> None:
    assert Calibration(t).as_record("float32")["temperature"] == t


def test_what_the_user_gave_is_recorded_in_full() -> None:
    record = Calibration(2.0, stderr=0.1, prior=0.123456789, smoothing=0.0123456789).as_record("float32")
    assert (record["prior"], record["smoothing"]) == (0.123456789, 0.0123456789)
