"""What a patch means beyond one head of one file: several heads, files that others touched since, and the way back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import onnxcal
from onnxcal.errors import ModelError, OnnxcalError
from onnxcal.graph.detect import find_head
from onnxcal.graph.modelfile import open_model
from onnxcal.graph.patch import check_structure
from onnxcal.graph.plan import HeadPatch
from onnxcal.verification import verify
from tests.builders import classifier, save, softmax
from tests.corpus.form import attempt, build, ints, node, value, weights
from tests.corpus.test_forms import run

X = {"x": np.random.default_rng(3).normal(size=(11, 6)).astype(np.float32)}
W = {"w": weights(6, 4)}


def outputs(model: onnx.ModelProto | bytes) -> dict[str, np.ndarray]:
    return run(model if isinstance(model, bytes) else model.SerializeToString(), X)


def softmax64(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def on_logits(nodes: list[onnx.NodeProto], *names: str) -> onnx.ModelProto:
    body = [node("MatMul", "x w", "logits"), *nodes]
    return build(body, [value("x", ["N", 6])], [value(name, ["N", 4]) for name in names], W)


Z = X["x"].astype(np.float64) @ W["w"].astype(np.float64)

PAIRS = {
    "softmax and sigmoid of the same logits": (
        on_logits([softmax(), node("Sigmoid", "logits", "scores")], "probs", "scores"),
        {"probs": lambda t: softmax64(Z / t), "scores": lambda t: 1 / (1 + np.exp(-Z / t))},
    ),
    "softmax, and its logits as raw output": (
        on_logits([softmax()], "logits", "probs"),
        {"probs": lambda t: softmax64(Z / t), "logits": lambda t: softmax64(Z / t)},
    ),
    "raw logits, and a copy of them": (
        on_logits([node("Identity", "logits", "copy")], "logits", "copy"),
        {"logits": lambda t: softmax64(Z / t), "copy": lambda t: softmax64(Z / t)},
    ),
    "raw logits, and more raw logits made of them": (
        on_logits([node("Neg", "logits", "negative")], "logits", "negative"),
        {"logits": lambda t: softmax64(Z / t), "negative": lambda t: softmax64(-Z / t)},
    ),
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("second_first", [False, True])
@pytest.mark.parametrize("options", [{}, {"output_name": "renamed"}, {"keep_logits": True}], ids=str)
def test_two_heads_patched_one_after_the_other_are_both_right(pair: str, second_first: bool, options: dict) -> None:
    model, truth = PAIRS[pair]
    order = sorted(truth, reverse=second_first)
    once = onnxcal.patch(model, temperature=2.0, head=order[0], **options).proto
    twice = onnxcal.patch(once, temperature=3.0, head=order[1]).proto
    got = outputs(twice)
    name = options.get("output_name", order[0])
    np.testing.assert_allclose(got[name], truth[order[0]](2.0), atol=1e-5, rtol=0)
    np.testing.assert_allclose(got[order[1]], truth[order[1]](3.0), atol=1e-5, rtol=0)
    assert verify(model, twice, X).verification.passed
    assert [c.temperature for c in onnxcal.inspect(twice).calibrations] == [2.0, 3.0]


@pytest.mark.parametrize("pair", PAIRS)
def test_two_heads_come_out_again_together(pair: str, tmp_path: Path) -> None:
    model, truth = PAIRS[pair]
    path = save(model, tmp_path / "m.onnx")
    first, second = truth
    onnxcal.patch(path, temperature=2.0, head=first, output=tmp_path / "1.onnx")
    onnxcal.patch(tmp_path / "1.onnx", temperature=3.0, head=second, output=tmp_path / "2.onnx")
    assert onnxcal.revert(tmp_path / "2.onnx", output=tmp_path / "0.onnx").byte_identical
    assert (tmp_path / "0.onnx").read_bytes() == path.read_bytes()


def test_one_activation_under_two_output_names_is_one_head() -> None:
    """Its second patch replaces the first, or is refused as what it is; no head is divided twice."""
    model = on_logits([softmax(), node("Identity", "probs", "copy")], "probs", "copy")
    once = onnxcal.patch(model, temperature=2.0, head="probs").proto
    result, error = attempt(lambda: onnxcal.patch(once, temperature=3.0, head="copy"))
    if error is not None:
        assert "structure check" not in error.message
    else:
        np.testing.assert_allclose(outputs(result.proto)["probs"], softmax64(Z / 3), atol=1e-5, rtol=0)
        assert [n.op_type for n in result.proto.graph.node].count("Div") == 1


def renamed_output(model: onnx.ModelProto) -> None:
    model.graph.node[-1].output[0] = "other"
    model.graph.output[0].name = "other"


def node_in_front(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, node("Identity", "x", "same"))
    model.graph.node[1].input[0] = "same"


def node_behind(model: onnx.ModelProto) -> None:
    model.graph.node.append(node("ArgMax", "probs", "label", axis=1))
    model.graph.output.append(value("label", ["N", 1], "int64"))


def initializer_in_front(model: onnx.ModelProto) -> None:
    model.graph.initializer.insert(0, numpy_helper.from_array(weights(2), "unused"))


def initializers_sorted(model: onnx.ModelProto) -> None:
    tensors = sorted(model.graph.initializer, key=lambda tensor: tensor.name, reverse=True)
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)


def division_folded_away(model: onnx.ModelProto) -> None:
    model.graph.node.remove(next(n for n in model.graph.node if n.op_type == "Div"))
    model.graph.node[-1].input[0] = "logits"


def temperature_changed(model: onnx.ModelProto) -> None:
    model.graph.initializer[-1].CopyFrom(numpy_helper.from_array(np.float32([5]), model.graph.initializer[-1].name))


def value_info_dropped(model: onnx.ModelProto) -> None:
    del model.graph.value_info[:]


def weights_changed(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights(6, 4, seed=9), "w"))


CHANGES = [
    renamed_output,
    node_in_front,
    node_behind,
    initializer_in_front,
    initializers_sorted,
    division_folded_away,
    temperature_changed,
    value_info_dropped,
    weights_changed,
]


def makes_sense(reverted: onnx.ModelProto, original: onnx.ModelProto) -> bool:
    """Whether nothing of a patch is left in a model and nothing of the model is gone with it."""
    try:
        onnx.checker.check_model(reverted)
    except onnx.checker.ValidationError:
        return False
    kinds = [n.op_type for n in reverted.graph.node]
    return (
        "Div" not in kinds
        and all(kinds.count(n.op_type) >= 1 for n in original.graph.node)
        and {t.name for t in original.graph.initializer} <= {t.name for t in reverted.graph.initializer}
        and not any("onnxcal" in t.name for t in reverted.graph.initializer)
    )


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("tail", ["softmax", "raw"])
def test_a_graph_that_was_changed_since_is_not_reverted_to_nonsense(
    change: Callable[[onnx.ModelProto], None], tail: str, tmp_path: Path
) -> None:
    """Refused, or the patch is taken out and the change stays; and no claim that the graph is the original's."""
    original = (
        classifier([softmax()], output="probs")
        if tail == "softmax"
        else classifier([node("Relu", "logits", "probs")], output="probs")
    )
    patched = onnxcal.patch(original, temperature=2.0).proto
    change(patched)
    path = save(patched, tmp_path / "changed.onnx")
    result, error = attempt(lambda: onnxcal.revert(path, output=tmp_path / "back.onnx"))
    if error is not None:
        assert error.hint
        assert not (tmp_path / "back.onnx").exists()
        return
    reverted = onnx.ModelProto.FromString((tmp_path / "back.onnx").read_bytes())
    assert makes_sense(reverted, original)
    assert result.byte_identical == (reverted == original)
    if reverted != original:
        assert not any("the graph is the original's" in warning for warning in result.warnings)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_graph_that_was_changed_since_is_not_recalibrated_to_nonsense(
    change: Callable[[onnx.ModelProto], None],
) -> None:
    patched = onnxcal.patch(classifier([softmax()], output="probs"), temperature=2.0).proto
    change(patched)
    result, error = attempt(lambda: onnxcal.patch(patched, temperature=3.0))
    if error is not None:
        assert error.hint
        assert "bug in onnxcal" not in error.hint
        return
    again = result.proto
    kinds = [n.op_type for n in again.graph.node]
    assert (kinds.count("Gemm"), kinds.count("Div"), kinds.count("Softmax")) == (1, 1, 1)
    onnx.checker.check_model(again)
    outputs(again)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format":1}',
        '{"format":99}',
        '{"format":1,"heads":[{}],"edit":{}}',
        '{"format":1,"heads":3,"edit":{"graph":{"1":{"added":[99],"old":{}}},"lengths":[0]},"sha256":"x"}',
        '{"format":1,"heads":[],"edit":{"graph":{"1":{"added":[-1],"old":{"-1":"AAA="}}},"lengths":[0]},"sha256":"x"}',
        '{"format":1,"heads":[],"edit":{"graph":{"1":{"added":"0","old":{"x":5}}},"lengths":[]},"sha256":"x"}',
        "NaN",
    ],
)
@pytest.mark.parametrize("key", ["onnxcal.calibration", "onnxcal.undo"])
def test_damaged_metadata_are_refused(key: str, value: str, tmp_path: Path) -> None:
    patched = onnxcal.patch(classifier([softmax()], output="probs"), temperature=2.0).proto
    next(p for p in patched.metadata_props if p.key == key).value = value
    path = save(patched, tmp_path / "m.onnx")
    for action in (
        lambda: onnxcal.revert(path, output=tmp_path / "back.onnx"),
        lambda: onnxcal.patch(path, temperature=3.0, output=tmp_path / "again.onnx"),
        lambda: verify(path, path, X),
        lambda: onnxcal.inspect(path),
    ):
        _, error = attempt(action)
        assert error is None or error.hint
    if (tmp_path / "back.onnx").exists():
        assert key == "onnxcal.calibration"


