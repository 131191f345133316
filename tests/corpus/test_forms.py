"""Each odd model: what its head is, and that its patch does what the contract says, no more and no less.

The reference is computed here, in float64, from logits that are tapped here: none of it goes through onnxcal.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

import onnxcal
from onnxcal.graph.detect import find_head
from onnxcal.graph.modelfile import open_model
from onnxcal.graph.tails import Hints
from onnxcal.results import PatchResult
from onnxcal.verification import verify
from tests.corpus.files import FILES
from tests.corpus.form import Form
from tests.corpus.forms import FORMS
from tests.corpus.wire import graph_records, records

TOLERANCE = {np.dtype(np.float16): 1e-3, np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-12}
TEMPERATURE = 1.7
NEW_NODES = {"Div", "Cast", "Softmax", "Sigmoid", "Transpose", "Constant"}
NEW_NODES |= {"Gather", "Slice", "Sub", "Concat"}  # one of two columns, and both again
NEW_NODES |= {"Max", "Log"}  # logarithms of probabilities
NEW_NODES |= {"DequantizeLinear"}


Output: TypeAlias = "np.ndarray | list[dict[Any, float]]"


@dataclass
class Case:
    """A form that has been patched."""

    form: Form
    folder: Path

    @cached_property
    def original(self) -> Path:
        path = self.folder / "m.onnx"
        path.write_bytes(self.form.data())
        return path

    @cached_property
    def patched(self) -> Path:
        self.patch(self.original, "patched.onnx", TEMPERATURE)
        return self.folder / "patched.onnx"

    def patch(self, source: Path | onnx.ModelProto, name: str | None, temperature: float) -> PatchResult:
        output = None if name is None else self.folder / name
        return onnxcal.patch(source, temperature=temperature, output=output, **self.form.options)

    @cached_property
    def protos(self) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        return tuple(onnx.ModelProto.FromString(p.read_bytes()) for p in (self.original, self.patched))

    @cached_property
    def feeds(self) -> dict[str, np.ndarray]:
        graph = self.protos[0].graph
        constants = {tensor.name for tensor in graph.initializer}
        feeds = {}
        for number, info in enumerate(v for v in graph.input if v.name not in constants):
            dims = info.type.tensor_type.shape.dim
            shape = [d.dim_value if d.dim_value > 0 else 4 for d in dims]
            shape[0] = self.form.samples
            dtype = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
            feeds[info.name] = np.random.default_rng(number).normal(size=shape).astype(dtype)
        return feeds

    @cached_property
    def before(self) -> dict[str, np.ndarray]:
        return run(self.original.read_bytes(), self.feeds)

    @cached_property
    def after(self) -> dict[str, np.ndarray]:
        return run(self.patched.read_bytes(), self.feeds)

    @cached_property
    def logits(self) -> np.ndarray:
        return self.tap(self.form.logits) if self.form.z is None else self.form.z(self.tap)

    @property
    def reference(self) -> np.ndarray:
        return self.form.after(self.probabilities(TEMPERATURE))

    @property
    def unmoved(self) -> set[str]:
        return set(self.before) - {self.form.output, *self.form.also} - self.form.moved

    def tap(self, name: str) -> np.ndarray:
        if name in self.feeds:
            return self.feeds[name]
        tapped = onnx.ModelProto.FromString(self.original.read_bytes())
        if name not in {v.name for v in tapped.graph.output}:
            tapped.graph.output.add(name=name)
        return run(tapped.SerializeToString(), self.feeds)[name]

    def probabilities(self, temperature: float) -> np.ndarray:
        """In the layout of the logits; or their logarithms."""
        form = self.form
        z = self.logits.astype(np.float64) / temperature
        if form.task != "multiclass":
            return 1 / (1 + np.exp(-z))
        over = form.over or (form.axis,)
        shifted = z - z.max(axis=over, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(axis=over, keepdims=True))
        return logs if form.activation == "log_softmax" else np.exp(logs)

    def assert_close(self, got: Output, reference: np.ndarray, more: float = 0.0) -> None:
        """Within the tolerance of the coarser of output and logits; log-probabilities below −1 relatively."""
        form = self.form
        if isinstance(got, list):
            got = np.array([[row[key] for key in form.keys or ()] for row in got], np.float32)
        tolerance = max(TOLERANCE[got.dtype], TOLERANCE[np.dtype(form.dtype)]) + form.steps + more
        error = np.abs(got.astype(np.float64) - reference)
        if form.activation == "log_softmax":
            error /= np.maximum(1, np.abs(reference))
        assert got.shape == reference.shape
        assert error.max() <= tolerance


def content(output: Output) -> object:
    """Equal only where every bit is: strings by value, maps key by key."""
    if isinstance(output, list):
        return [[(key, np.float32(p).tobytes()) for key, p in row.items()] for row in output]
    return output.tolist() if output.dtype == object else output.tobytes()


def run(model: bytes, feeds: dict[str, np.ndarray]) -> dict[str, Output]:
    """All outputs; a model with a fixed batch is fed sample by sample, or in such batches."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = list(dict.fromkeys(output.name for output in session.get_outputs()))
    fixed = session.get_inputs()[0].shape[0]
    if not isinstance(fixed, int) or fixed <= 0:
        return dict(zip(names, session.run(names, feeds), strict=True))
    samples = len(next(iter(feeds.values())))
    parts = []
    for start in range(0, samples, fixed):
        index = np.arange(start, start + fixed).clip(max=samples - 1)
        kept = min(fixed, samples - start)
        parts.append([r[:kept] for r in session.run(names, {k: v[index] for k, v in feeds.items()})])
    return {name: np.concatenate(column) for name, column in zip(names, zip(*parts, strict=True), strict=True)}


