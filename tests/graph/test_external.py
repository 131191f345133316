"""External data: read where the model says, copied where it must be, and nothing outside the folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnxcal
from onnxcal.errors import ModelError, OnnxcalError, UsageError
from onnxcal.graph.external import external_files, external_locations
from onnxcal.graph.modelfile import open_model
from onnxcal.verification import verify
from tests.builders import classifier, softmax
from tests.corpus.form import node

X = np.random.default_rng(5).normal(size=(9, 600)).astype(np.float32)


def external(folder: Path, location: str = "m.data", *, write: bool = True) -> Path:
    """A model `m.onnx` whose weights are said to be at `location`."""
    folder.mkdir(exist_ok=True)
    model = classifier([softmax()], output="probs", features=600, scale=0.1)
    tensor = model.graph.initializer[0]
    payload = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "64", "length": str(len(payload))}.items():
        tensor.external_data.add(key=key, value=value)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    if write:
        path = folder / location
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(64) + payload)
    return folder / "m.onnx"


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("location", ["m.data", "weights/m.data", "./m.data", "a b/ü.bin", "m..data", "..m.data"])
def test_data_stay_where_they_are_when_the_output_lies_beside_the_model(tmp_path: Path, location: str) -> None:
    path = external(tmp_path / "a", location)
    before = tree(tmp_path)
    onnxcal.patch(path, temperature=2, output=tmp_path / "a" / "out.onnx")
    after = tree(tmp_path)
    assert {name: data for name, data in after.items() if name in before} == before
    assert set(after) - set(before) == {os.path.join("a", "out.onnx")}
    assert verify(path, tmp_path / "a" / "out.onnx", X).verification.passed


@pytest.mark.parametrize("location", ["m.data", "weights/deep/m.data"])
def test_data_are_really_copied_to_another_folder(tmp_path: Path, location: str) -> None:
    path = external(tmp_path / "a", location)
    (tmp_path / "b").mkdir()
    out = tmp_path / "b" / "out.onnx"
    onnxcal.patch(path, temperature=2, output=out)
    copy = tmp_path / "b" / location
    assert copy.read_bytes() == (tmp_path / "a" / location).read_bytes()
    assert not copy.is_symlink()
    assert copy.stat().st_nlink == 1
    assert set(tree(tmp_path / "b")) == {"out.onnx", location}
    assert verify(path, out, X).verification.passed
    (tmp_path / "c").mkdir()
    onnxcal.revert(out, output=tmp_path / "c" / "m.onnx")
    assert tree(tmp_path / "c") == tree(tmp_path / "a")


def outside(folder: Path) -> Path:
    """A copy of the weights outside the model's folder."""
    external(folder / "elsewhere")
    return folder / "elsewhere" / "m.data"


def missing(folder: Path) -> Path:
    return external(folder / "a", write=False)


def absolute(folder: Path) -> Path:
    return external(folder / "a", str(outside(folder).resolve()), write=False)


def through_the_parent(folder: Path) -> Path:
    outside(folder)
    return external(folder / "a", "../elsewhere/m.data", write=False)


def back_into_its_own_folder(folder: Path) -> Path:
    external(folder / "a")
    return external(folder / "a", "../a/m.data", write=False)


def with_backslashes(folder: Path) -> Path:
    outside(folder)
    return external(folder / "a", "..\\elsewhere\\m.data", write=False)


def on_a_drive(folder: Path) -> Path:
    return external(folder / "a", "C:\\m.data", write=False)


def symlink_out(folder: Path) -> Path:
    target = outside(folder)
    path = external(folder / "a", write=False)
    (folder / "a" / "m.data").symlink_to(target)
    return path


def symlinked_folder(folder: Path) -> Path:
    outside(folder)
    path = external(folder / "a", "link/m.data", write=False)
    (folder / "a" / "link").symlink_to(folder / "elsewhere")
    return path


def hard_link(folder: Path) -> Path:
    target = outside(folder)
    path = external(folder / "a", write=False)
    os.link(target, folder / "a" / "m.data")
    return path


def empty_location(folder: Path) -> Path:
    return external(folder / "a", "", write=False)


def a_folder_instead(folder: Path) -> Path:
    path = external(folder / "a", write=False)
    (folder / "a" / "m.data").mkdir()
    return path


