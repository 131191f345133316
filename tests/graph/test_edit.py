"""Edits of byte ranges, held against the same edit made on the parsed message."""

from __future__ import annotations

import json

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxcal.errors import ModelError
from onnxcal.graph.edit import FieldEdit, GraphEdit, undo_edit
from onnxcal.graph.mapped import ModelBytes
from onnxcal.graph.modelfile import ModelFile, open_model
from onnxcal.graph.skeleton import GRAPH_INITIALIZER, GRAPH_NODE, GRAPH_OUTPUT, GRAPH_VALUE_INFO
from onnxcal.graph.wire import bytes_field
from onnxcal.graph.write import join
from tests.builders import classifier, softmax
from tests.corpus.files import FILES
from tests.corpus.form import Form, node, value, weights

LISTS = {GRAPH_NODE: "node", GRAPH_INITIALIZER: "initializer", GRAPH_OUTPUT: "output", GRAPH_VALUE_INFO: "value_info"}


def new_record(field: int, number: int):
    if field == GRAPH_NODE:
        return node("Relu", f"new{number}", f"out{number}")
    if field == GRAPH_INITIALIZER:
        return onnx.numpy_helper.from_array(weights(number % 5), f"t{number}")
    return value(f"v{number}", ["N", number])


@st.composite
def edits(draw, model: onnx.ModelProto) -> dict[int, tuple[list, list]]:
    """By field: [(position, record)] to insert, and to replace."""
    made = {}
    for field, name in LISTS.items():
        count = len(getattr(model.graph, name))
        places = draw(st.lists(st.integers(0, count), max_size=4))
        replaced = draw(st.sets(st.integers(0, count - 1), max_size=3)) if count else set()
        made[field] = (
            [(place, new_record(field, k)) for k, place in enumerate(places)],
            [(index, new_record(field, 100 + index)) for index in sorted(replaced)],
        )
    return made


def on_message(model: onnx.ModelProto, edit: dict[int, tuple[list, list]]) -> onnx.ModelProto:
    """The same edit by way of the parsed message."""
    out = onnx.ModelProto.FromString(model.SerializeToString())
    for field, (inserted, replaced) in edit.items():
        records = list(getattr(model.graph, LISTS[field]))
        new = dict(replaced)
        result = []
        for index in range(len(records) + 1):
            result += [record for place, record in inserted if place == index]
            if index < len(records):
                result.append(new.get(index, records[index]))
        del getattr(out.graph, LISTS[field])[:]
        getattr(out.graph, LISTS[field]).extend(result)
    return out


def as_graph_edit(edit: dict[int, tuple[list, list]]) -> GraphEdit:
    def encoded(field: int, entries: list) -> tuple:
        return tuple((place, bytes_field(field, record.SerializeToString())) for place, record in entries)

    return GraphEdit(
        {f: FieldEdit(encoded(f, inserted), encoded(f, replaced)) for f, (inserted, replaced) in edit.items()}
    )


@pytest.mark.parametrize("form", FILES, ids=str)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_an_edit_of_bytes_is_the_edit_of_the_message_and_its_undo_gives_the_bytes_back(form: Form, data) -> None:
    original = ModelFile(ModelBytes("it", form.data()))
    whole = onnx.ModelProto.FromString(form.data())
    edit = data.draw(edits(whole))
    change = as_graph_edit(edit)
    edited = join(original, change.pieces(original))
    assert onnx.ModelProto.FromString(edited) == on_message(whole, edit)

    undo = json.loads(json.dumps(change.undo(original)))
    again = ModelFile(ModelBytes("it", edited))
    back, lengths = undo_edit(again, undo)
    assert join(again, back.pieces(again, lengths=lengths)) == form.data()


@pytest.mark.parametrize(
    "undo",
    [
        {},
        {"graph": {}},
        {"graph": {"1": {"added": [7], "old": {}}}, "lengths": [0]},
        {"graph": {"1": {"added": [], "old": {"7": ""}}}, "lengths": [0]},
        {"graph": {"1": {"added": [-1], "old": {}}}, "lengths": [0]},
        {"graph": {"1": {"added": [], "old": {"-1": ""}}}, "lengths": [0]},
        {"graph": {"1": {"added": ["x"], "old": {}}}, "lengths": [0]},
        {"graph": {"1": {"added": [0], "old": {"0": "A"}}}, "lengths": [0]},
        {"graph": {"1": {"added": [0]}}, "lengths": [0]},
        {"graph": [], "lengths": [0]},
        {"graph": {}, "lengths": ["wide"]},
    ],
    ids=str,
)
def test_an_undo_that_does_not_fit_is_refused(undo: dict) -> None:
    model = open_model(classifier([softmax()], output="probs"))
    with pytest.raises(ModelError, match="cannot be taken out"):
        undo_edit(model, undo)
