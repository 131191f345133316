"""How a head ends, drawn: the nodes that are there, in their order, within 80 columns, whatever their names are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import onnxcal
from onnxcal.graph.way import Stage, Way
from onnxcal.report.drawing import ASCII, cells, draw, glyphs_for, shortened
from onnxcal.report.printable import printable
from tests.builders import classifier, softmax
from tests.corpus.form import Form, build, ints, node, value, weights
from tests.corpus.forms import FORMS

WIDTH = 67  # 80 columns less the column of labels

PIECES = [
    node("ReduceMax", "logits", "most", axes=[1]),
    node("Sub", "logits most", "shifted"),
    node("Exp", "shifted", "e"),
    node("ReduceSum", "e axis", "total"),
    node("Div", "e total", "probs"),
]


def binary(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """`x` → MatMul → `logits` (N, 1) → `nodes` → `probs` (N, 2); a constant `one` is there."""
    constants = {"w": weights(6, 1), "one": np.ones(1, np.float32)}
    made = [node("MatMul", "x w", "logits"), *nodes]
    return build(made, [value("x", ["N", 6])], [value("probs", ["N", 2])], constants)


def scores(op: str, **attributes: Any) -> onnx.ModelProto:
    """An ai.onnx.ml classifier of two classes, and a ZipMap."""
    labels = {"classlabels_ints" if op == "LinearClassifier" else "classlabels_int64s": [0, 1]}
    made = [
        node(op, "x", ["label", "scores"], domain="ai.onnx.ml", **labels, **attributes),
        node("ZipMap", "scores", "maps", domain="ai.onnx.ml", classlabels_int64s=[0, 1]),
    ]
    maps = helper.make_value_info(
        "maps",
        helper.make_sequence_type_proto(helper.make_map_type_proto(7, helper.make_tensor_type_proto(1, None))),
    )
    model = build(made, [value("x", ["N", 2])], [value("label", ["N"], "int64"), maps])
    model.graph.value_info.append(value("scores", ["N", 2]))
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    return model


FOREST = {
    "nodes_treeids": [0], "nodes_nodeids": [0], "nodes_featureids": [0], "nodes_modes": ["LEAF"],
    "nodes_values": [0.0], "nodes_truenodeids": [0], "nodes_falsenodeids": [0],
    "class_treeids": [0, 0], "class_nodeids": [0, 0], "class_ids": [0, 1], "class_weights": [0.25, 0.75],
}  # fmt: skip

DRAWN: dict[str, tuple[onnx.ModelProto, str]] = {
    "an activation": (
        classifier([softmax()], output="probs"),
        """
        Gemm ─► logits (N, 4) ─►[ ÷ T ]─► Softmax ─► probs
                logits          to add    activation
        """,
    ),
    "raw logits": (
        classifier(),
        """
        Gemm ─► (N, 4) ─►[ ÷ T ─► Softmax ]─► logits
                logits   to add
        """,
    ),
    "moves behind": (
        classifier([softmax(target="p"), node("Identity", "p", "probs")], output="probs"),
        """
        Gemm ─► logits (N, 4) ─►[ ÷ T ]─► Softmax ─► Identity ─► probs
                logits          to add    activation
        """,
    ),
    "in pieces": (
        build(
            [node("MatMul", "x w", "logits"), *PIECES],
            [value("x", ["N", 6])],
            [value("probs", ["N", 4])],
            {"w": weights(6, 4), "axis": ints(1)},
        ),
        """
        MatMul ─► logits (N, 4) ─►[ ÷ T ]─► softmax in pieces (5 nodes)
                  logits          to add    activation
          ─► probs
        """,
    ),
    "composed": (
        classifier([node("LogSoftmax", "logits", "logs"), node("Exp", "logs", "probs")], output="probs"),
        """
        Gemm ─► logits (N, 4) ─►[ ÷ T ]─► softmax in pieces (2 nodes)
                logits          to add    activation
          ─► probs
        """,
    ),
    "labels beside": (
        classifier(
            [softmax(), node("ArgMax", "logits", "label", axis=1)],
            output="probs",
            more_outputs=[value("label", ["N", 1], "int64")],
        ),
        """
        Gemm ─► logits (N, 4) ─►[ ÷ T ]─► Softmax ─► probs
                logits          to add    activation
                └─► ArgMax: not divided
        """,
    ),
    "logits beside": (
        classifier([softmax()], output="probs", more_outputs=[value("logits", ["N", 4])]),
        """
        Gemm ─► logits (N, 4) ─►[ ÷ T ]─► Softmax ─► probs
                logits          to add    activation
                └─► output 'logits': not divided
        """,
    ),
    "two columns": (
        binary(
            node("Sigmoid", "logits", "p"),
            node("Sub", "one p", "q"),
            node("Concat", "q p", "probs", axis=1),
        ),
        """
        MatMul ─► logits (N, 1) ─►[ ÷ T ]─► Sigmoid ─► Sub, Concat ─► probs
                  logits          to add    activation
        """,
    ),
    "margins": (
        binary(node("Neg", "logits", "negative"), node("Concat", "negative logits", "probs", axis=1)),
        """
        Concat ─► (N, 2)
                  margins
          ─►[ second column ─► ÷ T ─► Sigmoid ─► [1 - p, p] ]─► probs
            to add
        """,
    ),
    "half precision": (
        classifier([softmax()], output="probs", dtype="float16"),
        """
        Gemm ─► logits (N, 4) ─►[ Cast ─► ÷ T ]─► Softmax ───►[ Cast ]
                logits          to add            activation  to add
          ─► probs
        """,
    ),
    "logits inside an operator": (
        scores("LinearClassifier", coefficients=[-1.0, -2.0, 1.0, 2.0], post_transform="SOFTMAX"),
        """
        LinearClassifier ─► scores (N, 2) ─►[ ÷ T ─► Softmax ]─► ZipMap
        without SOFTMAX     logits          to add
          ─► maps
        """,
    ),
    "probabilities": (
        scores("TreeEnsembleClassifier", **FOREST),
        """
        TreeEnsembleClassifier ─► scores (N, 2)
                                  probabilities
          ─►[ log p ─► ÷ T ─► Softmax ]─► ZipMap ─► maps
            to add
        """,
    ),
}  # fmt: skip


def text(way: Way | None, width: int = WIDTH, **kwargs: Any) -> list[str]:
    assert way is not None
    return ["".join(piece for piece, _ in line) for line in draw(way, width, **kwargs)]


def lines_of(drawing: str) -> list[str]:
    return [line.removeprefix(" " * 8) for line in drawing.strip("\n").splitlines()[:-1]]


@pytest.mark.parametrize("name", DRAWN)
def test_what_makes_the_logits_the_division_and_the_activation_are_drawn(name: str) -> None:
    model, drawing = DRAWN[name]
    assert text(onnxcal.inspect(model).ways[0]) == lines_of(drawing)


PATCHED = {
    "an activation": """
        Gemm ─► logits (N, 4) ─►[ ÷ 1.75 ]─► Softmax ─► probs
                logits          added        activation
        """,
    "raw logits": """
        Gemm ─► logits_uncalibrated (N, 4) ─►[ ÷ 1.75 ─► Softmax ]─► logits
                logits                       added
        """,
    "probabilities": """
        TreeEnsembleClassifier ─► scores_uncalibrated (N, 2)
                                  probabilities
          ─►[ log p ─► ÷ 1.75 ─► Softmax ]─► ZipMap ─► maps
            added
        """,
}


@pytest.mark.parametrize("name", PATCHED)
def test_a_patched_model_shows_what_it_divides_by(name: str) -> None:
    patched = onnxcal.patch(DRAWN[name][0], temperature=1.75).proto
    assert text(onnxcal.inspect(patched).ways[0]) == lines_of(PATCHED[name])


@pytest.mark.parametrize("form", [form for form in FORMS if not form.options][::6], ids=str)
def test_any_way_is_drawn_in_a_few_lines_of_80_columns(form: Form) -> None:
    for way in onnxcal.inspect(form.model).ways:
        lines = text(way)
        assert len(lines) <= 8
        assert max(map(cells, lines)) <= WIDTH
        assert [line for line in lines if line != line.rstrip()] == []
        assert sum(line.count("÷") for line in lines) == 1
        assert lines[0][0] != " "


HOSTILE = {
    "escape sequence": "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "lines": "one\ntwo\r\nthree\ttab",
    "C1 control": "a\x9b2Jb",
    "right to left": "abc\u202egpj.exe\u2066",
    "invisible": "a\u200bb\ufeff\u00ad",
    "null": "a\x00b",
    "markup": "[bold red]x[/] :smile: {0} %s",
    "backslash": "\\x1b",
    "wide": "層の出力テンソル" * 9,
    "combining": "e\u0301" * 60,
    "long": "jit/model/" * 400,
    "empty shape symbol": "(,)",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_no_name_reaches_the_terminal_as_more_than_text(name: str) -> None:
    model = classifier(
        [softmax(target=name), helper.make_node(f"Op{name}", ["logits"], ["other"], domain="odd")],
        output=name,
        output_shape=(name, 4),
        batch=name,
        more_outputs=[value("other", None)],
    )
    model.opset_import.append(helper.make_opsetid("odd", 1))
    for line in text(onnxcal.inspect(model).ways[0]):
        assert line.isprintable()
        assert cells(line) <= WIDTH


def test_what_is_not_printable_is_shown_as_an_escape_sequence() -> None:
    assert printable("a\x1b[0m\u202eb\n") == "a\\x1b[0m\\u202eb\\n"
    assert printable("plain ─► text, 層") == "plain ─► text, 層"


@pytest.mark.parametrize(
    ("name", "limit", "short"),
    [
        ("logits", 6, "logits"),
        ("/model/head/Gemm_output_0", 14, "/model/…tput_0"),
        ("層の出力テンソル", 9, "層の…ソル"),
    ],
)
def test_names_lose_their_middle(name: str, limit: int, short: str) -> None:
    assert shortened(name, limit) == short
    assert cells(short) <= limit


@pytest.mark.parametrize(("encoding", "has_them"), [("utf-8", True), ("ascii", False), ("cp1252", False), ("?", False)])
def test_terminals_without_box_drawing_get_ascii(encoding: str, has_them: bool) -> None:
    lines = text(onnxcal.inspect(DRAWN["labels beside"][0]).ways[0], glyphs=glyphs_for(encoding))
    assert "".join(lines).isascii() != has_them
    if not has_them:
        assert lines == [
            "Gemm -> logits (N, 4) ->[ / T ]-> Softmax -> probs",
            "        logits          to add    activation",
            "        `-> ArgMax: not divided",
        ]


def test_long_names_and_ways_are_ascii_too() -> None:
    moves = [node("Identity", f"p{i}", f"p{i + 1}") for i in range(30)]
    model = classifier([softmax(target="p0"), *moves, node("Identity", "p30", "n" * 99)], output="n" * 99)
    lines = text(onnxcal.inspect(model).ways[0], glyphs=ASCII)
    assert "".join(lines).isascii()
    assert len(lines) <= 8
    assert ".. 27 more .." in "".join(lines)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 400])
def test_a_wide_terminal_takes_fewer_lines(width: int) -> None:
    way = onnxcal.inspect(DRAWN["half precision"][0]).ways[0]
    lines = text(way, width)
    assert max(map(cells, lines)) <= width
    assert (len(lines) == 2) == (width >= 80)


def test_what_hangs_below_has_room() -> None:
    makers = ("MatMul", "QuantizeLinear", "DequantizeLinear")
    beside = ("output 'logits'", "ArgMax", "ReduceMax", "Exp")
    way = Way("out", "softmax", makers, "", "logits", ("N", 4), "logits", beside, (), (), None)
    assert text(way) == [
        "MatMul ─► QuantizeLinear ─► DequantizeLinear",
        "  ─► logits (N, 4) ─► out",
        "     logits",
        "     └─► output 'logits', ArgMax, ReduceMax and 1 more: not divided",
    ]


def test_what_a_patch_puts_in_stays_together_where_it_can() -> None:
    inserted = [Stage((op,), "inserted", "") for op in ("Aaaaaaaaaaaa", "Bbbbbbbbbbbb", "Cccccccccccc")]
    way = Way("out", "softmax", ("Gemm",), "", "z" * 30, ("N", 4), "logits", (), (), tuple(inserted), None)
    assert [line for line in text(way) if "[" in line] == [
        "  ─►[ Aaaaaaaaaaaa ─► Bbbbbbbbbbbb ─► Cccccccccccc ]─► out",
    ]
