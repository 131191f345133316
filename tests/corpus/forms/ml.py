"""Linear and support vector classifiers of the ai.onnx.ml operator set, as scikit-learn's are exported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.corpus.form import Form, Tap, build, ints, node, value, weights
from tests.corpus.forms.columns import PAIR
from tests.corpus.forms.register import family, form

Nodes = list[onnx.NodeProto]
ML = "ai.onnx.ml"
LEAST = 2.0**-23
"""What a probability counts as at least where its logarithm serves as logit."""
ROUNDING = 2e-5
"""Of sums of float32 products."""


def ml_model(
    nodes: Nodes, outputs: Sequence[onnx.ValueInfoProto], *, ml: int = 1, default: bool = True, **kwargs: Any
) -> onnx.ModelProto:
    """x → nodes → outputs, with or without the default operator set."""
    constants = kwargs.pop("constants", {})
    made = build(nodes, [value("x", ["N", 6], kwargs.pop("dtype", "float32"))], outputs, constants, **kwargs)
    if not default:
        del made.opset_import[:]
    made.opset_import.append(helper.make_opsetid(ML, ml))
    return made


def labels_of(names: Sequence[int | str]) -> onnx.ValueInfoProto:
    """The declaration of the labels' output."""
    kind = TensorProto.INT64 if isinstance(names[0], int) else TensorProto.STRING
    return helper.make_tensor_value_info("label", kind, ["N"])


def maps(name: str, names: Sequence[int | str]) -> onnx.ValueInfoProto:
    """The declaration of a sequence of maps from label to probability."""
    made = onnx.ValueInfoProto(name=name)
    of = made.type.sequence_type.elem_type.map_type
    of.key_type = TensorProto.INT64 if isinstance(names[0], int) else TensorProto.STRING
    of.value_type.tensor_type.elem_type = TensorProto.FLOAT
    return made


def logs_of(name: str) -> Any:
    """The logarithms of probabilities, which serve as logits."""
    return lambda tap: np.log(np.maximum(tap(name), np.float32(LEAST)).astype(np.float64))


NAMES: dict[str, dict[int, list[Any]]] = {
    "ints": {2: [0, 1], 3: [0, 1, 2]},
    "strings": {2: ["no", "yes"], 3: ["cat", "dog", "emu"]},
    "scattered ints": {2: [-1, 1], 3: [7, 3, 5]},
}


def label_attribute(names: Sequence[int | str], ints_name: str = "classlabels_int64s") -> dict[str, Any]:
    return {ints_name: list(names)} if isinstance(names[0], int) else {"classlabels_strings": list(names)}


@dataclass(frozen=True)
class Linear:
    """A LinearClassifier; with two classes it has the margins [−s, s]."""

    classes: int
    post_transform: str | None
    kind: str = "ints"
    rows: int | None = None
    """Of coefficients; None for one a class."""

    @property
    def names(self) -> list[Any]:
        return NAMES[self.kind][self.classes]

    @property
    def coefficients(self) -> tuple[np.ndarray, np.ndarray]:
        """(rows, features), (rows,)."""
        w, b = weights(6, self.classes, scale=0.8).T, weights(self.classes, seed=1)
        if self.classes == 2:
            w, b = np.stack([-w[1], w[1]]), np.stack([-b[1], b[1]])
        return (w, b) if self.rows is None else (w[-self.rows :], b[-self.rows :])

    def node(self, source: str = "x", scores: str = "scores") -> onnx.NodeProto:
        w, b = self.coefficients
        given = {} if self.post_transform is None else {"post_transform": self.post_transform}
        return node(
            "LinearClassifier",
            source,
            ["label", scores],
            domain=ML,
            coefficients=[float(c) for c in w.ravel()],
            intercepts=[float(c) for c in b],
            multi_class=1,
            **label_attribute(self.names, "classlabels_ints"),
            **given,
        )

    def z(self, tap: Tap) -> np.ndarray:
        """The scores in float64; of two classes the second column alone, unless a softmax is taken of both."""
        w, b = self.coefficients
        z = tap("x").astype(np.float64) @ w.T.astype(np.float64) + b
        return z[:, -1:] if self.classes == 2 and self.post_transform != "SOFTMAX" else z

    def truth(self) -> dict[str, Any]:
        """What is true of its scores."""
        truth: dict[str, Any] = {"z": self.z, "rounding": ROUNDING, "logits": "scores"}
        if self.post_transform == "SOFTMAX":
            return truth | {"classes": self.classes}
        if self.classes == 2:
            activation = "sigmoid" if self.post_transform == "LOGISTIC" else "none"
            return truth | {"task": "binary", "activation": activation, "classes": 2, "after": PAIR}
        if self.post_transform == "LOGISTIC":
            return truth | {"task": "multilabel", "activation": "sigmoid", "classes": self.classes}
        return truth | {"activation": "none", "classes": self.classes, "z": None}


