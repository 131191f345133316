"""`tools/runtime_matrix.py`: its graphs compute what they are called, and its pages say what came out."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import runtime_matrix
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from runtimematrix.graphs import BATCHES, FORMS, OPSETS, PRECISIONS, TAILS, Graph, graphs
from runtimematrix.pages import Matrix, matrix, write_pages
from runtimematrix.run import Row, row
from scipy.special import expit, log_softmax, softmax

import onnxcal
from onnxcal.verification import RuntimeCheck

RIGHT = RuntimeCheck("tract", "0.23", True, 3e-7, 0, 32)
WRONG = replace(
    RIGHT, name="opencv", passed=False, max_abs_error=0.25, argmax_changed=4, blame="runtime",
    detail="wrong before and after: this runtime mis-runs the model; largest error 0.25 (limit 0.0001) of 'y', sample "
    "1; minimum required tolerance 0.25; one sample at a time it is right: only with more than one is it wrong",
)  # fmt: skip
REFUSED = replace(
    RIGHT, name="mnn", passed=False, max_abs_error=None, detail="does not run before or after: <no | Div>"
)


def test_each_two_choices_meet_and_no_graph_is_there_twice() -> None:
    kinds = {"tail": TAILS, "precision": PRECISIONS, "form": FORMS, "opset": OPSETS, "batch": BATCHES}
    found = list(graphs())
    assert len(set(found)) == len(found) == 96
    for (one, left), (other, right) in combinations(kinds.items(), 2):
        assert {(getattr(g, one), getattr(g, other)) for g in found} == {(a, b) for a in left for b in right}


@pytest.mark.parametrize("tail", TAILS)
def test_a_graph_is_what_it_is_called(tail: str) -> None:
    found = [g for g in graphs() if g.tail == tail and g.form == "Div"]
    for graph in found:
        model, x = graph.model(), graph.data()
        onnx.checker.check_model(model, full_check=True)
        assert (model.opset_import[0].version, model.ir_version) == (graph.opset, OPSETS[graph.opset])
        batch = model.graph.input[0].type.tensor_type.shape.dim[0]
        assert (batch.dim_param or batch.dim_value) == ("N" if graph.batch == "any" else graph.batch)
        quantised = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
        assert quantised == (graph.precision == "8 bits")
        if graph.precision != "float32":
            continue
        model.graph.output.append(onnx.ValueInfoProto(name="logits"))
        z = ReferenceEvaluator(model).run(["logits"], {"x": x})[0].astype(np.float64)
        p = expit(z)
        expected = {
            "logits": z, "Softmax": softmax(z, axis=1), "LogSoftmax": log_softmax(z, axis=1),
            "softmax in pieces": softmax(z, axis=1), "Sigmoid, one column": p, "Sigmoid, a column a class": p,
            "[1-p, p]": np.concatenate([1 - p, p], axis=1), "dense Softmax": softmax(z, axis=1),
        }[tail]  # fmt: skip
        output = model.graph.output[0].name
        session = onnxruntime.InferenceSession(model.SerializeToString())
        size = len(x) if graph.batch == "any" else int(graph.batch)
        parts = [session.run([output], {"x": x[i : i + size]})[0] for i in range(0, len(x), size)]
        np.testing.assert_allclose(np.concatenate(parts), expected, atol=3e-6)
    assert {graph.precision for graph in found} == set(PRECISIONS)


def rows() -> list[Row]:
    found = list(graphs())
    coarse = replace(RIGHT, argmax_changed=1, max_abs_error=2e-3)
    return [
        Row(found[0], (RIGHT, WRONG, REFUSED)),
        Row(found[3], (coarse, WRONG, replace(REFUSED, detail='no float16 loc("/tmp/m.mlir":3)'))),
        Row(found[4], refusal="its weights <cannot> hold 1/T"),
        Row(found[6], (RIGHT, replace(RIGHT, name="opencv"), REFUSED)),
    ]  # fmt: skip


def test_what_a_cell_says() -> None:
    found = matrix(rows())
    assert [column.title for column in found.columns] == ["tract", "opencv", "mnn"]
    (_, first), (_, second), (_, third), (_, _) = found.rows
    assert [(c.mark, c.text, c.note) for c in first] == [
        ("right", "3.0e-07", 0), ("wrong", "2.5e-01, 4 flips", 1), ("refused", "does not run", 2)
    ]  # fmt: skip
    assert (second[0].text, second[1].note, second[2].note) == ("2.0e-03, 1 flip", 1, 3)
    assert [cell.text for cell in third] == ["–"] * 3
    assert [m.graphs for m in found.messages] == [2, 2, 1]
    assert found.messages[0].text == (
        "wrong before and after: this runtime mis-runs the model; one sample at a time it is right"
    )
    assert found.messages[2].text == "no float16"
    assert found.refused == ((rows()[2].graph.title, "its weights <cannot> hold 1/T"),)


def test_messages_that_differ_in_numbers_are_one_and_in_types_are_not() -> None:
    said = ["expect [1,6]f16", "expect [?,6]f16", "expect [4,6]f16", "expect [1,6]f64"]
    found = matrix([Row(graph, (replace(REFUSED, detail=text),)) for graph, text in zip(graphs(), said, strict=False)])
    assert [(m.text, m.graphs) for m in found.messages] == [("expect [1,6]f16", 3), ("expect [1,6]f64", 1)]


def test_what_is_right_shows_all_that_was_said_of_it() -> None:
    said = "onnxruntime itself moves by 0.002 when it adds up in another order; it had only 1 s, and ran the first 8"
    (message,) = matrix([Row(next(graphs()), (replace(RIGHT, detail=said),))]).messages
    assert message.text == said


def test_totals_count_what_is_right_wrong_and_does_not_run() -> None:
    found = matrix(rows())
    assert [c.text for c in found.totals] == ["3 of 3, ≤ 2.0e-03, 1 flip", "1 of 3, ≤ 3.0e-07, 2 wrong", "0 of 3"]
    assert [c.mark for c in found.totals] == ["right", "wrong", "refused"]
    by_precision = dict(zip(PRECISIONS, found.by_precision[0], strict=True))
    assert by_precision["float16"].text == "1 of 1, ≤ 2.0e-03, 1 flip"
    assert by_precision["8 bits"].text == "–"


class _Tables(HTMLParser):
    """The cells of every row of every table."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._open = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._open = True

    def handle_endtag(self, tag: str) -> None:
        self._open &= tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._open:
            self.rows[-1][-1] += data


