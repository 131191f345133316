"""Tree ensembles of the ai.onnx.ml operator set: boosted ones with margins, forests with probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.corpus.form import Form, Tap, node, value, weights
from tests.corpus.forms.columns import PAIR
from tests.corpus.forms.ml import (
    ML,
    NAMES,
    ROUNDING,
    label_attribute,
    labels_of,
    logs_of,
    ml_model,
)
from tests.corpus.forms.register import family, form


@dataclass(frozen=True)
class Stumps:
    """Trees of one decision each: feature ≤ threshold, and a weight a class on either side."""

    classes: int
    stumps: Sequence[tuple[int, float, dict[int, float], dict[int, float]]]
    base: Sequence[float] = ()
    names: Sequence[int | str] = field(default=())

    def node(self, post_transform: str | None, source: str = "x", scores: str = "scores") -> onnx.NodeProto:
        """As TreeEnsembleClassifier."""
        leaves = self._leaves()
        given = {} if post_transform is None else {"post_transform": post_transform}
        if self.base:
            given["base_values"] = list(self.base)
        return node(
            "TreeEnsembleClassifier",
            source,
            ["label", scores],
            domain=ML,
            **self._splits(),
            class_treeids=[leaf[0] for leaf in leaves],
            class_nodeids=[leaf[1] for leaf in leaves],
            class_ids=[leaf[2] for leaf in leaves],
            class_weights=[leaf[3] for leaf in leaves],
            **label_attribute(self.names or list(range(self.classes))),
            **given,
        )

    def regressor(self, post_transform: str | None, target: str = "scores") -> onnx.NodeProto:
        """As TreeEnsembleRegressor."""
        leaves = self._leaves()
        given = {} if post_transform is None else {"post_transform": post_transform}
        return node(
            "TreeEnsembleRegressor",
            "x",
            target,
            domain=ML,
            **self._splits(),
            n_targets=self.classes,
            target_treeids=[leaf[0] for leaf in leaves],
            target_nodeids=[leaf[1] for leaf in leaves],
            target_ids=[leaf[2] for leaf in leaves],
            target_weights=[leaf[3] for leaf in leaves],
            **given,
        )

    def ensemble(self, post_transform: int | None, target: str = "scores") -> onnx.NodeProto:
        """As TreeEnsemble of ai.onnx.ml 5: leaves apart, one target each, post_transform a number."""
        ids: list[int] = []
        leaf_weights: list[float] = []
        nodes: list[tuple[int, float, int, int]] = []
        for feature, threshold, left, right in self.stumps:
            for c in range(self.classes):  # a leaf has one target, so a tree a class
                nodes.append((feature, threshold, len(ids), len(ids) + 1))
                ids += [c, c]
                leaf_weights += [left.get(c, 0.0), right.get(c, 0.0)]
        given = {} if post_transform is None else {"post_transform": post_transform}
        return node(
            "TreeEnsemble",
            "x",
            target,
            domain=ML,
            n_targets=self.classes,
            aggregate_function=1,
            tree_roots=list(range(len(nodes))),
            nodes_featureids=[n[0] for n in nodes],
            nodes_modes=helper.make_tensor("modes", TensorProto.UINT8, [len(nodes)], [0] * len(nodes)),
            nodes_splits=helper.make_tensor("splits", TensorProto.FLOAT, [len(nodes)], [n[1] for n in nodes]),
            nodes_trueleafs=[1] * len(nodes),
            nodes_truenodeids=[n[2] for n in nodes],
            nodes_falseleafs=[1] * len(nodes),
            nodes_falsenodeids=[n[3] for n in nodes],
            leaf_targetids=ids,
            leaf_weights=helper.make_tensor("leaves", TensorProto.FLOAT, [len(ids)], leaf_weights),
            **given,
        )

    def scores(self, tap: Tap) -> np.ndarray:
        """(N, classes) in float64."""
        x = tap("x")
        total = np.zeros((len(x), self.classes)) + (np.asarray(self.base) if self.base else 0.0)
        for feature, threshold, left, right in self.stumps:
            low = x[:, feature] <= np.float32(threshold)
            for side, rows in ((left, low), (right, ~low)):
                for c, w in side.items():
                    total[rows, c] += np.float32(w)
        return total

    def _leaves(self) -> list[tuple[int, int, int, float]]:
        """Tree, node, class and weight of each."""
        trees = enumerate(self.stumps)
        return [(tree, at, c, w) for tree, s in trees for at in (1, 2) for c, w in s[at + 1].items()]

    def _splits(self) -> dict[str, Any]:
        trees = range(len(self.stumps))
        return {
            "nodes_treeids": [tree for tree in trees for _ in range(3)],
            "nodes_nodeids": [0, 1, 2] * len(self.stumps),
            "nodes_featureids": [f for s in self.stumps for f in (s[0], 0, 0)],
            "nodes_values": [v for s in self.stumps for v in (s[1], 0.0, 0.0)],
            "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"] * len(self.stumps),
            "nodes_truenodeids": [1, 0, 0] * len(self.stumps),
            "nodes_falsenodeids": [2, 0, 0] * len(self.stumps),
        }


BOOSTED = {
    2: Stumps(2, [(0, 0.1, {0: -0.9}, {0: 1.3}), (3, -0.2, {0: 0.4}, {0: -0.7}), (5, 0.0, {0: 0.2}, {0: 0.6})]),
    3: Stumps(
        3,
        [
            (0, 0.1, {0: -0.9, 1: 0.3}, {0: 1.3, 1: -0.2}),
            (3, -0.2, {1: 0.4, 2: -1.0}, {1: -0.7, 2: 0.8}),
            (4, 0.3, {2: 0.25}, {2: -0.5, 0: 0.75}),
        ],
    ),
}
"""Margins of boosted trees. Of two classes there is one margin, that of the second, under number 0."""
FOREST = {
    2: Stumps(2, [(0, 0.1, {0: 0.4, 1: 0.1}, {0: 0.05, 1: 0.45}), (3, -0.2, {0: 0.3, 1: 0.2}, {0: 0.0, 1: 0.5})]),
    3: Stumps(
        3,
        [
            (0, 0.1, {0: 0.4, 1: 0.1}, {0: 0.05, 1: 0.15, 2: 0.3}),
            (3, -0.2, {0: 0.3, 1: 0.2}, {2: 0.5}),
        ],
    ),
}
"""Votes of forests: not negative, and 1 in all; some are 0."""


def margin(tap: Tap) -> np.ndarray:
    """Of the second class."""
    return BOOSTED[2].scores(tap)[:, :1]


@family
def boosted_trees() -> Iterator[Form]:
    two, three = BOOSTED[2], BOOSTED[3]
    scores: dict[str, Any] = {"output": "scores", "logits": "scores", "rounding": ROUNDING}
    for names in ([0, 1], ["no", "yes"]):
        stumps = Stumps(2, two.stumps, names=names)
        outputs = [labels_of(names), value("scores", ["N", 2])]
        for transform in ("LOGISTIC", "NONE", None):
            yield Form(
                f"two classes of boosted trees, {transform}, {names}",
                ml_model([stumps.node(transform)], outputs),
                task="binary",
                activation="sigmoid" if transform == "LOGISTIC" else "none",
                classes=2,
                z=margin,
                after=PAIR,
                **scores,
            )
    for names in ([0, 1, 2], ["cat", "dog", "emu"]):
        stumps = Stumps(3, three.stumps, names=names)
        outputs = [labels_of(names), value("scores", ["N", 3])]
        for transform, activation, task in (
            ("SOFTMAX", "softmax", "multiclass"),
            ("LOGISTIC", "sigmoid", "multilabel"),
            ("NONE", "none", "multiclass"),
        ):
            yield Form(
                f"three classes of boosted trees, {transform}, {names}",
                ml_model([stumps.node(transform)], outputs),
                task=task,
                activation=activation,
                classes=3,
                z=stumps.scores,
                **scores,
            )
    based = Stumps(3, three.stumps, base=[0.5, -1.0, 0.25])
    yield Form(
        "boosted trees with base values",
        ml_model([based.node("SOFTMAX")], [labels_of([0, 1, 2]), value("scores", ["N", 3])]),
        classes=3,
        z=based.scores,
        **scores,
    )


@family
def forests() -> Iterator[Form]:
    """Their leaves hold probabilities: there are no logits but their logarithms."""
    for classes, stumps in FOREST.items():
        for names in NAMES["ints"][classes], NAMES["strings"][classes]:
            for transform in ("NONE", None):
                yield Form(
                    f"a forest of {classes} classes, {transform}, {names}",
                    ml_model(
                        [Stumps(classes, stumps.stumps, names=names).node(transform)],
                        [labels_of(names), value("scores", ["N", classes])],
                    ),
                    output="scores",
                    logits="scores",
                    classes=classes,
                    z=logs_of("scores"),
                )
    one = Stumps(2, [(0, 0.1, {0: 0.1}, {0: 0.45}), (3, -0.2, {0: 0.2}, {0: 0.5})])
    yield Form(
        "a forest that votes for the second of two classes alone",
        ml_model([one.node("NONE")], [labels_of([0, 1]), value("scores", ["N", 2])]),
        output="scores",
        logits="scores",
        classes=2,
        z=logs_of("scores"),
    )


@family
def no_default_operator_set() -> Iterator[Form]:
    for ir_version in (3, 8):
        outputs = [labels_of([0, 1, 2]), value("scores", ["N", 3])]
        yield Form(
            f"no default operator set, a forest, IR {ir_version}",
            ml_model([FOREST[3].node("NONE")], outputs, default=False, ir_version=ir_version),
            output="scores",
            logits="scores",
            z=logs_of("scores"),
            classes=3,
        )


ONE = Stumps(1, BOOSTED[2].stumps)


@family
def tree_regressors_as_classifiers() -> Iterator[Form]:
    """How boosters are also exported: margins as they are, or with an activation behind."""
    three = BOOSTED[3]
    for version in (1, 5):
        op = "TreeEnsembleRegressor" if version == 1 else "TreeEnsemble"
        for stumps in (ONE, three):
            count = stumps.classes
            task = "binary" if count == 1 else "multiclass"
            plain = stumps.regressor(None, "logits") if version == 1 else stumps.ensemble(None, "logits")
            last = node("Sigmoid" if count == 1 else "Softmax", "logits", "probs")
            yield Form(
                f"{op} of {count} under a {last.op_type}",
                ml_model([plain, last], [value("probs", ["N", count])], ml=version, opset=21),
                task=task,
                activation="sigmoid" if count == 1 else "softmax",
                classes=max(count, 2),
            )
            yield Form(
                f"{op} of {count} as it is",
                ml_model([plain], [value("logits", ["N", count])], ml=version, opset=21),
                output="logits",
                task=task,
                activation="none",
                classes=max(count, 2),
            )
    for transform, activation, task in (("SOFTMAX", "softmax", "multiclass"), ("LOGISTIC", "sigmoid", "multilabel")):
        yield Form(
            f"TreeEnsembleRegressor of three targets with {transform} inside",
            ml_model([three.regressor(transform)], [value("scores", ["N", 3])]),
            output="scores",
            logits="scores",
            task=task,
            activation=activation,
            classes=3,
            z=three.scores,
            rounding=ROUNDING,
        )


@form(task="binary", activation="sigmoid", classes=2, after=PAIR)
def regressor_sigmoid_and_both_columns() -> onnx.ModelProto:
    nodes = [
        ONE.regressor(None, "logits"),
        node("Sigmoid", "logits", "p"),
        node("Sub", "one p", "q"),
        node("Concat", "q p", "probs", axis=1),
        node("ArgMax", "probs", "label", axis=1, keepdims=0),
    ]
    outputs = [value("label", ["N"], "int64"), value("probs", ["N", 2])]
    return ml_model(nodes, outputs, constants={"one": np.ones(1, np.float32)})


@form(task="binary", activation="sigmoid", classes=2)
def linear_regressor_under_a_sigmoid() -> onnx.ModelProto:
    w = weights(6, 1)
    linear = node(
        "LinearRegressor", "x", "logits", domain=ML, coefficients=[float(c) for c in w[:, 0]], intercepts=[0.2]
    )
    return ml_model([linear, node("Sigmoid", "logits", "probs")], [value("probs", ["N", 1])])
