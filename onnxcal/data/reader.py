"""onnxruntime's `CalibrationDataReader`: the reader that quantised a model also calibrates it, given the labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onnxcal.data.batch import AnyArray, make_batch
from onnxcal.data.iterables import IterableSource, ReplayedSource
from onnxcal.errors import DataError


def is_reader(data: Any) -> bool:
    """Whether `data` looks like a `CalibrationDataReader`; onnxruntime itself need not be imported."""
    return callable(getattr(data, "get_next", None))


def open_reader(reader: Any, labels: AnyArray | None) -> IterableSource | ReplayedSource:
    """The reader's dicts of inputs, with `labels` counted off in the same order.

    Raises
    ------
    DataError
        While reading: there are more or fewer samples than labels.
    """

    def pairs() -> Iterator[tuple[Any, Any]]:
        start = 0
        while (inputs := reader.get_next()) is not None:
            size = make_batch(inputs, None, "the data reader's batch").size
            if labels is not None and start + size > len(labels):
                raise DataError(
                    f"the data reader yields more samples than there are labels ({len(labels):,})",
                    hint="pass one label a sample, in the reader's order",
                )
            yield inputs, None if labels is None else labels[start : start + size]
            start += size
        if labels is not None and start != len(labels):
            raise DataError(
                f"the data reader yields {start:,} samples but there are {len(labels):,} labels",
                hint="pass one label a sample, in the reader's order",
            )

    def rewound() -> Iterator[tuple[Any, Any]]:
        _rewind(reader)
        return pairs()

    n_samples = None if labels is None else len(labels)
    if _rewind(reader):
        return IterableSource("the data reader", rewound, n_samples)
    return ReplayedSource("the data reader", pairs(), n_samples)


def _rewind(reader: Any) -> bool:
    """Back to the first batch; False where the reader cannot."""
    rewind = getattr(reader, "rewind", None)
    if not callable(rewind):
        return False
    try:
        rewind()
    except NotImplementedError:  # the base class has the method but no body
        return False
    return True
