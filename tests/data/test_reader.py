"""onnxruntime's `CalibrationDataReader`, with the labels counted off in its order."""

from __future__ import annotations

import importlib.util
import json
import sys
import warnings

import numpy as np
import onnxruntime
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

import onnxcal
from onnxcal.data import open_source
from onnxcal.errors import DataError, UsageError
from tests.converters import best_temperature, softmax
from tests.reference.refusals import refused

X = np.arange(14, dtype=np.float32).reshape(7, 2)
Y = np.array([0, 1, 0, 1, 1, 0, 1])


class OneShot(CalibrationDataReader):
    """As in onnxruntime's own examples: an iterator over dicts, used up once read."""

    def __init__(self, sizes=(3, 1, 3)) -> None:
        self.stops = np.cumsum(sizes)
        self.start()

    def start(self) -> None:
        starts = np.concatenate([[0], self.stops[:-1]])
        self.items = iter([{"x": X[a:b]} for a, b in zip(starts, self.stops, strict=True)])

    def get_next(self):
        return next(self.items, None)


class Rewinding(OneShot):
    def rewind(self) -> None:
        self.start()


class RewindWithoutBody(OneShot):
    def rewind(self) -> None:
        raise NotImplementedError


class Duck:
    """Not derived from onnxruntime's class."""

    def __init__(self) -> None:
        self.inner = OneShot()

    def get_next(self):
        return self.inner.get_next()


def assert_all(source) -> None:
    batches = list(source.batches(1000))
    np.testing.assert_array_equal(np.concatenate([batch.inputs["x"] for batch in batches]), X)
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in batches]), Y)


@pytest.mark.parametrize("reader", [OneShot, Rewinding, RewindWithoutBody, Duck])
def test_labels_are_counted_off_in_order(reader):
    source = open_source(reader(), Y)
    assert source.n_samples == 7
    batches = list(source.batches(1000))
    assert [batch.size for batch in batches] == [3, 1, 3]
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in batches]), Y)
    np.testing.assert_array_equal(np.concatenate([batch.inputs["x"] for batch in batches]), X)


def test_a_reader_that_rewinds_is_read_again_and_again():
    source = open_source(Rewinding(), Y)
    for _ in range(3):
        assert_all(source)


def test_a_reader_is_left_at_its_first_batch():
    """onnxruntime's quantiser, which may be next, does not rewind."""
    reader = Rewinding()
    assert_all(open_source(reader, Y))
    np.testing.assert_array_equal(reader.get_next()["x"], X[:3])


def test_a_reader_that_quantised_a_model_before_is_rewound():
    reader = Rewinding()
    while reader.get_next() is not None:
        pass
    assert_all(open_source(reader, Y))


@pytest.mark.parametrize("reader", [OneShot, RewindWithoutBody, Duck])
def test_a_reader_that_cannot_rewind_is_read_again_like_any_generator(reader):
    source = open_source(reader(), Y)
    for _ in range(2):
        assert_all(source)


def test_batches_are_cut_to_size():
    assert [batch.size for batch in open_source(Rewinding(), Y).batches(2)] == [2, 1, 1, 2, 1]


def test_labels_may_be_rows():
    w = np.eye(2)[Y]
    batches = list(open_source(Rewinding(), w).batches(1000))
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in batches]), w)


def test_a_reader_without_labels_has_none():
    source = open_source(Rewinding())
    assert source.n_samples is None
    assert all(batch.labels is None for batch in source.batches(1000))


@pytest.mark.parametrize("n", [2, 6])
def test_too_few_labels_are_refused(n):
    with refused(DataError, "more samples than there are labels", str(n)):
        list(open_source(Rewinding(), Y[:n]).batches(1000))


def test_too_many_labels_are_refused():
    with refused(DataError, "7 samples", "8 labels"):
        list(open_source(Rewinding(), np.append(Y, 0)).batches(1000))


def test_what_goes_wrong_in_the_reader_is_named():
    class Failing(Rewinding):
        def get_next(self):
            raise OSError("disk gone")

    with refused(DataError, "the data reader raised OSError: disk gone"):
        list(open_source(Failing(), Y).batches(1000))


class WithLabels(Rewinding):
    labels = tuple(Y.tolist())


