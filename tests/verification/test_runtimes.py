"""Planted faults, of the model and of the runtime: each is caught, and blamed on whose it is."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx.compose
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy.special import log_softmax

import onnxcal
from onnxcal import UsageError, VerificationError
from onnxcal.graph.metadata import calibrated_heads
from onnxcal.graph.modelfile import open_model
from onnxcal.graph.remade import recorded_head
from onnxcal.inference.feeds import Feed
from onnxcal.inference.options import RunOptions
from onnxcal.inference.runtimes import registry
from onnxcal.verification import RuntimeCheck, verify
from onnxcal.verification.head import HeadComparison
from onnxcal.verification.reference import Reference
from onnxcal.verification.spread import own_spread
from tests import builders
from tests.conftest import Cli
from tests.inference.runtimes import faulty

X, Y = builders.labelled_data(48)
MODEL = builders.classifier([builders.softmax()], output="probs")


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a runtime `faulty` known, with a fault."""
    real = registry.find_runtime
    monkeypatch.setattr(registry, "NAMES", (*registry.NAMES, "faulty"))
    monkeypatch.setattr(registry, "find_runtime", lambda n: faulty.RUNTIME if n == "faulty" else real(n))

    def plant(name: str) -> None:
        monkeypatch.setenv(faulty.FAULT, name)

    plant("right")
    return plant


def patched(temperature: float = 2.0, model: onnx.ModelProto = MODEL) -> onnx.ModelProto:
    proto = onnxcal.patch(model, temperature=temperature).proto
    assert proto is not None
    return proto


def entry_of(after: onnx.ModelProto, data: Any = X, model: onnx.ModelProto = MODEL, **options: Any) -> RuntimeCheck:
    result = verify(model, after, data, runtime="faulty", batch_size=16, **options).verification
    assert result.passed == all(check.passed for check in result.checks)
    assert len(result.runtimes) == 2
    return result.runtimes[1]


@pytest.mark.parametrize("name", ["right", "prints", "drops axes"])
def test_a_sound_runtime_passes(name: str, fault: Any) -> None:
    fault(name)
    entry = entry_of(patched(), (X, Y))
    assert (entry.passed, entry.counts, entry.blame, entry.detail) == (True, True, None, "")
    assert (entry.name, entry.n_samples, entry.argmax_changed) == ("faulty", 48, 0)
    assert entry.max_abs_error is not None
    assert entry.max_abs_error < 1e-6
    assert entry.tolerance_needed is not None
    assert entry.tolerance_needed <= entry.max_abs_error


def test_nll_and_ece_are_those_of_the_probabilities_there(fault: Any) -> None:
    w, b = (numpy_helper.to_array(t).astype(np.float64) for t in MODEL.graph.initializer)
    log_p = log_softmax((X @ w + b) / 2.0, axis=1)
    entry = entry_of(patched(), (X, Y))
    assert entry.nll == pytest.approx(-log_p[np.arange(48), Y].mean(), rel=1e-5)
    confidence, right = np.exp(log_p.max(axis=1)), log_p.argmax(axis=1) == Y
    bins = np.ceil(confidence * 15).astype(int)
    ece = sum(abs((confidence - right)[bins == k].sum()) for k in range(16)) / 48
    assert entry.ece == pytest.approx(ece, abs=1e-6)
    assert entry_of(patched()).nll is None
    kept = Y != 0
    entry = entry_of(patched(), (X, np.where(kept, Y, 255)), ignore_index=255)
    assert entry.nll == pytest.approx(-log_p[kept, Y[kept]].mean(), rel=1e-5)


@pytest.mark.parametrize("strange", [-1, 4, 255])
def test_labels_that_are_no_classes_give_no_figures_and_that_is_said(strange: int, fault: Any) -> None:
    """A marker of samples to be left out is no class counted from behind."""
    entry = entry_of(patched(), (X, np.where(Y == 0, strange, Y)))
    assert (entry.passed, entry.nll, entry.ece) == (True, None, None)
    assert re.fullmatch(rf"no NLL and ECE: label {strange} of sample \d+ is outside 0…3 \(4 classes\)", entry.detail)


