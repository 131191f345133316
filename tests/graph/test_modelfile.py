"""Opening model files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import onnx
import pytest

from onnxcal.errors import ModelError
from onnxcal.graph.mapped import ModelBytes
from onnxcal.graph.modelfile import ModelFile, open_model
from onnxcal.graph.skeleton import GRAPH_NODE
from tests.builders import classifier, save, softmax
from tests.corpus.files import FILES
from tests.corpus.form import Form
from tests.corpus.wire import graph_records


@pytest.fixture
def model() -> onnx.ModelProto:
    return classifier([softmax()], output="probs")


def test_a_path_a_string_and_a_model_in_memory_are_the_same(model: onnx.ModelProto, tmp_path: Path) -> None:
    path = save(model, tmp_path / "m.onnx")
    files = [open_model(path), open_model(str(path)), open_model(model)]
    assert len({file.sha256 for file in files}) == 1
    assert files[0].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert all(file.skeleton == model for file in files)
    assert [file.folder for file in files] == [tmp_path, tmp_path, None]


def test_an_open_model_is_passed_through(model: onnx.ModelProto) -> None:
    file = open_model(model)
    assert open_model(file) is file


def test_opening_leaves_a_model_in_memory_as_it_is(model: onnx.ModelProto) -> None:
    before = model.SerializeToString()
    open_model(model).skeleton.graph.node[0].name = "changed"
    assert model.SerializeToString() == before


@pytest.mark.parametrize("form", FILES, ids=str)
def test_records_of_the_graph_are_those_that_stand_in_the_file(form: Form) -> None:
    data = form.data()
    whole = onnx.ModelProto.FromString(data)
    file = ModelFile(ModelBytes("it", data))
    nodes = [data[f.start : f.end] for f in file.graph_records(GRAPH_NODE)]
    assert nodes == [record for field, record, _ in graph_records(data) if field == 1 and record[0] & 7 == 2]
    assert len(nodes) == len(whole.graph.node)


def test_a_file_that_may_not_be_read_is_refused(model: onnx.ModelProto, tmp_path: Path, monkeypatch) -> None:
    path = save(model, tmp_path / "m.onnx")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr("builtins.open", refused)
    with pytest.raises(ModelError, match="Permission denied"):
        open_model(path)


@pytest.mark.parametrize(
    ("domains", "expected"), [([("", 17)], 17), ([("ai.onnx", 12)], 12), ([("ai.onnx.ml", 3)], None)]
)
def test_opset_is_that_of_the_default_domain(model: onnx.ModelProto, domains: list, expected: int | None) -> None:
    del model.opset_import[:]
    for domain, version in domains:
        model.opset_import.add(domain=domain, version=version)
    assert open_model(model).opset() == expected