def test_labels_may_be_an_attribute_of_the_reader():
    source = open_source(WithLabels())
    assert source.n_samples == 7
    for _ in range(2):
        assert_all(source)


def test_labels_that_are_passed_come_before_those_of_the_reader():
    batches = list(open_source(WithLabels(), 1 - Y).batches(1000))
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in batches]), 1 - Y)


def test_a_reader_that_is_used_up_and_cannot_rewind_says_what_it_lacks():
    reader = OneShot()
    while reader.get_next() is not None:
        pass
    with refused(DataError, "yields no samples", hint="rewind()"):
        list(open_source(reader, Y).batches(1000))


def test_labels_by_head_are_refused():
    with refused(UsageError, "one array of labels"):
        open_source(Rewinding(), {"a": Y, "b": Y})


# As a user does it: quantise, then calibrate what was quantised

READER = """
import numpy as np
from onnxruntime.quantization import CalibrationDataReader

with np.load("digits.npz") as file:
    digits = dict(file)


class Digits(CalibrationDataReader):
    labels = digits["labels"]

    def __init__(self):
        self.rewind()

    def rewind(self):
        self.batches = iter(np.array_split(digits["image"], 16))

    def get_next(self):
        images = next(self.batches, None)
        return None if images is None else {"image": images}


class Unlabelled(Digits):
    labels = None


def batches():
    yield digits["image"], digits["labels"]


once = Unlabelled()


def same():
    return once
"""


@pytest.fixture
def folder(tmp_path, demo_data, monkeypatch):
    """The working directory, with the demo's model and data, its labels apart, and `reader.py`."""
    for name in ("digits.onnx", "digits.npz"):
        (tmp_path / name).write_bytes((demo_data / name).read_bytes())
    with np.load(tmp_path / "digits.npz") as digits:
        np.save(tmp_path / "labels.npy", digits["labels"])
    (tmp_path / "reader.py").write_text(READER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("onnxcal_data_reader", None)


def test_the_reader_that_quantised_a_model_calibrates_it(folder):
    """The T of all samples, against that of float64 logits of the very file that was quantised."""
    spec = importlib.util.spec_from_file_location("onnxcal_data_reader", folder / "reader.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    reader = module.Digits()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of onnxruntime about onnx's deprecations
        quantize_static("digits.onnx", "int8.onnx", reader, quant_format=QuantFormat.QDQ, per_channel=True)
    result = onnxcal.calibrate("int8.onnx", reader, output="calibrated.onnx", bootstrap=0)
    images, labels = module.digits["image"], module.digits["labels"]
    z = onnxruntime.InferenceSession("int8.onnx").run(None, {"image": images})[0]
    assert result.head.quantized
    assert result.calibration.n_samples == len(labels)
    assert result.calibration.temperature == pytest.approx(best_temperature(z, labels), rel=1e-4)
    found = onnxruntime.InferenceSession("calibrated.onnx").run(None, {"image": images})[0]
    np.testing.assert_allclose(found, softmax(z.astype(np.float64) / result.calibration.temperature), atol=1e-5)


@pytest.mark.parametrize("words", [["reader.py:Digits"], ["reader.py:same", "--labels", "labels.npy"]])
def test_command_line_takes_a_reader_by_its_name(folder, cli, words):
    found = cli("evaluate", "digits.onnx", "--data", *words, "--json")
    assert found.exit_code == 0, found.stderr
    expected = onnxcal.evaluate("digits.onnx", "digits.npz").metrics
    assert json.loads(found.stdout)["metrics"]["nll"] == pytest.approx(expected.nll, rel=1e-12)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["reader.py:batches", "--labels", "labels.npy"], "--labels does not go with reader.py:batches"),
        (["reader.py:Unlabelled"], "labels"),
        (["reader.py:Digits", "--labels", "digits.onnx"], "digits.onnx"),
    ],
)
def test_command_line_says_what_labels_are_missing_or_too_many(folder, cli, words, said):
    found = cli("calibrate", "digits.onnx", "--data", *words)
    assert found.exit_code == 2
    assert found.stderr.startswith("onnxcal: error:")
    assert said in found.stderr
    assert not (folder / "digits.calibrated.onnx").exists()
