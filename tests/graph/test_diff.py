"""What `diff` says of two files, held against the bytes themselves and against what was done to them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxcal
from onnxcal.graph.diff import Diff
from onnxcal.graph.modelfile import open_model
from onnxcal.graph.remade import is_remade
from tests import builders
from tests.corpus.files import FILES
from tests.corpus.form import Form
from tests.corpus.forms import FORMS
from tests.corpus.test_forms import Case
from tests.corpus.wire import record, records
from tests.inference.test_session import external

MODEL = builders.classifier([builders.softmax()], output="probs")
Damage = Callable[[onnx.ModelProto], None]


def patched(model: onnx.ModelProto = MODEL, temperature: float = 2.0, **options: Any) -> onnx.ModelProto:
    proto = onnxcal.patch(model, temperature=temperature, **options).proto
    assert proto is not None
    return proto


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(model.SerializeToString())


def changes(found: Diff, *, by_patch: bool = True) -> set[tuple[str, str, str]]:
    listed = found.patch_changes if by_patch else found.other_changes
    return {(change.kind, change.name, change.how) for change in listed}


def rebuilt(found: Diff, a: bytes, b: bytes) -> bytes:
    """B from A's bytes, with those of B only where a change is reported."""
    out, position = b"", 0
    for change in found.byte_changes:
        out += a[position : change.before[0]] + b[slice(*change.after)]
        position = change.before[1]
    return out + a[position:]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model, two patches of it, and another model."""
    folder = tmp_path_factory.mktemp("diff")
    made = {"model": builders.save(MODEL, folder / "m.onnx")}
    made["patched"] = builders.save(patched(), folder / "p.onnx")
    made["again"] = builders.save(patched(temperature=3.0, keep_logits=True), folder / "q.onnx")
    made["other"] = builders.save(builders.classifier(features=3, seed=5), folder / "other.onnx")
    return made


VERDICTS = [
    ("model", "model", "identical", True),
    ("model", "patched", "patched", True),
    ("patched", "model", "reverted", True),
    ("patched", "again", "repatched", True),
    ("model", "other", "different", False),
    ("patched", "other", "different", False),
]


@pytest.mark.parametrize(("a", "b", "verdict", "passed"), VERDICTS)
def test_the_verdict_is_what_was_done(files: dict[str, Path], a: str, b: str, verdict: str, passed: bool) -> None:
    found = onnxcal.diff(files[a], files[b])
    assert (found.verdict, found.passed) == (verdict, passed)
    assert bool(found.other_changes) == (not passed)


@pytest.mark.parametrize(("a", "b"), [(a, b) for a, b, _, _ in VERDICTS])
def test_what_is_called_unchanged_is_the_same_in_both_files(files: dict[str, Path], a: str, b: str) -> None:
    before, after = files[a].read_bytes(), files[b].read_bytes()
    found = onnxcal.diff(files[a], files[b])
    assert rebuilt(found, before, after) == after
    changed = sum(stop - start for start, stop in (c.before for c in found.byte_changes))
    assert found.unchanged_bytes == len(before) - changed
    assert found.unchanged_share == found.unchanged_bytes / len(before)
    assert found.n_bytes == (len(before), len(after))


@pytest.mark.parametrize("form", (FORMS + FILES)[::12], ids=str)
def test_the_patch_of_an_odd_model_is_seen_to_be_one_and_nothing_else(form: Form, tmp_path: Path) -> None:
    case = Case(form, tmp_path)
    found = onnxcal.diff(case.original, case.patched)
    assert (found.verdict, found.other_changes, found.warnings) == ("patched", (), ())
    after = case.patched.read_bytes()
    assert rebuilt(found, case.original.read_bytes(), after) == after
    made = [change for change in found.patch_changes if change.kind == "node" and change.how == "added"]
    assert len(made) == len(case.protos[1].graph.node) - len(case.protos[0].graph.node)
    assert is_remade(open_model(case.original), open_model(case.patched))


def test_a_patch_is_listed_element_by_element(files: dict[str, Path]) -> None:
    found = onnxcal.diff(files["model"], files["patched"])
    assert changes(found) == {
        ("node", "onnxcal_div", "added"),
        ("node", "probs", "changed"),
        ("initializer", "onnxcal_temperature", "added"),
        ("value_info", "logits", "added"),
        ("value_info", "logits_calibrated", "added"),
        ("metadata", "onnxcal.calibration", "added"),
        ("metadata", "onnxcal.undo", "added"),
    }
    by_name = {(change.kind, change.name): change for change in found.patch_changes}
    assert by_name["initializer", "onnxcal_temperature"].after == "float32 [1] = 2"
    assert by_name["node", "onnxcal_div"].after == "Div(logits, onnxcal_temperature) → logits_calibrated"
    softmax = by_name["node", "probs"]
    assert (softmax.before, softmax.after) == ("Softmax(logits) → probs", "Softmax(logits_calibrated) → probs")
    assert softmax.fields == ("input 0",)


# What else changed


def weight(proto: onnx.ModelProto) -> None:
    data = bytearray(proto.graph.initializer[0].raw_data)
    data[3] ^= 1
    proto.graph.initializer[0].raw_data = bytes(data)


def attribute(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].attribute.append(helper.make_attribute("alpha", 1.5))


def author(proto: onnx.ModelProto) -> None:
    proto.metadata_props.add(key="author", value="somebody else")


def document(proto: onnx.ModelProto) -> None:
    proto.graph.doc_string = "another"


def version(proto: onnx.ModelProto) -> None:
    proto.model_version = 7


def extra_input(proto: onnx.ModelProto) -> None:
    proto.graph.input.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1]))


DAMAGES = [
    (weight, ("initializer", "w", "changed")),
    (attribute, ("node", "fc", "changed")),
    (author, ("metadata", "author", "added")),
    (document, ("graph.doc_string", "", "added")),
    (version, ("model.model_version", "", "added")),
    (extra_input, ("input", "y", "added")),
]


@pytest.mark.parametrize(("damage", "expected"), DAMAGES)
@pytest.mark.parametrize("with_patch", [False, True])
def test_what_else_changed_is_told_apart_from_the_patch(
    damage: Damage, expected: tuple[str, str, str], with_patch: bool
) -> None:
    changed = patched() if with_patch else copy_of(MODEL)
    damage(changed)
    found = onnxcal.diff(MODEL, changed)
    assert (found.verdict, found.passed) == ("different", False)
    assert changes(found, by_patch=False) == {expected}
    assert expected not in changes(found)
    assert (("node", "onnxcal_div", "added") in changes(found)) == with_patch


def test_nodes_in_another_order_are_a_change() -> None:
    model = builders.classifier([builders.softmax(), helper.make_node("Relu", ["x"], ["r"], name="r")], output="probs")
    swapped = copy_of(model)
    nodes = list(swapped.graph.node)
    del swapped.graph.node[:]
    swapped.graph.node.extend([nodes[0], nodes[2], nodes[1]])
    found = onnxcal.diff(model, swapped)
    assert (found.verdict, found.passed) == ("different", False)
    assert {how for _, _, how in changes(found, by_patch=False)} == {"moved"}


def damaged_division(proto: onnx.ModelProto) -> None:
    """A patch that reads another tensor, while the rest stays: it can no longer be taken out."""
    next(node for node in proto.graph.node if node.op_type == "Div").input[0] = "x"


def test_of_a_damaged_patch_only_the_damage_is_called_a_difference() -> None:
    proto = patched()
    damaged_division(proto)
    found = onnxcal.diff(MODEL, proto)
    assert (found.verdict, found.passed) == ("different", False)
    assert changes(found, by_patch=False) == {("node", "onnxcal_div", "changed")}
    assert ("node", "probs", "changed") in changes(found)
    assert len(found.warnings) == 1


def forged() -> onnx.ModelProto:
    """A weight is changed, and the undo record puts the old one back: taken at its word, the file is the original."""
    proto = patched()
    before = record(5, proto.graph.initializer[0].SerializeToString())
    weight(proto)
    content = proto.graph.initializer[0].SerializeToString(deterministic=True)
    undo = next(prop for prop in proto.metadata_props if prop.key == "onnxcal.undo")
    told = json.loads(undo.value)
    mark = hashlib.sha256(content).hexdigest()[:16]
    told["edit"]["graph"]["5"]["old"].append([0, mark, base64.b64encode(before).decode()])
    undo.value = json.dumps(told)
    return proto


def test_a_files_own_word_for_what_its_patch_did_is_not_taken(tmp_path: Path) -> None:
    model, lie = builders.save(MODEL, tmp_path / "m.onnx"), builders.save(forged(), tmp_path / "lie.onnx")
    reverted = onnxcal.revert(lie, output=tmp_path / "back.onnx")
    assert reverted.byte_identical  # by its own word
    found = onnxcal.diff(model, lie)
    assert (found.verdict, found.passed) == ("different", False)
    assert ("initializer", "w", "changed") in changes(found, by_patch=False)
    x = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    failed = [c.name for c in onnxcal.verify(model, lie, x).verification.checks if not c.passed]
    assert "untouched bytes" in failed


# The same content in other bytes


def reordered(data: bytes) -> bytes:
    """The fields of a model in reverse: the same message."""
    return b"".join(whole for _, whole, _ in reversed(list(records(data))))


@pytest.mark.parametrize("with_patch", [False, True])
def test_a_file_that_was_written_anew_has_the_same_content_in_other_bytes(tmp_path: Path, with_patch: bool) -> None:
    original = tmp_path / "m.onnx"
    original.write_bytes(reordered(MODEL.SerializeToString()))
    source = original
    if with_patch:
        source = tmp_path / "p.onnx"
        onnxcal.patch(original, temperature=2.0, output=source)
        assert onnxcal.diff(original, source).verdict == "patched"
    anew = builders.save(onnx.ModelProto.FromString(source.read_bytes()), tmp_path / "anew.onnx")
    found = onnxcal.diff(original, anew)
    assert (found.verdict, found.passed) == ("rewritten", False)
    assert "same content in other bytes" in found.detail
    assert {how for _, _, how in changes(found, by_patch=False)} <= {"moved", "rewritten"}
    assert (("node", "onnxcal_div", "added") in changes(found)) == with_patch
    assert rebuilt(found, original.read_bytes(), anew.read_bytes()) == anew.read_bytes()


# External data


@pytest.fixture
def on_disk(tmp_path: Path) -> tuple[Path, Path]:
    model = external(tmp_path / "in")
    (tmp_path / "out").mkdir()
    onnxcal.patch(model, temperature=2.0, output=tmp_path / "out" / "p.onnx")
    return model, tmp_path / "out" / "p.onnx"


def test_external_data_belong_to_the_files(on_disk: tuple[Path, Path]) -> None:
    model, out = on_disk
    found = onnxcal.diff(model, out)
    assert (found.verdict, [(e.location, e.unchanged) for e in found.external_data]) == (
        "patched", [("weights.bin", True)]
    )  # fmt: skip
    data = bytearray((out.parent / "weights.bin").read_bytes())
    data[2] ^= 1
    (out.parent / "weights.bin").write_bytes(data)
    found = onnxcal.diff(model, out)
    assert (found.verdict, found.passed) == ("different", False)
    assert "weights.bin" in found.detail


def test_external_data_that_cannot_be_read_are_not_called_the_same(on_disk: tuple[Path, Path]) -> None:
    model, out = on_disk
    (out.parent / "weights.bin").unlink()
    found = onnxcal.diff(model, out)
    assert not found.passed
    assert "cannot be compared" in found.detail


# Odd elements


def test_elements_without_a_name_are_told_apart_by_what_they_make() -> None:
    proto = copy_of(MODEL)
    for node in proto.graph.node:
        node.name = ""
    changed = copy_of(proto)
    changed.graph.node[0].attribute.append(helper.make_attribute("beta", 0.5))
    (change,) = onnxcal.diff(proto, changed).other_changes
    assert (change.kind, change.name, change.how, change.fields) == ("node", "logits", "changed", ("attribute 'beta'",))


def test_a_large_weight_that_changed_is_found(tmp_path: Path) -> None:
    model = builders.classifier([builders.softmax()], output="probs", features=4000)
    changed = copy_of(model)
    w = numpy_helper.to_array(changed.graph.initializer[0]).copy()
    w[3999, 3] += 1
    changed.graph.initializer[0].raw_data = w.tobytes()
    (change,) = onnxcal.diff(model, changed).other_changes
    assert (change.name, change.how, change.fields, change.after) == (
        "w", "changed", ("values",), "float32 [4000, 4]"
    )  # fmt: skip


def test_names_that_are_no_text_do_not_stop_it() -> None:
    data = MODEL.SerializeToString().replace(b"fc", b"\xff\xfe")
    found = onnxcal.diff(MODEL, onnx.ModelProto.FromString(data))
    assert not found.passed
    assert {how for _, _, how in changes(found, by_patch=False)} == {"changed"}
