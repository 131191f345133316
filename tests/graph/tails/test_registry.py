"""The registry of tails."""

from __future__ import annotations

import pytest

from onnxcal.graph.tails import find_tail
from onnxcal.graph.tails.registry import tail
from tests.corpus.form import node


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Sigmoid"])
@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_activations_of_the_default_domain_are_known(op: str, domain: str) -> None:
    assert find_tail(node(op, "x", "y", domain=domain)) is not None


@pytest.mark.parametrize(("op", "domain"), [("Softmax", "com.microsoft"), ("Relu", ""), ("softmax", "")])
def test_others_are_not(op: str, domain: str) -> None:
    assert find_tail(node(op, "x", "y", domain=domain)) is None


def test_registering_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="Softmax"):
        tail("Softmax")(lambda view, ending, hints: None)