def written(found: Matrix, folder: Path) -> tuple[str, str]:
    pages = write_pages(found, folder, "today", "here", "python tools/runtime_matrix.py")
    return pages[0].read_text(), pages[1].read_text()


def test_both_pages_hold_every_cell_and_let_no_message_break_out(tmp_path: Path) -> None:
    found = matrix(rows())
    markdown, html = written(found, tmp_path)
    cells = ["logits", "float32", "Div", "11", "any", "3.0e-07", "✗ 2.5e-01, 4 flips [1]", "– [2]"]
    assert f"| {' | '.join(cells)} |" in markdown.splitlines()
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in tables if line.startswith("| logits")} == {9}
    parser = _Tables()
    parser.feed(html)
    assert cells in parser.rows
    for name, text in (("markdown", markdown), ("html", html)):
        assert "&lt;no" in text, name
        assert "<no" not in text, name


def test_a_run_of_one_graph_writes_both_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--graphs", "Sigmoid, one column, 8 bits, fold", "--runtime", "onnx-reference", "-j", "1"]
    assert runtime_matrix.main([*arguments, "-o", str(tmp_path / "pages")]) == 0
    out = capsys.readouterr().out
    assert "1 of 1, ≤ " in out
    assert all(Path(line).exists() for line in out.splitlines()[-2:])
    assert "| Sigmoid, one column | 8 bits | fold | 21 | 4 | " in (tmp_path / "pages" / "runtimes.md").read_text()


def test_what_is_not_known_or_refused_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        runtime_matrix.main(["--graphs", "no such graph"])
    assert "no graph has 'no such graph' in its title" in capsys.readouterr().err


def test_without_what_writes_the_pages_nothing_is_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtime_matrix, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as caught:
        runtime_matrix.main([])
    assert caught.value.code == 2
    assert "the pages need Jinja2: pip install 'onnxcal[report]'" in capsys.readouterr().err


def test_a_graph_that_onnxcal_does_not_patch_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMS, "Div", {"in_place": True, "runtime_temperature": True})
    assert row(Graph("logits", "float32", "Div", 17, "any"), ["onnx-reference"], 60).refusal


def test_a_patch_that_is_wrong_is_said_and_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = onnxcal.patch

    def damaged(*arguments: Any, **options: Any) -> Any:
        result = real(*arguments, **options)
        (divisor,) = (t for t in result.proto.graph.initializer if "temperature" in t.name)
        divisor.CopyFrom(numpy_helper.from_array(np.array([2.5], np.float32), divisor.name))
        return result

    monkeypatch.setattr(onnxcal, "patch", damaged)
    found = row(Graph("Softmax", "float32", "Div", 17, "any"), ["onnx-reference"], 60)
    assert [(check.title, check.blame) for check in found.checks] == [("onnx-reference", "patch")]
    assert "probabilities of 'y'" in found.wrong
    assert matrix([found]).refused == ((found.graph.title, found.wrong),)