@family
def linear_classifiers() -> Iterator[Form]:
    for transform in (None, "NONE", "LOGISTIC", "SOFTMAX"):
        for classes in (2, 3):
            for kind in NAMES:
                if kind != "ints" and transform is None:
                    continue
                linear = Linear(classes, transform, kind)
                yield Form(
                    f"LinearClassifier {transform} of {classes} classes, {kind}",
                    ml_model([linear.node()], [labels_of(linear.names), value("scores", ["N", classes])]),
                    output="scores",
                    **linear.truth(),
                )
    for transform in ("LOGISTIC", "NONE"):
        linear = Linear(2, transform, rows=1)
        yield Form(
            f"LinearClassifier {transform} with one row for two classes",
            ml_model([linear.node()], [labels_of(linear.names), value("scores", ["N", 2])]),
            output="scores",
            **linear.truth(),
        )


@family
def no_default_operator_set() -> Iterator[Form]:
    """Nothing but ai.onnx.ml is used: what the patch adds is imported with it."""
    for transform, classes in (("SOFTMAX", 3), ("LOGISTIC", 2), ("LOGISTIC", 3), ("NONE", 2)):
        for ir_version in (3, 8):
            linear = Linear(classes, transform)
            yield Form(
                f"no default operator set, {transform} of {classes} classes, IR {ir_version}",
                ml_model(
                    [linear.node()],
                    [labels_of(linear.names), value("scores", ["N", classes])],
                    default=False,
                    ir_version=ir_version,
                ),
                output="scores",
                **linear.truth(),
            )


@family
def what_follows_a_linear_classifier() -> Iterator[Form]:
    for classes, transform in ((3, "SOFTMAX"), (2, "LOGISTIC")):
        linear = Linear(classes, transform)
        truth = linear.truth()
        after = truth.pop("after", lambda p: p)
        label = labels_of(linear.names)
        last: dict[str, tuple[onnx.NodeProto, list[int | str], str, Any, dict[str, np.ndarray]]] = {
            "Identity": (node("Identity", "scores", "probs"), ["N", classes], "float32", lambda p: p, {}),
            "Cast": (
                node("Cast", "scores", "probs", to=TensorProto.DOUBLE),
                ["N", classes],
                "float64",
                lambda p: p,
                {},
            ),
            "Transpose": (node("Transpose", "scores", "probs"), [classes, "N"], "float32", lambda p: p.T, {}),
            "Gather": (
                node("Gather", "scores k", "probs", axis=1),
                ["N"],
                "float32",
                lambda p: p[:, 1],
                {"k": np.array(1)},
            ),
            "ArrayFeatureExtractor": (
                node("ArrayFeatureExtractor", "scores k", "probs", domain=ML),
                ["N", 1],
                "float32",
                lambda p: p[:, 1:2],
                {"k": ints(1)},
            ),
            "Normalizer": (
                node("Normalizer", "scores", "probs", domain=ML, norm="L1"),
                ["N", classes],
                "float32",
                lambda p: p,
                {},
            ),
        }
        for name, (made, shape, dtype, more, constants) in last.items():
            yield Form(
                f"LinearClassifier {transform}, then {name}",
                ml_model([linear.node(), made], [label, value("probs", shape, dtype)], constants=constants),
                after=lambda p, after=after, more=more: more(after(p)),
                **truth,
            )


