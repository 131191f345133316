"""What is told of an error that a runtime raised."""

from __future__ import annotations

from onnxcal.inference.runtimes.worker import _reason


def test_a_line_that_only_names_a_place_in_a_runtimes_source_is_passed_over() -> None:
    said = "Exception from src/cpp/infer_request.cpp:224:\nException from src/node.cpp:794:\n[CPU] MaxPool failed\n"
    assert _reason(RuntimeError(said)) == "[CPU] MaxPool failed"
    assert _reason(RuntimeError("Exception from the model: too large")) == "Exception from the model: too large"


def test_a_line_that_is_marked_comes_first_and_an_error_without_words_is_named() -> None:
    assert _reason(RuntimeError("In file a.c\na.c:3: error: no such operator\nbye")) == "error: no such operator"
    assert _reason(ValueError()) == "ValueError"
