"""Blocks: every sample once, in order, in the runs that the source would have made."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxcal.data import open_source
from onnxcal.inference import blocks as module
from onnxcal.inference.blocks import blocks


def numbered(sizes: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of such sizes, whose samples are counted through."""
    ends = np.cumsum(sizes)
    y = np.arange(sum(sizes))
    return [
        (np.repeat(y[e - n : e, None], 3, 1).astype(np.float32), y[e - n : e]) for n, e in zip(sizes, ends, strict=True)
    ]


def runs_of(data: Any, size: int, limit: int, fixed: bool = False) -> list[list[int]]:
    """The samples of each run; each block is read before the next is asked for, as it must be."""
    found = []
    for batch, run_size in blocks(open_source(data), size, limit, fixed=fixed):
        assert isinstance(batch.labels, np.ndarray)
        np.testing.assert_array_equal(batch.arrays[0][:, 0], batch.labels)
        assert batch.size % run_size == 0
        found += batch.labels.reshape(-1, run_size).tolist()
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=40),
    st.integers(1, 20),
    st.sampled_from([1, 100, 1000, 1 << 20]),
    st.booleans(),
)
def test_the_runs_are_those_of_the_source_whatever_the_blocks(
    sizes: list[int], size: int, limit: int, fixed: bool
) -> None:
    data = numbered(sizes)
    plain = [batch.labels.tolist() for batch in open_source(data).batches(size)]  # type: ignore[union-attr]
    assert runs_of(data, size, limit, fixed) == plain
    whole = tuple(np.concatenate(part) for part in zip(*data, strict=True))
    assert runs_of(whole, size, limit, fixed) == [
        batch.labels.tolist()
        for batch in open_source(whole).batches(size)  # type: ignore[union-attr]
    ]


def test_small_batches_are_joined_and_no_block_is_larger_than_it_may_be() -> None:
    data = numbered([1] * 500)
    sizes = [batch.size for batch, _ in blocks(open_source(data), 64, 2000)]
    assert max(sizes) == 2000 // (12 + 8)
    assert len(sizes) < 50


def test_batches_of_different_forms_are_not_joined() -> None:
    x = np.zeros((1, 3), np.float32)
    data = [(x, np.array([0])), (x[:, :2], np.array([0])), (x, np.array([0.0])), (x, np.eye(2)[:1])]
    assert len(list(blocks(open_source(data), 64))) == 4


def test_a_loader_that_fills_one_array_again_and_again_is_read_in_time() -> None:
    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        x, y = np.empty((1, 3), np.float32), np.empty(1, np.int64)
        for number in range(50):
            x[:], y[:] = number, number
            yield x, y

    assert runs_of(batches, 8, 1 << 20) == [[number] for number in range(50)]


def test_a_slow_loaders_batch_is_not_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.005)

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for pair in numbered([1] * 4):
            time.sleep(0.01)
            yield pair

    assert [batch.size for batch, _ in blocks(open_source(batches), 8)] == [1, 1, 1, 1]
