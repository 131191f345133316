"""What is repeated of a runtime's own error: the line that says what is wrong."""

from __future__ import annotations

import pytest

from onnxcal.inference.runtimes.worker import _reason

TRACT = """Translating node #0 "x" Source ToTypedTranslator

Caused by:
    0: in a node
    1: Source node without a determined fact

Stack backtrace:
   0: <anyhow::Error>::msg
"""
OPENVINO = """Exception from src/inference/src/cpp/core.cpp:84:
Check 'false' failed at src/frontends/common_translators/src/unconverted_ops_report.cpp:151:
Model wasn't fully converted. Failed operations detailed log:
-- ai.onnx.ml.Normalizer with a message:
Unsupported input type

Summary:
-- No conversion rule found for operations: ai.onnx.ml.LinearClassifier
"""
COMPILER = "note: in file m.mlir\nm.mlir:3: error: failed to legalize operation\nnote: see there"


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (TRACT, "Source node without a determined fact"),
        (OPENVINO, "No conversion rule found for operations: ai.onnx.ml.LinearClassifier"),
        (COMPILER, "error: failed to legalize operation"),
        ("Div is not known", "Div is not known"),
        ("While loading:\nDiv is not known", "Div is not known"),
        ("loading:", "loading:"),
        ("", "ValueError"),
    ],
)
def test_the_line_that_says_what_is_wrong(raised: str, said: str) -> None:
    assert _reason(ValueError(raised)) == said


def test_a_line_that_only_names_a_place_in_a_runtimes_source_is_passed_over() -> None:
    said = "Exception from src/cpp/infer_request.cpp:224:\nException from src/node.cpp:794:\n[CPU] MaxPool failed\n"
    assert _reason(RuntimeError(said)) == "[CPU] MaxPool failed"
    assert _reason(RuntimeError("Exception from the model: too large")) == "Exception from the model: too large"


def test_a_line_that_is_marked_comes_first_and_an_error_without_words_is_named() -> None:
    assert _reason(RuntimeError("In file a.c\na.c:3: error: no such operator\nbye")) == "error: no such operator"
    assert _reason(ValueError()) == "ValueError"
