"""What cannot be patched is refused in one sentence, and nothing is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from onnxcal.graph.inspect import inspect
from onnxcal.graph.modelfile import open_model
from tests.builders import classifier, softmax
from tests.corpus.form import Refusal, attempt
from tests.corpus.refusals import REFUSALS


@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
def test_it_is_refused_in_one_sentence_with_a_hint(refusal: Refusal, tmp_path: Path, cli) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(refusal.data())
    options = refusal.options if "--temperature" in refusal.options else ("--temperature", "1.7", *refusal.options)
    result = cli("patch", model, *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    message, hint = result.stderr.rstrip("\n").split("\n")
    assert message.startswith("onnxcal: error: ")
    assert re.search(refusal.says, message + hint)
    assert hint.startswith("  hint: ")
    for not_for_users in ("Traceback", "internal error", "bug in onnxcal"):
        assert not_for_users not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    assert model.read_bytes() == refusal.data()


def test_a_folder_is_refused(tmp_path: Path, cli) -> None:
    result = cli("patch", tmp_path, "--temperature", "1.7")
    assert result.exit_code == 2
    assert "folder" in result.stderr


def test_a_missing_file_is_refused(tmp_path: Path, cli) -> None:
    result = cli("patch", tmp_path / "m.onnx", "--temperature", "1.7")
    assert result.exit_code == 2
    assert "m.onnx" in result.stderr


@pytest.mark.parametrize("producer", ["ORTModule", "TFL3", "ORTM"])
def test_a_model_is_not_taken_for_another_format_by_its_producer(producer: str) -> None:
    model = classifier([softmax()], output="probs")
    model.producer_name = producer
    assert inspect(model).heads


def test_a_file_cut_off_anywhere_is_refused_or_still_a_whole_message(tmp_path: Path) -> None:
    """Only between two fields of the model itself can a file end unnoticed: protobuf has no end mark."""
    model = classifier([softmax()], output="probs")
    model.metadata_props.add(key="author", value="somebody")
    data = model.SerializeToString()
    path = tmp_path / "m.onnx"
    opened = 0
    for length in range(len(data)):
        path.write_bytes(data[:length])
        found, error = attempt(lambda: inspect(open_model(path)))
        opened += found is not None
        assert error is None or ("\n" not in error.message and error.hint)
    assert opened == 2  # without the metadata and the opset import, and without the metadata