@pytest.fixture(scope="module", params=FORMS + FILES, ids=str)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(request.param, tmp_path_factory.mktemp("form"))


@pytest.fixture(scope="module", params=(FORMS + FILES)[::4], ids=str)
def some_case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Every fourth form: for what depends little on how a model ends, and costs several patches."""
    return Case(request.param, tmp_path_factory.mktemp("form"))


def test_its_head_is_found(case: Case) -> None:
    form, said = case.form, dict(case.form.options)
    head = find_head(open_model(case.original), said.pop("head", None), Hints(**said))
    found = (head.output, head.logits, head.task, head.activation, head.axis, head.num_classes, head.dtype)
    assert found == (form.output, form.logits, form.task, form.activation, form.axis, form.classes, form.dtype)
    assert head.flatten == (form.over is not None and len(form.over) > 1)


def test_it_is_what_it_is_said_to_be(case: Case) -> None:
    """Unpatched, the output is the activation of the logits: else the truth told here would be none."""
    if case.form.activation == "none":
        raw = case.before[case.form.output]
        assert not isinstance(raw, list)
        assert raw.dtype == case.form.dtype
        return
    case.assert_close(case.before[case.form.output], case.form.after(case.probabilities(1.0)), case.form.own_error)


def test_the_calibrated_output_equals_the_reference(case: Case) -> None:
    case.assert_close(case.after[case.form.output], case.reference)


def test_other_outputs_with_the_same_probabilities_are_calibrated_too(case: Case) -> None:
    for name, after in case.form.also.items():
        case.assert_close(case.after[name], after(case.probabilities(TEMPERATURE)))


def test_verification_passes(case: Case) -> None:
    verification = verify(case.original, case.patched, case.feeds).verification
    assert verification.passed, [check for check in verification.checks if not check.passed]


def test_outputs_keep_name_position_shape_and_type(case: Case) -> None:
    declared = [[output.SerializeToString() for output in proto.graph.output] for proto in case.protos]
    assert declared[0] == declared[1]
    assert [(name, kind(output)) for name, output in case.before.items()] == [
        (name, kind(output)) for name, output in case.after.items()
    ]


def kind(output: Output) -> object:
    return [list(row) for row in output] if isinstance(output, list) else (output.dtype, output.shape)


def test_other_outputs_are_bit_identical(case: Case) -> None:
    assert [name for name in case.unmoved if content(case.before[name]) != content(case.after[name])] == []


def test_everything_else_stays_byte_for_byte(case: Case) -> None:
    """Of the original's records only few nodes are gone, and what is left stands in the old order."""
    before, after = case.original.read_bytes(), case.patched.read_bytes()
    kept = [whole for field, whole, _ in records(before) if field != 7]
    assert [whole for field, whole, _ in records(after) if field != 7][: len(kept)] == kept
    imports = {8} if all(entry.domain not in ("", "ai.onnx") for entry in case.protos[0].opset_import) else set()
    assert {field for field, _, _ in list(records(after))[len(list(records(before))) :]} <= {14} | imports

    old = [(field, whole) for field, whole, _ in graph_records(before)]
    new = [(field, whole) for field, whole, _ in graph_records(after)]
    nodes = {True: [w for f, w in old if f == 1], False: [w for f, w in new if f == 1]}
    rest = [entry for entry in old if entry[0] != 1]
    added = list(new)
    position = 0
    for entry in rest:
        position = added.index(entry, position)
        added.pop(position)
    assert {field for field, _ in added} <= {1, 5, 13}
    gone = [node for node in nodes[True] if node not in nodes[False]]
    form = case.form
    touched = [name.encode() for name in (form.output, form.logits, form.place) if name]
    assert all(any(name in node for name in touched) for node in gone)
    assert [node for node in nodes[True] if node not in gone] == [n for n in nodes[False] if n in nodes[True]]


