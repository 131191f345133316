"""Pieces of any size, cut and joined to batches of one size."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcal.data.batch import Batch
from onnxcal.data.streamed import recut

X = np.arange(20, dtype=np.float32).reshape(10, 2)


@pytest.mark.parametrize("pieces", [(10,), (1,) * 10, (3, 7), (4, 4, 2), (1, 8, 1), (6, 1, 1, 2)], ids=str)
@pytest.mark.parametrize("size", [1, 3, 4, 10, 11])
@pytest.mark.parametrize("form", ["array", "by name", "unlabelled", "labels by head"])
def test_samples_stay_in_order_and_only_the_last_batch_is_smaller(pieces, size, form):
    def chunks():
        start = 0
        for n in pieces:
            x, y = X[start : start + n], np.arange(start, start + n)
            inputs = {"a": x, "b": -x} if form == "by name" else (x,)
            yield Batch(inputs, {"array": y, "by name": y, "unlabelled": None}.get(form, {"p": y, "q": -y}))
            start += n

    batches = list(recut(chunks(), size))
    assert [batch.size for batch in batches] == [size] * (10 // size) + [10 % size] * (10 % size > 0)
    np.testing.assert_array_equal(np.concatenate([batch.arrays[0] for batch in batches]), X)
    np.testing.assert_array_equal(
        np.concatenate([batch.arrays[-1] for batch in batches]), -X if form == "by name" else X
    )
    for batch, start in zip(batches, range(0, 10, size), strict=True):
        labels = batch.labels["p"] if form == "labels by head" else batch.labels
        if form == "unlabelled":
            assert labels is None
        else:
            np.testing.assert_array_equal(labels, np.arange(start, start + batch.size))