@form(z=logs_of("probs"), logits="probs", classes=3)
def one_versus_rest() -> onnx.ModelProto:
    """Three sigmoids divided by their sum: no softmax, so the logarithms of what comes out are calibrated."""
    nodes = [Linear(3, "LOGISTIC").node(), node("Normalizer", "scores", "probs", domain=ML, norm="L1")]
    return ml_model(nodes, [labels_of([0, 1, 2]), value("probs", ["N", 3])])


@form(classes=3, logits="scores")
def softmax_behind_raw_scores() -> onnx.ModelProto:
    nodes = [Linear(3, "NONE").node(), node("Softmax", "scores", "probs", axis=1)]
    return ml_model(nodes, [labels_of([0, 1, 2]), value("probs", ["N", 3])])


@form(output="scores", **Linear(3, "SOFTMAX").truth())
def scores_with_another_reader() -> onnx.ModelProto:
    """The label is taken from the scores, again: it stays the same."""
    nodes = [Linear(3, "SOFTMAX").node(), node("ArgMax", "scores", "again", axis=1, keepdims=0)]
    return ml_model(nodes, [labels_of([0, 1, 2]), value("scores", ["N", 3]), value("again", ["N"], "int64")])


@form(output='out/p:0 {"a": [1]}', logits='out/p:0 {"a": [1]}', classes=3, z=Linear(3, "SOFTMAX").z, rounding=ROUNDING)
def scores_with_an_odd_name() -> onnx.ModelProto:
    made = Linear(3, "SOFTMAX").node()
    made.output[1] = 'out/p:0 {"a": [1]}'
    return ml_model([made], [labels_of([0, 1, 2]), value('out/p:0 {"a": [1]}', ["N", 3])])


@form(output="scores", **Linear(3, "SOFTMAX").truth())
def wrong_declared_shape() -> onnx.ModelProto:
    """As onnxruntime's own logreg_iris.onnx: the declared number of samples is not the real one."""
    return ml_model([Linear(3, "SOFTMAX").node()], [labels_of([0, 1, 2]), value("scores", [None, 3])], default=False)


def svm(classes: int, *, prob: bool = True) -> onnx.NodeProto:
    """Two support vectors a class, with a linear kernel."""
    pairs = classes * (classes - 1) // 2
    support = weights(2 * classes, 6, seed=4)
    given = {"prob_a": [-1.7, -1.2, -2.0][:pairs], "prob_b": [0.1, -0.2, 0.05][:pairs]} if prob else {}
    return node(
        "SVMClassifier",
        "x",
        "label scores",
        domain=ML,
        kernel_type="LINEAR",
        kernel_params=[0.1, 0.0, 3.0],
        vectors_per_class=[2] * classes,
        support_vectors=[float(v) for v in support.ravel()],
        coefficients=[float(c) for c in weights(2 * classes * (classes - 1), seed=5, scale=0.4)],
        rho=[0.1, -0.1, 0.2][:pairs],
        classlabels_ints=list(range(classes)),
        **given,
    )


@family
def support_vectors_with_probabilities() -> Iterator[Form]:
    for classes in (2, 3):
        yield Form(
            f"SVMClassifier of {classes} classes with probabilities",
            ml_model([svm(classes)], [labels_of([0]), value("scores", ["N", classes])]),
            output="scores",
            logits="scores",
            classes=classes,
            z=logs_of("scores"),
        )
