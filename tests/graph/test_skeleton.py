"""The skeleton is the parsed model with large payloads cleared, and nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from onnxcal.graph.edit import GraphEdit
from onnxcal.graph.mapped import ModelBytes
from onnxcal.graph.modelfile import ModelFile, open_model
from onnxcal.graph.skeleton import SMALL, skeleton
from onnxcal.graph.write import join
from tests.builders import classifier, softmax
from tests.corpus.form import attempt, node, weights

BACKEND = Path(onnx.__file__).parent / "backend" / "test" / "data"
LIGHT = sorted(BACKEND.glob("light/*.onnx"))
OTHERS = sorted(path for path in BACKEND.rglob("*.onnx") if path.parent.name != "light")
CORPUS = LIGHT + random.Random(0).sample(OTHERS, min(100, len(OTHERS)))
PAYLOADS = ("float_data", "int32_data", "string_data", "int64_data", "raw_data", "double_data", "uint64_data")


def without_payloads(message):
    """The same message with the payload of every tensor cleared, found by walking its descriptors."""
    if message.DESCRIPTOR.name == "TensorProto":
        for name in PAYLOADS:
            message.ClearField(name)
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for child in value if not hasattr(value, "ListFields") else [value]:
                without_payloads(child)
    return message


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_backend_models_open_as_the_model_without_large_payloads(path: Path) -> None:
    whole = onnx.ModelProto.FromString(path.read_bytes())
    file = open_model(path)
    assert without_payloads(file.skeleton) == without_payloads(whole)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_edit_that_changes_nothing_gives_the_same_bytes(path: Path) -> None:
    file = open_model(path)
    assert join(file, GraphEdit({}).pieces(file)) == path.read_bytes()


def large_tensor(name: str, count: int = SMALL) -> onnx.TensorProto:
    return helper.make_tensor(name, TensorProto.FLOAT, [count], weights(count).tobytes(), raw=True)


def everywhere() -> onnx.ModelProto:
    """A model with large tensors in every place where a tensor can stand."""
    branch = helper.make_graph([node("Constant", [], "c", value=large_tensor("in a subgraph"))], "g", [], [])
    branch.initializer.append(large_tensor("initializer of a subgraph"))
    made = classifier([softmax(), node("If", "yes", "c", then_branch=branch)], output="probs")
    graph = made.graph
    graph.initializer.append(large_tensor("raw"))
    graph.initializer.append(helper.make_tensor("floats", TensorProto.FLOAT, [SMALL], weights(SMALL)))
    graph.initializer.append(helper.make_tensor("longs", TensorProto.INT64, [SMALL], list(range(SMALL))))
    graph.initializer.append(helper.make_tensor("doubles", TensorProto.DOUBLE, [SMALL], weights(SMALL)))
    graph.initializer.append(helper.make_tensor("strings", TensorProto.STRING, [SMALL], [b"ab"] * SMALL))
    indices = helper.make_tensor("", TensorProto.INT64, [SMALL], list(range(SMALL)))
    graph.sparse_initializer.append(helper.make_sparse_tensor(large_tensor("sparse"), indices, [2 * SMALL]))
    listed = node("Many", [], "many", domain="mine")
    listed.attribute.append(helper.make_attribute("tensors", [large_tensor("a"), large_tensor("b")]))
    listed.attribute.append(helper.make_attribute("graphs", [branch, branch]))
    function = helper.make_function(
        "mine", "F", [], ["c"], [node("Constant", [], "c", value=large_tensor("f"))], [helper.make_opsetid("", 17)]
    )
    graph.node.append(listed)
    made.functions.append(function)
    made.training_info.add().algorithm.initializer.append(large_tensor("training"))
    return made


def test_large_payloads_go_wherever_they_stand() -> None:
    data = everywhere().SerializeToString()
    small = skeleton(data, 0, len(data))
    assert len(small) < 12_000 < len(data)
    assert without_payloads(onnx.ModelProto.FromString(small)) == without_payloads(everywhere())


def test_small_constants_keep_their_values() -> None:
    made = classifier([softmax()], output="probs")
    file = open_model(made)
    assert file.skeleton == made


def test_long_lists_of_numbers_in_attributes_stay() -> None:
    """A tree ensemble is a node with a million numbers in its attributes; they are no tensors."""
    trees = node("TreeEnsembleRegressor", "x", "y", domain="ai.onnx.ml", nodes_values=[0.5] * 5000)
    made = classifier([trees, softmax()], output="probs")
    assert open_model(made).skeleton == made


@pytest.mark.parametrize("form", ["raw", "float_data"])
def test_skeleton_of_large_weights_is_small(form: str) -> None:
    made = classifier([softmax()], output="probs", features=50_000)
    if form == "float_data":
        made.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.FLOAT, [50_000, 4], weights(200_000)))
    file = open_model(made)
    assert file.skeleton.ByteSize() < 1000 < 800_000 < file.size
    assert list(file.graph.initializer[0].dims) == [50_000, 4]


@pytest.mark.parametrize("seed", range(300))
def test_damaged_bytes_are_a_model_error_or_a_model(seed: int) -> None:
    made = classifier([softmax()], output="probs", features=600)
    data = bytearray(made.SerializeToString())
    random_ = random.Random(seed)
    for _ in range(random_.choice((1, 1, 2, 5))):
        place = random_.choice(
            (random_.randrange(60), random_.randrange(len(data)), len(data) - 1 - random_.randrange(60))
        )
        data[place] = random_.randrange(256)
    _, error = attempt(lambda: ModelFile(ModelBytes("it", bytes(data))))
    assert error is None or error.hint