UNSAFE = [
    missing,
    absolute,
    through_the_parent,
    back_into_its_own_folder,
    with_backslashes,
    on_a_drive,
    symlink_out,
    symlinked_folder,
    hard_link,
    empty_location,
    a_folder_instead,
]


@pytest.mark.parametrize("make", UNSAFE, ids=lambda make: make.__name__)
@pytest.mark.parametrize("target", ["a/out.onnx", "b/out.onnx"])
def test_unsafe_and_missing_data_are_refused_before_anything_is_written(make, target: str, tmp_path: Path) -> None:
    path = make(tmp_path)
    (tmp_path / "b").mkdir()
    before = tree(tmp_path)
    with pytest.raises(ModelError, match="external data") as caught:
        onnxcal.patch(path, temperature=2, output=tmp_path / target)
    assert caught.value.hint
    assert tree(tmp_path) == before


@pytest.mark.parametrize("make", UNSAFE, ids=lambda make: make.__name__)
def test_unsafe_data_are_not_run(make, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="external data"):
        onnxcal.collect_logits(make(tmp_path), X, labels=np.zeros(9, int))


def test_inspecting_needs_no_data(tmp_path: Path) -> None:
    assert onnxcal.inspect(missing(tmp_path)).external_data == ("m.data",)


def test_a_model_in_memory_with_external_data_is_refused(tmp_path: Path) -> None:
    model = onnx.ModelProto.FromString(external(tmp_path / "a").read_bytes())
    with pytest.raises(ModelError, match="not read from a file"):
        external_files(open_model(model))


def test_other_data_of_the_same_name_are_not_replaced_without_force(tmp_path: Path) -> None:
    path = external(tmp_path / "a")
    (tmp_path / "b").mkdir()
    other = tmp_path / "b" / "m.data"
    other.write_bytes(b"another model's")
    with pytest.raises(UsageError, match="other contents"):
        onnxcal.patch(path, temperature=2, output=tmp_path / "b" / "out.onnx")
    assert tree(tmp_path / "b") == {"m.data": b"another model's"}
    onnxcal.patch(path, temperature=2, output=tmp_path / "b" / "out.onnx", force=True)
    assert verify(path, tmp_path / "b" / "out.onnx", X).verification.passed


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("folder", ["a", "b"])
def test_the_output_is_not_written_over_the_models_own_data(tmp_path: Path, folder: str, force: bool) -> None:
    path = external(tmp_path / "a")
    (tmp_path / "b").mkdir()
    before = tree(tmp_path)
    with pytest.raises(OnnxcalError):
        onnxcal.patch(path, temperature=2, output=tmp_path / folder / "m.data", force=force)
    assert tree(tmp_path) == before


def test_locations_are_found_wherever_a_tensor_can_stand() -> None:
    def tensor(location: str) -> onnx.TensorProto:
        made = TensorProto(data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
        made.external_data.add(key="location", value=location)
        return made

    branch = helper.make_graph([node("Constant", [], "c", value=tensor("attribute"))], "g", [], [])
    branch.initializer.append(tensor("subgraph"))
    made = classifier([softmax(), node("If", "y", "c", then_branch=branch)], output="probs")
    made.graph.initializer.append(tensor("initializer"))
    made.graph.initializer.append(tensor("initializer"))
    sparse = made.graph.sparse_initializer.add()
    sparse.values.CopyFrom(tensor("values"))
    sparse.indices.CopyFrom(tensor("indices"))
    made.training_info.add().initialization.initializer.append(tensor("training"))
    made.functions.append(
        helper.make_function(
            "m", "F", [], ["c"], [node("Constant", [], "c", value=tensor("function"))], [helper.make_opsetid("", 17)]
        )
    )
    assert sorted(external_locations(open_model(made))) == sorted(
        ["attribute", "subgraph", "initializer", "values", "indices", "training", "function"]
    )


def test_weights_are_read_from_the_offset(tmp_path: Path) -> None:
    """The reference for the copies above: what the model computes with its data in one file."""
    inline = classifier([softmax()], output="probs", features=600, scale=0.1)
    path = external(tmp_path / "a")
    out = tmp_path / "a" / "out.onnx"
    onnxcal.patch(path, temperature=2, output=out)
    assert verify(inline, onnxcal.patch(inline, temperature=2).proto, X).verification.passed
    rows = [onnxcal.collect_logits(m, X, labels=np.zeros(9, int)).values for m in (inline, path, out)]
    assert rows[0].tobytes() == rows[1].tobytes() == rows[2].tobytes()
