"""One class of the probabilities, some of them, or each as an output of its own: Gather, Slice, Split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx

from tests.corpus.form import After, Form, build, ints, node, squeeze, value, weights
from tests.corpus.forms.pieces import Pieces
from tests.corpus.forms.register import behind, classes_at, family, form


def column(index: int) -> After:
    return lambda p: p[:, index]


@family
def gathered() -> Iterator[Form]:
    for opset in (7, 11, 13, 21):
        yield Form(
            f"one class by Gather of a list, opset {opset}",
            behind([node("Gather", "p k", "probs", axis=1)], ["N", 1], {"k": ints(2)}, opset=opset),
            after=lambda p: p[:, 2:3],
        )
        yield Form(
            f"one class by Gather of a number, opset {opset}",
            behind([node("Gather", "p k", "probs", axis=1)], ["N"], {"k": np.array(1)}, opset=opset),
            after=column(1),
        )
    yield Form(
        "all classes in another order",
        behind([node("Gather", "p k", "probs", axis=1)], ["N", 4], {"k": ints(1, 0, 3, 2)}),
        after=lambda p: p[:, [1, 0, 3, 2]],
    )
    yield Form(
        "three classes of four, from the back",
        behind([node("Gather", "p k", "probs", axis=-1)], ["N", 3], {"k": ints(-1, 0, -2)}),
        after=lambda p: p[:, [-1, 0, -2]],
    )
    yield Form(
        "one class twice, by 32-bit indices",
        behind([node("Gather", "p k", "probs", axis=1)], ["N", 2], {"k": np.array([3, 3], np.int32)}),
        after=lambda p: p[:, [3, 3]],
    )
    yield Form(
        "indices in a Constant",
        behind([node("Constant", [], "k", value_ints=[1]), node("Gather", "p k", "probs", axis=1)], ["N", 1]),
        after=lambda p: p[:, 1:2],
    )
    yield Form(
        "the second of two classes",
        behind([node("Gather", "p k", "probs", axis=1)], ["N"], {"k": np.array(1)}, classes=2),
        classes=2,
        after=column(1),
    )
    yield Form(
        "one class of log-probabilities",
        behind([node("Gather", "p k", "probs", axis=1)], ["N"], {"k": np.array(1)}, activation="LogSoftmax"),
        activation="log_softmax",
        after=column(1),
    )
    yield Form(
        "one label of several",
        behind([node("Gather", "p k", "probs", axis=1)], ["N", 1], {"k": ints(1)}, activation="Sigmoid"),
        task="multilabel",
        activation="sigmoid",
        after=lambda p: p[:, 1:2],
    )


@family
def sliced() -> Iterator[Form]:
    constants = {"start": ints(1), "end": ints(3), "axis": ints(1)}
    for opset in (7, 9):
        yield Form(
            f"Slice by attributes, opset {opset}",
            behind([node("Slice", "p", "probs", starts=[1], ends=[3], axes=[1])], ["N", 2], opset=opset),
            after=lambda p: p[:, 1:3],
        )
    for opset in (10, 13, 21):
        yield Form(
            f"Slice by inputs, opset {opset}",
            behind([node("Slice", "p start end axis", "probs")], ["N", 2], constants, opset=opset),
            after=lambda p: p[:, 1:3],
        )
    backwards = {"start": ints(-1), "end": ints(-(2**62)), "axis": ints(-1), "step": ints(-1)}
    yield Form(
        "Slice that reverses the classes",
        behind([node("Slice", "p start end axis step", "probs")], ["N", 4], backwards),
        after=lambda p: p[:, ::-1],
    )
    every_second = {"start": ints(0), "end": ints(2**62), "axis": ints(1), "step": ints(2)}
    yield Form(
        "Slice of every second class",
        behind([node("Slice", "p start end axis step", "probs")], ["N", 2], every_second),
        after=lambda p: p[:, ::2],
    )
    last = {"start": ints(-1), "end": ints(2**62), "axis": ints(1)}
    squeezed, axes = squeeze("one", "probs", 1, 17)
    yield Form(
        "last class by Slice and Squeeze",
        behind([node("Slice", "p start end axis", "one"), squeezed], ["N"], last | axes),
        after=column(-1),
    )
    yield Form(
        "Slice of all there is",
        behind(
            [node("Slice", "p start end axis", "probs")],
            ["N", 4],
            {"start": ints(0), "end": ints(2**62), "axis": ints(1)},
        ),
    )


def split(opset: int, sizes: list[int] | None, names: list[str], source: str = "p", axis: int = 1) -> tuple[Any, Any]:
    """A Split, with its sizes where the opset wants them."""
    if sizes is None:
        extra = {"num_outputs": len(names)} if opset >= 18 else {}
        return node("Split", source, names, axis=axis, **extra), {}
    if opset < 13:
        return node("Split", source, names, axis=axis, split=sizes), {}
    return node("Split", [source, "sizes"], names, axis=axis), {"sizes": ints(*sizes)}


@family
def split_up() -> Iterator[Form]:
    """One output a class; each holds its class's calibrated probability."""
    for opset in (7, 11, 13, 18):
        for sizes in (None, [1, 1, 1, 1]):
            names = ["probs", "p1", "p2", "p3"]
            made, constants = split(opset, sizes, names)
            yield Form(
                f"one output a class by Split, sizes {sizes}, opset {opset}",
                build(
                    [node("MatMul", "x w", "logits"), node("Softmax", "logits", "p"), made],
                    [value("x", ["N", 6])],
                    [value(name, ["N", 1]) for name in names],
                    {"w": weights(6, 4)} | constants,
                    opset=opset,
                ),
                after=lambda p: p[:, :1],
                also={f"p{i}": lambda p, i=i: p[:, i : i + 1] for i in (1, 2, 3)},
            )
    for opset in (11, 13):
        made, constants = split(opset, [1, 3], ["background", "probs"])
        yield Form(
            f"all but the background by Split, opset {opset}",
            behind([made], ["N", 3], constants, opset=opset),
            after=lambda p: p[:, 1:],
        )