def test_changed_nodes_differ_by_tensor_names_only(case: Case) -> None:
    before, after = (proto.graph.node for proto in case.protos)
    ours = [node for node in after if node not in before and is_tagged(node)]
    theirs = [node for node in after if node not in ours]
    assert len(theirs) == len(before)
    assert {node.op_type for node in ours} <= NEW_NODES
    for old, new in zip(before, theirs, strict=True):
        assert (old.op_type, old.name, old.domain, old.doc_string) == (
            new.op_type,
            new.name,
            new.domain,
            new.doc_string,
        )
        assert (len(old.input), len(old.output)) == (len(new.input), len(new.output))
        if not any(attribute.HasField("g") for attribute in old.attribute):
            dropped = {"post_transform"} if old.domain == "ai.onnx.ml" else set()
            assert [a for a in old.attribute if a.name not in dropped] == [
                a for a in new.attribute if a.name not in dropped
            ]


def test_new_nodes_are_named_once_tagged_and_typed(case: Case) -> None:
    before, after = (proto.graph for proto in case.protos)
    ours = [node for node in after.node if node not in before.node and is_tagged(node)]
    assert 1 <= len(ours) <= 12
    names = [node.name for node in after.node if node.name]
    assert all(names.count(node.name) == 1 for node in ours)
    known = [v.name for v in (*after.value_info, *after.output)] + [
        o for n in ours if n.op_type == "Constant" for o in n.output
    ]
    known += [name for node in before.node for name in node.output]
    assert all(name in known for node in ours for name in node.output)
    produced = [name for node in after.node for name in node.output if name]
    assert len(produced) == len(set(produced))


def is_tagged(node: onnx.NodeProto) -> bool:
    return node.doc_string.startswith("onnxcal") or any(p.key.startswith("onnxcal") for p in node.metadata_props)


def test_temperature_is_an_initializer_of_one_number(case: Case) -> None:
    before, after = case.protos
    new = [tensor for tensor in after.graph.initializer if tensor not in before.graph.initializer]
    if before.ir_version < 4:
        assert not new
        assert len(after.graph.input) == len(before.graph.input)
        return
    assert {tensor.name for tensor in new}.isdisjoint(value.name for value in after.graph.input)
    divisors = {name for node in after.graph.node if node.op_type == "Div" and is_tagged(node) for name in node.input}
    (temperature,) = [onnx.numpy_helper.to_array(tensor) for tensor in new if tensor.name in divisors]
    assert temperature.ravel() == pytest.approx([TEMPERATURE] * temperature.size, rel=1e-7)
    assert temperature.shape == (1,) or temperature.dtype == np.float64


def test_revert_gives_the_original_back(case: Case) -> None:
    result = onnxcal.revert(case.patched, output=case.folder / "reverted.onnx")
    assert (case.folder / "reverted.onnx").read_bytes() == case.original.read_bytes()
    assert result.byte_identical
    assert not result.warnings


