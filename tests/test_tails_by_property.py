"""Random small tails, put together of the pieces that exporters use: patched, run, and held against float64 numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from onnx import TensorProto
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, NotImplemented

import onnxcal
from tests.corpus.form import build, ints, node, squeeze, unsqueeze, value, weights
from tests.corpus.forms.pieces import Pieces, log_softmax_nodes, sigmoid_nodes
from tests.corpus.test_forms import run

SAMPLES = 5
X = {
    rank: np.random.default_rng(rank).normal(size=(SAMPLES, *(2, 3)[: rank - 2], 6)).astype(np.float32)
    for rank in (2, 3, 4)
}
TOLERANCE = {"float16": 2e-3, "float32": 1e-5, "float64": 1e-12}
ELEM_TYPES = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@dataclass
class Tail:
    """A graph in the making; `after` does in numpy what the nodes behind the activation do."""

    opset: int
    dtype: str
    rank: int
    axis: int
    classes: int
    said: list[str] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    tensor: str = "x"
    task: str = "multiclass"
    activation: str = "softmax"
    z: Callable[[np.ndarray], np.ndarray] = lambda z: z
    after: list[Callable[[np.ndarray], np.ndarray]] = field(default_factory=list)
    final: str = ""
    """Element type of the output."""

    def __repr__(self) -> str:
        return f"opset {self.opset}, {self.dtype}, {self.classes} classes on {self.axis}: {' -> '.join(self.said)}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    def add(self, made: list[onnx.NodeProto], constants: dict[str, np.ndarray], tensor: str, said: str) -> None:
        self.nodes += made
        self.constants |= constants
        self.tensor = tensor
        self.said.append(said)

    def name(self) -> str:
        """A new tensor name."""
        return f"t{len(self.nodes)}"

    def model(self) -> onnx.ModelProto:
        x = value("x", ["N", *X[self.rank].shape[1:]], self.dtype)
        return build(
            [*self.nodes, node("Identity", self.tensor, "y")],
            [x],
            [value("y", None, self.final or self.dtype)],
            self.constants,
            opset=self.opset,
        )


@st.composite
def linear(draw: st.DrawFn, *, classes: int, layouts: list[tuple[int, int]]) -> Tail:
    """x → MatMul → Add → perhaps Transpose, Relu or Clip → `logits`."""
    rank, axis = draw(st.sampled_from(layouts))
    dtype = draw(st.sampled_from(["float32", "float32", "float16", "float64"]))
    opset = draw(st.sampled_from([9, 11, 13, 17, 21]))
    tail = Tail(opset, dtype, rank, axis, classes)
    scale = 0.3 if dtype == "float16" else 1.5
    constants = {"w": weights(6, classes, dtype=dtype, scale=scale), "b": weights(classes, dtype=dtype, seed=1)}
    tail.add([node("MatMul", "x w", "xw"), node("Add", "xw b", "linear")], constants, "linear", "linear")
    if axis != rank - 1:
        order = list(range(rank - 1))
        order.insert(axis, rank - 1)
        tail.add([node("Transpose", "linear", "moved", perm=order)], {}, "moved", f"Transpose {order}")
    before = draw(st.sampled_from([None, None, "Relu", "Clip", "Identity", "Dropout"]))
    if before == "Clip":
        tail.add(*clip(tail, "before", -0.75, 1.25), "Clip before")
    elif before is not None:
        tail.add([node(before, tail.tensor, "before")], {}, "before", f"{before} before")
    tail.nodes.append(node("Identity", tail.tensor, "logits") if tail.tensor == "x" else tail.nodes.pop())
    tail.nodes[-1].output[0] = "logits"
    tail.tensor = "logits"
    return tail


def clip(tail: Tail, target: str, low: float, high: float) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray], str]:
    if tail.opset < 11:
        return [node("Clip", tail.tensor, target, min=low, max=high)], {}, target
    dtype = tail.final or tail.dtype
    bounds = {f"{target}_low": np.array(low, dtype), f"{target}_high": np.array(high, dtype)}
    return [node("Clip", [tail.tensor, *bounds], target)], bounds, target


@st.composite
def softmaxes(draw: st.DrawFn) -> Tail:
    """A softmax or log-softmax over any axis, in one node, in two, or in pieces."""
    layouts = [(2, 1), (2, 1), (2, 0), (3, 1), (3, 2), (4, 1), (4, 3)]
    tail = draw(linear(classes=draw(st.integers(2, 4)), layouts=layouts))
    last = tail.axis == tail.rank - 1
    one_node = ["Softmax", "LogSoftmax", "Exp of LogSoftmax", "Log of Softmax"] if last or tail.opset >= 13 else []
    kinds = [*one_node, "pieces", "pieces", "log pieces", "Exp of log pieces"]
    if tail.dtype == "float16":
        kinds = [kind for kind in kinds if "log pieces" not in kind]
    kind = draw(st.sampled_from(kinds))
    axis = tail.axis if draw(st.booleans()) or tail.opset < 11 else tail.axis - tail.rank
    tail.activation = "log_softmax" if kind in ("LogSoftmax", "Log of Softmax", "log pieces") else "softmax"
    tail.said.append(kind)
    if "pieces" in kind:
        shift = draw(st.booleans())  # without it the guard counts, where all logits are far below 0
        pieces = Pieces(
            opset=tail.opset,
            axis=tail.axis if tail.opset < 11 else axis,
            shift=shift,
            back=draw(st.sampled_from([None, None, "Unsqueeze"])),
            divide=draw(st.sampled_from(["Div", "Mul", "Mul the other way round"])),
            guard=draw(st.sampled_from([None, None, "Add to the sum", "Expand"]))
            if shift and kind == "pieces"
            else None,
            dtype=tail.dtype,
        )
        tail.said.append(str(pieces))
        if kind == "pieces":
            made, constants = pieces.nodes(target="p")
        else:
            how = draw(st.sampled_from(["D - Log(Sum(Exp(D)))", "z - ReduceLogSumExp(z)"]))
            tail.said.append(how)
            made, constants = log_softmax_nodes(how, pieces, "inner")
            made.append(node("Exp" if kind.startswith("Exp") else "Identity", "inner", "p"))
        tail.add(made, constants, "p", "")
        return tail
    outer, _, inner = kind.rpartition(" of ")
    tail.add([node(inner, "logits", "inner" if outer else "p", axis=axis)], {}, "p", "")
    if outer:
        tail.nodes.append(node(outer, "inner", "p"))
    return tail


@st.composite
def sigmoids(draw: st.DrawFn) -> Tail:
    """Independent labels, or one: as p, as [1 − p, p], or over margins."""
    one = draw(st.booleans())
    tail = draw(linear(classes=1 if one else draw(st.integers(2, 4)), layouts=[(2, 1)]))
    tail.task, tail.activation = "binary" if one else "multilabel", "sigmoid"
    kinds = [
        "Sigmoid",
        "Div",
        "Reciprocal, one first",
        *(["margins", "both signs", "sigmoid of margins"] if one else []),
    ]
    kind = draw(st.sampled_from(kinds))
    tail.said.append(kind)
    if kind in ("margins", "both signs", "sigmoid of margins"):
        minus = node("Neg", "logits", "minus")
        if kind == "both signs":
            made = [minus, node("Sigmoid", "minus", "q"), node("Sigmoid", "logits", "s")]
            tail.add([*made, node("Concat", "q s", "p", axis=draw(st.sampled_from([1, -1])))], {}, "p", "")
        else:
            made = [minus, node("Concat", "minus logits", "m", axis=1)]
            if kind == "margins":
                tail.activation = "none"
            tail.add(
                [*made, *([] if kind == "margins" else [node("Sigmoid", "m", "p")])],
                {},
                "m" if kind == "margins" else "p",
                "",
            )
        tail.after.append(lambda p: np.concatenate([1 - p, p], axis=1))
        return tail
    if kind == "Sigmoid":
        tail.add([node("Sigmoid", "logits", "p")], {}, "p", "")
    else:
        tail.add(*sigmoid_nodes(kind, "logits", "p", tail.dtype), "p", "")
    if one and draw(st.booleans()):
        reverse, vector = draw(st.booleans()), draw(st.booleans())
        columns = ["p", "q"] if reverse else ["q", "p"]
        made, constants = [node("Sub", "unit p", "q")], {"unit": np.ones(1, tail.dtype)}
        if vector:
            taken, axes = squeeze("p", "flat", 1, tail.opset)
            less = node("Sub", "unit flat", "q")
            lifted = [unsqueeze(name, f"{name}_up", 1, tail.opset) for name in ("flat", "q")]
            made = [taken, less, *(n for n, _ in lifted)]
            constants |= axes | lifted[0][1] | lifted[1][1]
            columns = ["flat_up", "q_up"] if reverse else ["q_up", "flat_up"]
        made.append(node("Concat", columns, "pair", axis=1))
        tail.add(made, constants, "pair", f"[p, 1 - p], reverse {reverse}, vector {vector}")
        tail.after.append(lambda p: np.concatenate([p, 1 - p] if reverse else [1 - p, p], axis=1))
    return tail


@st.composite
def moved(draw: st.DrawFn, tails: st.SearchStrategy[Tail]) -> Tail:
    """Up to four moves behind the activation."""
    tail = draw(tails)
    if tail.activation == "none":
        return tail
    tail.final = tail.dtype
    shape = apply(tail, np.zeros(logits_shape(tail))).shape
    kinds = ["Identity", "Transpose", "Unsqueeze", "Cast", "Dropout", "Flatten", "Mul by 1"]
    kinds += ["Clip", "Relu", "Gather"] if tail.activation != "log_softmax" else ["Gather"]
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=4)):
        target = tail.name()
        if kind == "Transpose":
            order = draw(st.permutations(range(len(shape))))
            made, step = [node(kind, tail.tensor, target, perm=order)], lambda p, order=order: p.transpose(order)
            constants: dict[str, np.ndarray] = {}
        elif kind == "Unsqueeze":
            axis = draw(st.integers(1, len(shape)))
            one, constants = unsqueeze(tail.tensor, target, axis, tail.opset)
            made, step = [one], lambda p, axis=axis: np.expand_dims(p, axis)
        elif kind == "Cast":
            tail.final = draw(st.sampled_from(["float32", "float64", "float16"]))
            made, constants = [node(kind, tail.tensor, target, to=ELEM_TYPES[tail.final])], {}
            step = as_it_is
        elif kind == "Flatten":
            made, constants = [node(kind, tail.tensor, target, axis=1)], {}
            step = lambda p: p.reshape(p.shape[0], -1)  # noqa: E731
        elif kind == "Mul by 1":
            made = [node("Mul", [tail.tensor, f"{target}_one"], target)]
            constants, step = {f"{target}_one": np.ones(1, tail.final)}, as_it_is
        elif kind == "Clip":
            made, constants, _ = clip(tail, target, 0.125, 0.75)
            step = lambda p: p.clip(0.125, 0.75)  # noqa: E731
        elif kind == "Gather":
            index = draw(st.integers(0, shape[-1] - 1)) if len(shape) > 1 and SAMPLES not in shape[-1:] else None
            if index is None:
                continue
            constants = {f"{target}_k": ints(index)}
            made = [node("Gather", [tail.tensor, f"{target}_k"], target, axis=len(shape) - 1)]
            step = lambda p, index=index: p[..., [index]]  # noqa: E731
        else:
            made, constants, step = [node(kind, tail.tensor, target)], {}, as_it_is
        tail.add(made, constants, target, kind)
        tail.after.append(step)
        shape = step(np.zeros(shape)).shape
    return tail


def as_it_is(p: np.ndarray) -> np.ndarray:
    return p


def logits_shape(tail: Tail) -> tuple[int, ...]:
    shape = list(X[tail.rank].shape[:-1])
    shape.insert(tail.axis, tail.classes)
    return tuple(shape)


def apply(tail: Tail, probabilities: np.ndarray) -> np.ndarray:
    for step in tail.after:
        probabilities = step(probabilities)
    return probabilities


def reference(tail: Tail, logits: np.ndarray, temperature: float) -> np.ndarray:
    """In float64."""
    z = logits.astype(np.float64) / temperature
    if tail.task != "multiclass":
        return apply(tail, 1 / (1 + np.exp(-z)))
    shifted = z - z.max(axis=tail.axis, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=tail.axis, keepdims=True))
    return apply(tail, logs if tail.activation == "log_softmax" else np.exp(logs))


def check(tail: Tail, temperature: float, **said: Any) -> None:
    """Patched and run, it is the reference; and the way back is open."""
    if tail.dtype == "float16":
        temperature = max(temperature, 0.7)
    model = tail.model()
    x = {"x": X[tail.rank].astype(tail.dtype)}
    tapped = onnx.ModelProto.FromString(model.SerializeToString())
    tapped.graph.output.add(name="logits")
    try:
        logits = run(tapped.SerializeToString(), x)["logits"]
    except (NotImplemented, Fail):  # no kernel for this type and opset; or onnxruntime's own fusions fail on it
        reject()
    assert isinstance(logits, np.ndarray)

    result = onnxcal.patch(model, temperature=temperature, data=x, **said)
    assert result.verification is not None
    assert result.verification.passed
    assert (result.head.task, result.head.activation) == (tail.task, tail.activation)
    got = run(result.proto.SerializeToString(), x)["y"]
    expected = reference(tail, logits, temperature)
    assert isinstance(got, np.ndarray)
    assert (got.shape, got.dtype) == (expected.shape, tail.final or tail.dtype)
    narrowest = "float16" if tail.dtype == "float16" or "float16" in cast_types(tail) else tail.final or tail.dtype
    tolerance = max(TOLERANCE[narrowest], TOLERANCE[tail.dtype], 1e-5 if "float32" in cast_types(tail) else 0)
    error = np.abs(got.astype(np.float64) - expected)
    if tail.activation == "log_softmax":
        error /= np.maximum(1, np.abs(expected))
    assert error.max() <= tolerance

    with TemporaryDirectory() as folder:
        back = Path(folder) / "back.onnx"
        onnxcal.revert(result.proto, output=back)
        assert back.read_bytes() == model.SerializeToString()


def cast_types(tail: Tail) -> set[str]:
    names = {number: name for name, number in ELEM_TYPES.items()}
    return {names[a.i] for made in tail.nodes if made.op_type == "Cast" for a in made.attribute}


TEMPERATURES = st.floats(0.3, 12.0)


@SETTINGS
@given(moved(softmaxes()), TEMPERATURES)
def test_any_softmax_that_is_put_together_of_known_pieces_is_calibrated(tail: Tail, temperature: float) -> None:
    check(tail, temperature)


@SETTINGS
@given(moved(sigmoids()), TEMPERATURES)
def test_any_sigmoid_that_is_put_together_of_known_pieces_is_calibrated(tail: Tail, temperature: float) -> None:
    check(tail, temperature)