@pytest.mark.parametrize(
    ("name", "blame", "said"),
    [
        ("garbage", "runtime", "wrong before and after: this runtime mis-runs the model"),
        ("nan", "runtime", "wrong before and after"),
        ("mixes the batch", "runtime", "one sample at a time it is right"),
        ("ignores T", "patch", "wrong only after: the patch"),
        ("nan by the patch", "patch", "wrong only after: the patch"),
        ("drops a class", "runtime", "wrong before and after: output 'probs' has shape (16, 3)"),
        ("drops an output", "runtime", "wrong before and after: it gives 0 outputs where there are 1"),
        ("takes one sample", "runtime", "a batch must be of 1; one sample at a time it is right"),
        ("refuses", "runtime", "does not run before or after: this operator is not known"),
        ("refuses the patch", "patch", "runs the unpatched model, but not the patched one: Div is not known"),
        ("crashes", "runtime", "does not run before or after: it crashed: SIGSEGV"),
        ("crashes on the patch", "patch", "runs the unpatched model, but not the patched one: it crashed: SIGSEGV"),
    ],
)
def test_a_faulty_runtime_is_caught_and_blamed(name: str, blame: str, said: str, fault: Any) -> None:
    fault(name)
    entry = entry_of(patched())
    assert (entry.passed, entry.counts, entry.blame) == (False, True, blame)
    assert said in entry.detail


@pytest.mark.parametrize("name", ["fails on 1000", "mixes the batch"])
def test_right_one_by_one_is_said_of_samples_that_were_wrong(name: str, fault: Any) -> None:
    """The 91st is the one that is wrong, which is not among the first that are tried alone."""
    fault(name)
    data = np.concatenate([X, X])
    data[90] = 1000
    (entry,) = verify(MODEL, patched(), data, runtime="faulty", batch_size=96).verification.runtimes[1:]
    assert (entry.passed, entry.blame) == (False, "runtime")
    assert ("one sample at a time it is right" in entry.detail) == (name == "mixes the batch")


def test_numbers_that_are_none_are_wrong_where_the_output_is_logits_too(fault: Any) -> None:
    fault("nan")
    raw = builders.classifier()
    entry = entry_of(patched(model=raw), model=raw)
    assert (entry.passed, entry.blame) == (False, "runtime")
    assert entry.detail.startswith("wrong before and after")


def test_scores_in_maps_are_seen_too(fault: Any) -> None:
    """Unpatched they are logits, and a list of a map for each sample."""
    rng = np.random.default_rng(0)
    scorer = helper.make_node(
        "LinearClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml", classlabels_ints=[0, 1, 2],
        coefficients=rng.normal(size=18), intercepts=[0.0] * 3, multi_class=1, post_transform="NONE",
    )  # fmt: skip
    zipmap = helper.make_node("ZipMap", ["scores"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2])
    number = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, number))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])
    graph = helper.make_graph([scorer, zipmap], "scores in maps", [x], [helper.make_value_info("maps", maps)])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    assert entry_of(patched(model=model), model=model).passed


def test_one_that_crashes_on_the_unpatched_model_only_is_right(fault: Any) -> None:
    """The crash takes the patched model with it, which is loaded again."""
    fault("crashes on the original")
    entry = entry_of(patched())
    assert (entry.passed, entry.n_samples, entry.max_abs_error_before) == (True, 48, None)


