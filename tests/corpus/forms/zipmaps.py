"""Sequences of maps from label to probability (ZipMap)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx

from tests.corpus.form import Form, node, weights
from tests.corpus.forms.columns import PAIR
from tests.corpus.forms.ml import (
    ML,
    NAMES,
    Linear,
    Nodes,
    label_attribute,
    labels_of,
    logs_of,
    maps,
    ml_model,
)
from tests.corpus.forms.pieces import Pieces
from tests.corpus.forms.register import family
from tests.corpus.forms.trees import FOREST, Stumps


def zipped(
    nodes: Nodes, source: str, names: Sequence[int | str], *, label: bool = True, **kwargs: Any
) -> onnx.ModelProto:
    """nodes → ZipMap → `probs`."""
    outputs = [*([labels_of(names)] if label else []), maps("probs", names)]
    made = node("ZipMap", source, "probs", domain=ML, **label_attribute(names))
    return ml_model([*nodes, made], outputs, **kwargs)


@family
def zip_maps() -> Iterator[Form]:
    """Sequences of maps keep their form, keys and order."""
    for kind, of in NAMES.items():
        for classes, transform in ((3, "SOFTMAX"), (2, "LOGISTIC"), (2, "SOFTMAX")):
            linear = Linear(classes, transform, kind)
            yield Form(
                f"ZipMap of a LinearClassifier {transform} of {classes} classes, {kind}",
                zipped([linear.node()], "scores", linear.names),
                keys=tuple(of[classes]),
                **linear.truth(),
            )
            normalized = node("Normalizer", "scores", "normal", domain=ML, norm="L1")
            yield Form(
                f"ZipMap of a Normalizer of a LinearClassifier {transform} of {classes} classes, {kind}",
                zipped([linear.node(), normalized], "normal", linear.names, default=kind == "strings"),
                keys=tuple(of[classes]),
                **linear.truth(),
            )
        names = of[3]
        yield Form(
            f"ZipMap of a forest, {kind}",
            zipped([Stumps(3, FOREST[3].stumps, names=names).node("NONE")], "scores", names),
            keys=tuple(names),
            logits="scores",
            z=logs_of("scores"),
            classes=3,
        )
        yield Form(
            f"ZipMap of a Softmax, {kind}",
            zipped(
                [node("MatMul", "x w", "logits"), node("Softmax", "logits", "p", axis=1)],
                "p",
                names,
                label=False,
                constants={"w": weights(6, 3)},
            ),
            keys=tuple(names),
            classes=3,
        )
    pieces, constants = Pieces().nodes(target="p")
    yield Form(
        "ZipMap of a softmax in pieces",
        zipped(
            [node("MatMul", "x w", "logits"), *pieces],
            "p",
            [0, 1, 2, 3],
            label=False,
            constants=constants | {"w": weights(6, 4)},
        ),
        keys=(0, 1, 2, 3),
    )
    nodes = [
        node("MatMul", "x w", "logits"),
        node("Sigmoid", "logits", "p"),
        node("Sub", "one p", "q"),
        node("Concat", "q p", "both", axis=1),
    ]
    yield Form(
        "ZipMap of two columns",
        zipped(nodes, "both", [0, 1], label=False, constants={"w": weights(6, 1), "one": np.ones(1, np.float32)}),
        keys=(0, 1),
        task="binary",
        activation="sigmoid",
        classes=2,
        after=PAIR,
    )