@family
def squeezed_columns() -> Iterator[Form]:
    """One output a class, each a vector."""
    for opset in (11, 13):
        made, constants = split(opset, None, ["c0", "c1", "c2", "c3"])
        nodes = [node("MatMul", "x w", "logits"), node("Softmax", "logits", "p"), made]
        for i, name in enumerate(("probs", "p1", "p2", "p3")):
            squeezed, axes = squeeze(f"c{i}", name, 1, opset)
            nodes.append(squeezed)
            constants = constants | axes
        yield Form(
            f"one vector a class, opset {opset}",
            build(
                nodes,
                [value("x", ["N", 6])],
                [value(name, ["N"]) for name in ("probs", "p1", "p2", "p3")],
                {"w": weights(6, 4)} | constants,
                opset=opset,
            ),
            after=column(0),
            also={f"p{i}": column(i) for i in (1, 2, 3)},
        )


@form(after=column(0), also={"p1": column(1), "all": lambda p: p})
def each_class_and_all_together() -> onnx.ModelProto:
    nodes = [
        node("MatMul", "x w", "logits"),
        node("Softmax", "logits", "all"),
        node("Gather", "all zero", "probs", axis=1),
        node("Gather", "all one", "p1", axis=1),
    ]
    constants = {"w": weights(6, 4), "zero": np.array(0), "one": np.array(1)}
    outputs = [value("probs", ["N"]), value("p1", ["N"]), value("all", ["N", 4])]
    return build(nodes, [value("x", ["N", 6])], outputs, constants)


@form(after=lambda p: p[:, 1:2], moved=frozenset({"sum"}))
def one_class_and_what_is_made_of_all() -> onnx.ModelProto:
    nodes = [
        node("MatMul", "x w", "logits"),
        node("Softmax", "logits", "p"),
        node("Gather", "p k", "probs", axis=1),
        node("ReduceMax", "p", "sum", axes=[1]),
        node("ArgMax", "p", "label", axis=1),
    ]
    outputs = [value("probs", ["N", 1]), value("sum", ["N", 1]), value("label", ["N", 1], "int64")]
    return build(nodes, [value("x", ["N", 6])], outputs, {"w": weights(6, 4), "k": ints(1)})


@family
def selected_of_pieces() -> Iterator[Form]:
    for opset in (11, 18):
        nodes, constants = Pieces(opset=opset).nodes(target="p")
        body = [node("MatMul", "x w", "logits"), *nodes, node("Gather", "p k", "probs", axis=1)]
        yield Form(
            f"one class of a softmax in pieces, opset {opset}",
            build(
                body,
                [value("x", ["N", 6])],
                [value("probs", ["N", 1])],
                {"w": weights(6, 4), "k": ints(3)} | constants,
                opset=opset,
            ),
            after=lambda p: p[:, 3:4],
        )


@family
def dense_foreground() -> Iterator[Form]:
    """A segmentation network that gives out one class."""
    for dtype in ("float32", "float64"):
        made, x, _, constants = classes_at(1, 4, "logits", dtype=dtype)
        nodes = [*made, node("Softmax", "logits", "p", axis=1), node("Gather", "p k", "probs", axis=1)]
        yield Form(
            f"dense foreground of {dtype}",
            build(nodes, [x], [value("probs", ["N", 3, 5], dtype)], constants | {"k": np.array(1)}),
            dtype=dtype,
            after=column(1),
        )


@form(after=lambda p: p.reshape(-1, 2, 2)[:, :, 1].T)
def reshaped_sliced_and_transposed() -> onnx.ModelProto:
    nodes = [
        node("Reshape", "p s", "a"),
        node("Slice", "a start end last", "b"),
        node("Reshape", "b flat", "c"),
        node("Transpose", "c", "probs"),
    ]
    constants = {"start": ints(1), "end": ints(2), "last": ints(2), "s": ints(-1, 2, 2), "flat": ints(-1, 2)}
    return behind(nodes, [2, "N"], constants)


@form(after=lambda p: p[:, [2]], logits="logits")
def feature_extractor_of_one_class() -> onnx.ModelProto:
    made = behind([node("ArrayFeatureExtractor", "p k", "probs", domain="ai.onnx.ml")], ["N", 1], {"k": ints(2)})
    made.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 1))
    return made