def test_a_model_that_is_not_patched_is_not_reverted(tmp_path: Path) -> None:
    path = save(classifier([softmax()], output="probs"), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="not patched"):
        onnxcal.revert(path, output=tmp_path / "back.onnx")
    assert not (tmp_path / "back.onnx").exists()


@pytest.mark.parametrize(
    "options", [{"output_name": "p"}, {"keep_logits": True}, {"output_name": "p", "keep_logits": True}], ids=str
)
def test_a_renamed_output_is_found_again_by_either_name(options: dict) -> None:
    model = classifier([softmax()], output="probs")
    once = onnxcal.patch(model, temperature=2.0, **options).proto
    expected = onnxcal.patch(model, temperature=3.0, **options).proto
    for name in {options.get("output_name", "probs"), "probs"}:
        assert onnxcal.patch(once, temperature=3.0, head=name, **options).proto == expected


def test_names_in_the_patch_never_collide() -> None:
    """Also with names that stand only inside subgraphs or are made by the first of two patches."""
    model = on_logits([softmax(), node("Sigmoid", "logits", "scores")], "probs", "scores")
    inner = helper.make_graph([node("Abs", "logits", "logits_calibrated")], "g", [], [value("logits_calibrated", None)])
    other = helper.make_graph(
        [node("Neg", "logits", "onnxcal_temperature")], "h", [], [value("onnxcal_temperature", None)]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(node("If", "yes", "s", then_branch=inner, else_branch=other))
    model.graph.output.append(value("s", None))
    once = onnxcal.patch(model, temperature=2.0, head="probs").proto
    twice = onnxcal.patch(once, temperature=3.0, head="scores", keep_logits=True).proto
    got = outputs(twice)
    np.testing.assert_allclose(got["probs"], softmax64(Z / 2), atol=1e-5, rtol=0)
    np.testing.assert_allclose(got["scores"], 1 / (1 + np.exp(-Z / 3)), atol=1e-5, rtol=0)
    assert got["s"].tobytes() == outputs(model)["s"].tobytes()
    made = [name for n in twice.graph.node for name in n.output]
    assert len(made) == len(set(made))


@pytest.mark.parametrize("temperature", [1e-30, 1e-3, 0.5, 1.0, 350.0, 1e30])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_any_sane_temperature_is_computed_right(temperature: float, dtype: str) -> None:
    model = classifier([softmax()], output="probs", dtype=dtype)
    patched = onnxcal.patch(model, temperature=temperature).proto
    x = {"x": X["x"].astype(dtype)}
    assert verify(model, patched, x).verification.passed


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf"), 1e-320, 1e39, 1e-39])
def test_temperatures_that_cannot_be_held_are_refused(temperature: float, tmp_path: Path) -> None:
    path = save(classifier([softmax()], output="probs"), tmp_path / "m.onnx")
    with pytest.raises(OnnxcalError):
        onnxcal.patch(path, temperature=temperature)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_the_structure_check_sees_a_wrong_temperature_and_a_missing_division() -> None:
    model = classifier([softmax()], output="probs")
    head = find_head(open_model(model))
    steps = onnxcal.Calibration(2.0).steps()
    patched = onnxcal.patch(model, temperature=2.0).proto
    check_structure(open_model(patched), [HeadPatch(head, steps)])
    for change in (temperature_changed, division_folded_away):
        broken = onnx.ModelProto.FromString(patched.SerializeToString())
        change(broken)
        with pytest.raises(ModelError, match="structure check"):
            check_structure(open_model(broken), [HeadPatch(head, steps)])


def test_the_contracts_python_example_runs_in_one_process(tmp_path: Path) -> None:
    """`onnxcal.verify` is a function, whatever was called before it."""
    save(classifier([softmax()], output="probs"), tmp_path / "m.onnx")
    script = (
        "import numpy as np, onnxcal\n"
        "x = np.zeros((4, 6), np.float32)\n"
        "onnxcal.inspect('m.onnx')\n"
        "onnxcal.patch('m.onnx', temperature=2, output='out.onnx')\n"
        "assert onnxcal.verify('m.onnx', 'out.onnx', x).verification.passed\n"
        "onnxcal.revert('out.onnx', output='back.onnx')\n"
    )
    environment = {"PYTHONPATH": str(Path(onnxcal.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Random small tails


@st.composite
def tails(draw) -> tuple[onnx.ModelProto, Callable[[np.ndarray], np.ndarray]]:
    """x → MatMul → activation → random moves → y; and what the moves do, by NumPy."""
    opset = draw(st.sampled_from([7, 9, 11, 12, 13, 17, 21]))
    activation = draw(st.sampled_from(["Softmax", "LogSoftmax", "Sigmoid"]))
    nodes = [node("MatMul", "x w", "logits"), node(activation, "logits", "t0")]
    constants = dict(W)
    shape, steps = (11, 4), []
    for step in range(draw(st.integers(0, 5))):
        source, target = f"t{step}", f"t{step + 1}"
        kind = draw(st.sampled_from(["Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Transpose"]))
        attributes, inputs, to = {}, [source], None
        if kind == "Squeeze" and 1 not in shape:
            kind = "Identity"
        if kind == "Reshape":
            to = draw(st.sampled_from([(44,), (11, 4), (4, 11), (11, 2, 2), (1, 44), (2, 11, 2, 1)]))
            constants[f"s{step}"], inputs = ints(*to), [source, f"s{step}"]
            steps.append(lambda a, to=to: a.reshape(to))
        elif kind in ("Squeeze", "Unsqueeze"):
            if kind == "Squeeze":
                axis = draw(st.sampled_from([i for i, size in enumerate(shape) if size == 1]))
                steps.append(lambda a, axis=axis: a.squeeze(axis))
            else:
                axis = draw(st.integers(0, len(shape)))
                steps.append(lambda a, axis=axis: np.expand_dims(a, axis))
            if opset < 13:
                attributes["axes"] = [axis]
            else:
                constants[f"s{step}"], inputs = ints(axis), [source, f"s{step}"]
        elif kind == "Flatten":
            axis = draw(st.integers(0, len(shape)))
            attributes["axis"] = axis
            steps.append(lambda a, axis=axis: a.reshape(int(np.prod(a.shape[:axis])), -1))
        elif kind == "Cast":
            attributes["to"] = TensorProto.DOUBLE
            steps.append(lambda a: a)
        elif kind == "Transpose":
            order = draw(st.permutations(range(len(shape))))
            attributes["perm"] = list(order)
            steps.append(lambda a, order=order: a.transpose(order))
        else:
            steps.append(lambda a: a)
        nodes.append(node(kind, inputs, target, **attributes))
        shape = steps[-1](np.empty(shape)).shape
    cast = any(n.op_type == "Cast" for n in nodes)
    nodes[-1].output[0] = "y"
    made = build(
        nodes, [value("x", ["N", 6])], [value("y", shape, "float64" if cast else "float32")], constants, opset=opset
    )

    def expected(temperature: float) -> np.ndarray:
        z = Z / temperature
        values = {"Softmax": softmax64(z), "LogSoftmax": np.log(softmax64(z)), "Sigmoid": 1 / (1 + np.exp(-z))}[
            activation
        ]
        for step in steps:
            values = step(values)
        return values

    return made, expected


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tails(), st.floats(0.3, 20))
def test_random_tails_are_patched_right(tail, temperature: float) -> None:
    model, expected = tail
    patched = onnxcal.patch(model, temperature=temperature).proto
    got, want = outputs(patched)["y"], expected(temperature)
    assert got.shape == want.shape
    assert got.dtype == outputs(model)["y"].dtype
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * max(1, np.abs(want).max()))
    assert verify(model, patched, X).verification.passed
