"""What a patched model says about itself."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

import onnxcal
from onnxcal.errors import ModelError
from onnxcal.graph.mapped import ModelBytes
from onnxcal.graph.metadata import CalibratedHead, calibrated_heads, metadata_records, undo_of
from onnxcal.graph.modelfile import ModelFile, open_model
from tests.builders import classifier, save, softmax

HEAD = {"output": 'p"\\ü✓😀', "logits": "a/b:0", "task": "multiclass", "activation": "softmax", "axis": 1}
ENTRY = CalibratedHead(HEAD, {"method": "temperature", "temperature": 0.1 + 0.2}, "neu", True)
MODEL = classifier([softmax()], output="probs").SerializeToString()


def test_what_is_written_is_read_back() -> None:
    undo = {"graph": {"1": {"added": [1], "old": {"2": "AAA="}}}, "lengths": [0]}
    file = ModelFile(ModelBytes("it", MODEL + metadata_records("1.2", [ENTRY, ENTRY], undo, "c0ffee")))
    assert calibrated_heads(file) == (ENTRY, ENTRY)
    assert (undo_of(file).edit, undo_of(file).sha256) == (undo, "c0ffee")


def test_entries_are_plain_ascii_json() -> None:
    """Whatever reads metadata_props elsewhere (web, mobile) can read them."""
    model = onnx.ModelProto.FromString(MODEL + metadata_records("1.2", [ENTRY], {}, "c0ffee"))
    assert [prop.key for prop in model.metadata_props] == ["onnxcal.calibration", "onnxcal.undo"]
    for prop in model.metadata_props:
        assert prop.value.isascii()
        json.loads(prop.value)


def test_numbers_that_json_does_not_know_are_an_error() -> None:
    bad = CalibratedHead(HEAD, {"temperature": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        metadata_records("1.2", [bad], {}, "c0ffee")


def test_a_model_without_entries_has_no_calibration() -> None:
    file = open_model(classifier([softmax()], output="probs"))
    assert calibrated_heads(file) == ()
    with pytest.raises(ModelError, match="not patched"):
        undo_of(file)


@pytest.mark.parametrize("value", ["", "{", "[]", "3", '{"format":1}', '{"format":1,"heads":[{"head":{}}]}'])
def test_entries_that_cannot_be_read_are_refused(value: str) -> None:
    model = classifier([softmax()], output="probs")
    model.metadata_props.add(key="onnxcal.calibration", value=value)
    with pytest.raises(ModelError, match=r"cannot be read|another version") as caught:
        calibrated_heads(open_model(model))
    assert caught.value.hint


def test_entries_of_a_later_format_are_refused_with_its_version() -> None:
    model = classifier([softmax()], output="probs")
    model.metadata_props.add(key="onnxcal.calibration", value='{"format": 7, "version": "9.9"}')
    with pytest.raises(ModelError, match=r"9\.9"):
        calibrated_heads(open_model(model))


def test_nothing_of_the_machine_or_the_day_is_written(tmp_path: Path) -> None:
    written = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = save(classifier([softmax()], output="probs"), tmp_path / folder / f"{folder}.onnx")
        onnxcal.patch(path, temperature=2, output=tmp_path / folder / "out.onnx")
        written.append((tmp_path / folder / "out.onnx").read_bytes())
    assert written[0] == written[1]
    assert str(tmp_path).encode() not in written[0]


def test_other_entries_stay_when_the_patch_goes(tmp_path: Path) -> None:
    model = classifier([softmax()], output="probs")
    for key, value in (("onnxcal", "mine"), ("onnxcal.note", "mine too"), ("a", "1"), ("a", "2")):
        model.metadata_props.add(key=key, value=value)
    path = save(model, tmp_path / "m.onnx")
    onnxcal.patch(path, temperature=2, output=tmp_path / "out.onnx")
    onnxcal.revert(tmp_path / "out.onnx", output=tmp_path / "back.onnx")
    assert (tmp_path / "back.onnx").read_bytes() == path.read_bytes()