def test_outputs_that_are_none_of_the_model_count_also_among_all(fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`all` only reports what cannot run a model; this one runs it, and is wrong."""
    monkeypatch.setattr(registry, "NAMES", ("faulty",))
    for name, counts in (("drops a class", True), ("refuses", False)):
        fault(name)
        result = verify(MODEL, patched(), X, runtime="all").verification
        assert (result.passed, result.runtimes[1].passed, result.runtimes[1].counts) == (not counts, False, counts)


@pytest.mark.parametrize(
    ("op_type", "classes"), [("Softmax", 4), ("Sigmoid", 1)], ids=["softmax", "sigmoid"]
)  # fmt: skip
def test_wrong_logits_behind_probabilities_of_0_and_1_are_the_runtimes(op_type: str, classes: int, fault: Any) -> None:
    """Unpatched probabilities are right, so that only the logits show that the runtime is coarse, not the patch."""
    fault("coarse weights")
    nodes = [helper.make_node(op_type, ["logits"], ["probs"])]
    steep = builders.classifier(nodes, output="probs", classes=classes, output_shape=("N", classes), scale=3000.0)
    entry = entry_of(patched(1000.0, steep), model=steep)
    assert entry.max_abs_error_before is not None
    assert entry.max_abs_error_before < 1e-6
    assert (entry.passed, entry.blame) == (False, "runtime")
    assert entry.detail.startswith("its logits are wrong before and after")


def test_what_ran_out_of_time_says_how_many_samples_it_ran(fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0])
    monkeypatch.setattr("onnxcal.verification.runtimes.monotonic", lambda: next(clock, 101.0))
    entry = entry_of(patched(), runtime_timeout=100)
    assert (entry.passed, entry.n_samples) == (True, 16)
    assert entry.detail == "it had only 100 s, and ran the first 16 samples"
    assert "the first 16 samples" in entry.as_check().detail


@pytest.mark.parametrize("keep_io_types", [True, False], ids=["float32 inputs", "float16 inputs"])
def test_a_file_that_a_tolerance_accepts_is_held_to_it_elsewhere_too(keep_io_types: bool) -> None:
    from onnxconverter_common.float16 import convert_float_to_float16

    half = convert_float_to_float16(patched(), keep_io_types=keep_io_types)
    found = verify(MODEL, half, X, runtime="onnx-reference", tolerance=0.02).verification
    assert found.passed
    assert found.runtimes[1].tolerance == pytest.approx(0.02, rel=1e-3)
    assert found.runtimes[1].max_abs_error > 1e-4  # so that it did not pass by its own
    strict = verify(MODEL, half, X, runtime="onnx-reference").verification
    assert "or what changed the file since" in strict.runtimes[1].detail


def test_other_runtimes_are_run_with_the_default_temperature_and_that_is_said() -> None:
    tunable = onnxcal.patch(MODEL, temperature=2.0, runtime_temperature=True).proto
    assert tunable is not None
    said = "T as an input was fed in onnxruntime only; in onnx-reference T was its default"
    assert said in verify(MODEL, tunable, X, runtime="onnx-reference").warnings
    assert verify(MODEL, tunable, X, runtime="onnxruntime").warnings == ()


def test_one_that_hangs_is_left_behind(fault: Any) -> None:
    fault("hangs")
    entry = entry_of(patched(), runtime_timeout=2.5)
    assert re.search(r"it did not (run|load) within 2.5 s \(--runtime-timeout\)$", entry.detail)


def with_wrong_temperature() -> onnx.ModelProto:
    proto = patched()
    (divisor,) = (t for t in proto.graph.initializer if "temperature" in t.name)
    divisor.CopyFrom(numpy_helper.from_array(np.array([2.1], np.float32), divisor.name))
    return proto


def with_wrong_axis() -> onnx.ModelProto:
    proto = patched()
    (node,) = (n for n in proto.graph.node if n.op_type == "Softmax")
    del node.attribute[:]
    node.attribute.append(helper.make_attribute("axis", 0))
    return proto


def with_mixed_batch() -> onnx.ModelProto:
    """z becomes 2z - (mean of z over the batch): z itself where there is one sample."""
    proto = patched()
    (node,) = (n for n in proto.graph.node if n.op_type == "Softmax")
    (source,) = node.input
    node.input[0] = "mixed"
    at = list(proto.graph.node).index(node)
    for new in (
        helper.make_node("Sub", ["twice", "mean"], ["mixed"]),
        helper.make_node("Add", [source, source], ["twice"]),
        helper.make_node("ReduceMean", [source], ["mean"], axes=[0], keepdims=1),
    ):
        proto.graph.node.insert(at, new)
    return proto


@pytest.mark.parametrize("damage", [with_wrong_temperature, with_wrong_axis, with_mixed_batch])
def test_a_damaged_patch_is_caught_in_a_sound_runtime_and_blamed_on_the_patch(damage: Any, fault: Any) -> None:
    entry = entry_of(damage())
    assert (entry.passed, entry.blame) == (False, "patch")
    assert entry.detail.startswith("wrong only after: the patch")
    assert ("one sample at a time it is right" in entry.detail) == (damage is with_mixed_batch)
    assert entry.max_abs_error_before is not None
    assert entry.max_abs_error_before < 1e-6


def test_small_errors_that_a_small_temperature_enlarges_are_the_runtimes(fault: Any) -> None:
    """Within tolerance before, and out of it after, though the patch does to them what it should."""
    fault("slightly off")
    w, b = (numpy_helper.to_array(t) for t in MODEL.graph.initializer)
    many = np.random.default_rng(3).normal(size=(20_000, 6)).astype(np.float32)
    z = many @ w + b
    ties = many[np.argsort(np.abs(z[:, 0] - z[:, 1:].max(axis=1)))[:32]]
    entry = entry_of(patched(0.1), ties)
    assert (entry.passed, entry.blame) == (False, "runtime")
    assert "small errors before, which T = 0.1 enlarges" in entry.detail


BATCHY = builders.classifier(
    [
        helper.make_node("ReduceMean", ["logits"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["logits", "mean"], ["z"]),
        builders.softmax("z"),
    ],
    output="probs",
)
"""Its samples depend on each other."""


@pytest.mark.parametrize("name", ["right", "mixes the batch", "always a quarter"])
def test_samples_that_depend_on_each_other_excuse_no_runtime(name: str, fault: Any) -> None:
    """Alone they give other probabilities, which is no rounding; runtimes are compared in equal batches."""
    fault(name)
    entry = entry_of(patched(model=BATCHY), model=BATCHY)
    assert entry.passed == (name == "right")
    assert entry.tolerance == pytest.approx(1e-4, rel=0.1)


def cancelling(size: float) -> onnx.ModelProto:
    """A bias of some size that a BatchNormalization takes away again; onnxruntime fuses both, if it may."""
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.normal(size=(4, 6, 1, 1)), "bias": np.full(4, size), "mean": np.full(4, size),
        "one": np.ones(4), "zero": np.zeros(4),
    }  # fmt: skip
    initializers = [numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items()]
    initializers.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axes"], ["image"], name="unsqueeze"),
        helper.make_node("Conv", ["image", "w", "bias"], ["conv"], name="conv"),
        helper.make_node(
            "BatchNormalization", ["conv", "one", "zero", "mean", "one"], ["norm"], name="bn", epsilon=0.0
        ),
        helper.make_node("Flatten", ["norm"], ["logits"], name="flatten"),
        builders.softmax(),
    ]
    x, probs = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", k]) for n, k in (("x", 6), ("probs", 4)))
    return builders.model(helper.make_graph(nodes, "cancelling", [x], [probs], initializers))


def test_what_moves_in_onnxruntime_itself_is_no_fault_of_others(fault: Any) -> None:
    """Behind a sum that cancels only rounding is left, and it is another one in each order."""
    fault("unoptimised")
    entry = entry_of(patched(model=cancelling(1e5)), model=cancelling(1e5))
    assert (entry.passed, entry.blame) == (True, None)
    assert entry.max_abs_error is not None
    assert entry.tolerance is not None
    assert 1e-4 < entry.max_abs_error <= entry.tolerance < 0.01
    assert entry.detail.startswith("onnxruntime itself moves by")


@pytest.mark.parametrize("factor", [1.01, 1.03, 1.3])
def test_a_wrong_temperature_is_no_rounding_however_far_the_model_moves(factor: float, fault: Any) -> None:
    """Unpatched it moves further than at T = 2, which is nobody's fault either."""
    fault("unoptimised")
    after, model = patched(model=cancelling(1e6)), cancelling(1e6)
    (divisor,) = (t for t in after.graph.initializer if "temperature" in t.name)
    divisor.CopyFrom(numpy_helper.from_array(np.array([2.0 * factor], np.float32), divisor.name))
    entry = entry_of(after, model=model)
    assert (entry.passed, entry.blame) == (False, "patch")
    assert entry.tolerance is not None
    assert entry.tolerance_needed is not None
    assert entry.tolerance_needed > entry.tolerance


def test_logits_that_are_no_numbers_prove_no_patch_right(fault: Any) -> None:
    fault("nan as logits")
    after, model = patched(model=cancelling(1e6)), cancelling(1e6)
    (divisor,) = (t for t in after.graph.initializer if "temperature" in t.name)
    divisor.CopyFrom(numpy_helper.from_array(np.array([2.002], np.float32), divisor.name))
    assert not entry_of(after, model=model).passed


def test_a_class_that_cannot_be_moves_by_nothing(fault: Any) -> None:
    """Its log-probability is -inf everywhere."""
    fault("unoptimised")
    masked = cancelling(1e5)
    *_, flatten, _ = nodes = list(masked.graph.node)
    flatten.output[0] = "scores"
    nodes[-1:] = [
        helper.make_node("Add", ["scores", "mask"], ["logits"], name="masking"),
        helper.make_node("LogSoftmax", ["logits"], ["probs"], name="log_softmax"),
    ]
    del masked.graph.node[:]
    masked.graph.node.extend(nodes)
    masked.graph.initializer.append(numpy_helper.from_array(np.array([0, 0, 0, -np.inf], np.float32), "mask"))
    entry = entry_of(patched(model=masked), model=masked)
    assert (entry.passed, entry.blame) == (True, None)
    assert entry.detail.startswith("onnxruntime itself moves by")


def test_what_moves_beyond_measure_is_not_called_right(fault: Any) -> None:
    """Nobody is to blame where onnxruntime is as far from itself."""
    fault("unoptimised")
    entry = entry_of(patched(model=cancelling(1e7)), model=cancelling(1e7))
    assert (entry.passed, entry.blame) == (False, "unknown")
    assert "onnxruntime's own probabilities move by" in entry.detail
    fault("ignores T")
    assert entry_of(patched(model=cancelling(1e7)), model=cancelling(1e7)).blame == "patch"


def test_a_head_that_moves_excuses_no_other_head() -> None:
    """How far each moves is measured for each."""
    other = onnx.compose.add_prefix(builders.classifier([builders.softmax()], output="probs"), "still_")
    both = onnx.compose.merge_models(cancelling(1e6), other, io_map=[])
    file, comparisons = open_model(both), []
    for output in ("probs", "still_probs"):
        after = open_model(onnxcal.patch(both, temperature=2.0, head=output).proto)
        (entry,) = calibrated_heads(after)
        comparisons.append(HeadComparison(file, after, entry, recorded_head(file, entry)))
    reference = Reference(file, comparisons, RunOptions(), taps=())
    feed = Feed({"x": X, "still_x": X}, None, len(X), len(X), len(X))
    _, (moving, still) = own_spread(file, comparisons, reference, [feed], RunOptions(), divisible=True)
    assert moving > 1e-3
    assert still < 1e-6


# From outside


def test_calibrate_writes_nothing_that_is_wrong_in_a_runtime(fault: Any, tmp_path: Path) -> None:
    fault("garbage")
    model = builders.save(MODEL, tmp_path / "m.onnx")
    with pytest.raises(VerificationError, match="runtime faulty"):
        onnxcal.calibrate(model, (X, Y), runtime="faulty", bootstrap=0)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_runtime_that_is_missing_is_said_before_any_work(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxcal.inference.runtimes.parts.Command.version", lambda part: None)
    done = cli("calibrate", "no-such.onnx", "--data", "no-such.npz", "--runtime", "emx-c")
    assert done.exit_code == 2
    assert "runtime 'emx-c' is not installed: cc is missing" in done.stderr.replace("emx-onnx-cgen and ", "")
    assert "pip install 'onnxcal[emx-c]'" in done.stderr


@pytest.mark.parametrize("single", [False, True])
def test_all_run_the_same_samples_so_that_scores_compare(
    single: bool, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faulty, "RUNTIME", replace(faulty.RUNTIME, single=single))
    assert entry_of(patched(), runtime_samples=20).n_samples == 32
    assert entry_of(patched(), runtime_samples=8).n_samples == 8
    assert entry_of(patched(), runtime_samples=60).n_samples == 48


@pytest.mark.parametrize(("samples", "timeout"), [(0, 10.0), (10, 0.0), (10, -1.0), (10, float("nan"))])
def test_numbers_out_of_range_are_refused(samples: int, timeout: float) -> None:
    with pytest.raises(UsageError, match="out of range"):
        verify(MODEL, patched(), X, runtime_samples=samples, runtime_timeout=timeout)


def test_command_line_shows_a_table_and_exits_with_1(fault: Any, cli: Cli, tmp_path: Path) -> None:
    fault("garbage")
    model, after = builders.save(MODEL, tmp_path / "m.onnx"), builders.save(patched(), tmp_path / "p.onnx")
    np.savez(tmp_path / "d.npz", x=X, labels=Y)
    done = cli("verify", model, after, "--data", tmp_path / "d.npz", "--runtime", "faulty")
    assert done.exit_code == 1
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "faulty garbage  FAILED" in " ".join(done.stdout.split("\n")).replace("   ", "  ")
    assert "wrong before and after" in done.stdout
    done = cli("verify", model, after, "--data", tmp_path / "d.npz", "--runtime", "onnxruntime", "--json")
    document = json.loads(done.stdout)
    assert [(r["name"], r["setting"]) for r in document["verification"]["runtimes"]][:4] == [
        ("onnxruntime", ""),
        ("onnxruntime", "off"),
        ("onnxruntime", "basic"),
        ("onnxruntime", "all"),
    ]
    assert all(r["passed"] for r in document["verification"]["runtimes"])


def test_list_of_runtimes_on_the_command_line(cli: Cli) -> None:
    done = cli("runtimes")
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines() if not line.startswith(" ")] == list(registry.NAMES)
    states = json.loads(cli("runtimes", "--json").stdout)["runtimes"]
    assert {state["name"]: state["installed"] for state in states}["onnxruntime"] is True
    assert all(state["install"] for state in states)
    assert max(map(len, done.stdout.splitlines())) <= 80
