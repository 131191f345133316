"""`--batch-size auto`: what is tried, what is chosen, and that the choice changes nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

import onnxcal
from onnxcal import UsageError, collect_logits
from onnxcal.inference import Session
from onnxcal.inference import options as module
from tests import builders

X, Y = builders.labelled_data(300)
SOFTMAX = builders.classifier([builders.softmax()], output="probs")


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A clock that runs with the model: `seconds(size)` for each run; `tried` are the sizes, in order."""
    state: dict[str, Any] = {"seconds": lambda size: 1e-3, "now": 0.0, "tried": []}
    run = Session.run

    def timed(self: Session, feeds: Any, outputs: Any) -> list[Any]:
        size = len(next(iter(feeds.values())))
        state["now"] += state["seconds"](size)
        if size not in state["tried"]:
            state["tried"].append(size)
        return run(self, feeds, outputs)

    monkeypatch.setattr(Session, "run", timed)
    monkeypatch.setattr(module, "perf_counter", lambda: state["now"])
    return state


def chosen(found: Any) -> int:
    (note,) = [line for line in found.warnings if "batch-size auto chose" in line]
    (number,) = re.findall(r"chose (\d+) samples", note)
    return int(number)


def test_it_doubles_while_that_does_more_samples_a_second(costs: dict[str, Any]) -> None:
    costs["seconds"] = lambda size: 1e-3 + 1e-6 * max(0, size - 16) * 100
    found = collect_logits(SOFTMAX, (X, Y), batch_size="auto")
    # 16 in 1 ms, 32 in 2.6 ms, 64 in 5.8 ms
    assert chosen(found) == 16
    assert costs["tried"][:7] == [1, 2, 4, 8, 16, 32, 64]


def test_it_takes_all_samples_where_that_is_fastest(costs: dict[str, Any]) -> None:
    assert chosen(collect_logits(SOFTMAX, (X, Y), batch_size="auto")) == 300


def test_a_small_gain_is_none(costs: dict[str, Any]) -> None:
    costs["seconds"] = lambda size: 1e-3 * size / (1 + 0.02 * np.log2(size))
    assert chosen(collect_logits(SOFTMAX, (X, Y), batch_size="auto")) == 1


def test_inputs_and_outputs_stay_below_their_bound(costs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES", 100 * (6 + 4) * 4)
    assert chosen(collect_logits(SOFTMAX, (X, Y), batch_size="auto")) == 64


def test_batches_of_the_data_are_not_joined_nor_cut_for_nothing(costs: dict[str, Any]) -> None:
    data = [(X[start : start + 50], Y[start : start + 50]) for start in range(0, 300, 50)]
    assert chosen(collect_logits(SOFTMAX, data, batch_size="auto")) == 50


def test_an_iterator_loses_no_sample_to_the_trial() -> None:
    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, 300, 20):
            yield X[start : start + 20], Y[start : start + 20]

    found = collect_logits(SOFTMAX, batches(), batch_size="auto")
    assert found.n_samples == 300
    assert found.data_sha256 == collect_logits(SOFTMAX, (X, Y)).data_sha256


def test_a_batch_that_the_model_fixes_is_left_alone() -> None:
    model = builders.classifier([builders.softmax()], output="probs", batch=8)
    found = collect_logits(model, (X, Y), batch_size="auto")
    assert found.n_samples == 300
    assert not [line for line in found.warnings if "auto" in line]


def test_a_size_that_the_model_fixes_without_saying_so_is_found() -> None:
    shape = numpy_helper.from_array(np.array([4, 4]), "shape")
    nodes = [helper.make_node("Reshape", ["logits", "shape"], ["reshaped"]), builders.softmax("reshaped")]
    model = builders.classifier(nodes, output="probs", initializers=[shape])
    assert chosen(collect_logits(model, (X, Y), batch_size="auto")) == 4


def test_the_temperature_does_not_depend_on_it() -> None:
    by_default = onnxcal.calibrate(SOFTMAX, (X, Y))
    automatic = onnxcal.calibrate(SOFTMAX, (X, Y), batch_size="auto")
    assert automatic.calibration.temperature == pytest.approx(by_default.calibration.temperature, rel=1e-6)
    assert chosen(automatic) > 0


def test_every_step_that_runs_a_model_takes_it() -> None:
    patched = onnxcal.patch(SOFTMAX, temperature=2.0, data=(X, Y), batch_size="auto")
    assert chosen(patched) > 0
    assert patched.proto is not None
    assert chosen(onnxcal.verify(SOFTMAX, patched.proto, (X, Y), batch_size="auto")) > 0
    assert chosen(onnxcal.evaluate(patched.proto, (X, Y), batch_size="auto")) > 0
    assert onnxcal.patch(SOFTMAX, temperature=2.0, batch_size="auto").warnings == ()


def test_another_word_is_refused() -> None:
    with pytest.raises(UsageError, match="'fast' is neither a number nor 'auto'"):
        collect_logits(SOFTMAX, (X, Y), batch_size="fast")  # type: ignore[arg-type]