def test_checkers_are_no_less_content_than_before(case: Case) -> None:
    for check in (
        lambda path: onnx.checker.check_model(str(path)),
        lambda path: onnx.checker.check_model(str(path), full_check=True),
        lambda path: onnx.shape_inference.infer_shapes_path(
            str(path), str(case.folder / "inferred"), check_type=True, strict_mode=True, data_prop=True
        ),
    ):
        try:
            check(case.original)
        except Exception:
            continue
        check(case.patched)


def test_the_same_patch_gives_the_same_bytes(some_case: Case) -> None:
    some_case.patch(some_case.original, "again.onnx", TEMPERATURE)
    assert (some_case.folder / "again.onnx").read_bytes() == some_case.patched.read_bytes()


def test_patching_again_replaces_the_calibration(some_case: Case) -> None:
    some_case.patch(some_case.original, "once.onnx", 3.25)
    some_case.patch(some_case.folder / "once.onnx", "twice.onnx", TEMPERATURE)
    assert (some_case.folder / "twice.onnx").read_bytes() == some_case.patched.read_bytes()


def test_patching_in_memory_gives_the_same_model(some_case: Case) -> None:
    result = some_case.patch(some_case.protos[0], None, TEMPERATURE)
    same_bytes = some_case.protos[0].SerializeToString() == some_case.original.read_bytes()
    expected = onnx.ModelProto.FromString(some_case.patched.read_bytes())
    if not same_bytes:  # then the digest of the original in the metadata, and the lengths, differ
        del expected.metadata_props[-1], result.proto.metadata_props[-1]
    assert result.proto == expected


def test_a_file_saved_anew_by_onnx_can_still_be_reverted_and_calibrated_again(some_case: Case) -> None:
    saved = some_case.folder / "saved.onnx"
    saved.write_bytes(some_case.protos[1].SerializeToString())
    result = onnxcal.revert(saved, output=some_case.folder / "back.onnx")
    reverted = (some_case.folder / "back.onnx").read_bytes()
    assert onnx.ModelProto.FromString(reverted) == some_case.protos[0]
    assert result.byte_identical == (reverted == some_case.original.read_bytes())
    assert bool(result.warnings) != result.byte_identical
    some_case.patch(saved, "saved_again.onnx", 2.5)
    again = onnx.ModelProto.FromString((some_case.folder / "saved_again.onnx").read_bytes())
    assert len(again.graph.node) == len(some_case.protos[1].graph.node)
    assert len(again.graph.initializer) == len(some_case.protos[1].graph.initializer)


@pytest.fixture(params=[{"output_name": "π/τ:0", "keep_logits": True}], ids=str)
def options(request: pytest.FixtureRequest) -> dict:
    return request.param


def test_output_name_and_keep_logits(case: Case, options: dict) -> None:
    """The output alone gets the new name, the calibrated logits come last, and the way back stays open."""
    form = case.form
    path = case.folder / "options.onnx"
    onnxcal.patch(case.original, temperature=TEMPERATURE, output=path, force=True, **form.options, **options)
    outputs = run(path.read_bytes(), case.feeds)
    name = options.get("output_name", form.output)
    expected = [name if old == form.output else old for old in case.before]
    assert list(outputs)[: len(expected)] == expected
    case.assert_close(outputs[name], case.reference)
    if options.get("keep_logits"):
        assert len(outputs) == len(expected) + 1
        kept = outputs[list(outputs)[-1]]
        np.testing.assert_allclose(
            kept,
            (case.tap(form.logits) if form.fed else case.logits).astype(np.float64) / TEMPERATURE,
            rtol={"float16": 1e-3, "float32": 1e-6, "float64": 1e-15}[form.dtype],
            atol=form.rounding,
        )
    else:
        assert len(outputs) == len(expected)
    assert [other for other in case.unmoved if content(case.before[other]) != content(outputs[other])] == []
    onnxcal.revert(path, output=case.folder / "options_back.onnx", force=True)
    assert (case.folder / "options_back.onnx").read_bytes() == case.original.read_bytes()
