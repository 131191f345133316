"""onnxruntime's `CalibrationDataReader`: the reader that quantised a model also calibrates it, given the labels.

They are passed beside it, or are its attribute `labels`: the quantiser looks at neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from onnxcal.data.batch import AnyArray, Truth, label_array, make_batch
from onnxcal.data.iterables import IterableSource, ReplayedSource
from onnxcal.errors import DataError, UsageError

_NAME = "the data reader"


def is_reader(data: Any) -> bool:
    """Whether `data` looks like a `CalibrationDataReader`; onnxruntime itself need not be imported."""
    return callable(getattr(data, "get_next", None))


def open_reader(reader: Any, labels: Truth | None) -> IterableSource | ReplayedSource:
    """The reader's dicts of inputs, with labels counted off in the same order.

    Parameters
    ----------
    reader : used before or not; one with a `rewind()` is rewound for each reading.
    labels : one a sample, default the reader's attribute `labels`; without either there are none.

    Raises
    ------
    UsageError
        Labels of several heads were passed.
    DataError
        While reading: there are more or fewer samples than labels.
    """
    truth = _labels_of(reader, labels)
    n_samples = None if truth is None else len(truth)
    if _rewind(reader):
        return IterableSource(_NAME, lambda: rewound(reader, labels), n_samples)
    return ReplayedSource(_NAME, _pairs(reader, truth), n_samples)


def rewound(reader: Any, labels: Truth | None) -> Iterator[tuple[Any, Any]]:
    """`(inputs, labels)` of a reader from its beginning, where it can be rewound; parameters and errors as above.

    It is left there again: onnxruntime's quantiser reads from where a reader stands.
    """
    truth = _labels_of(reader, labels)
    _rewind(reader)
    yield from _pairs(reader, truth)
    _rewind(reader)


def _pairs(reader: Any, labels: AnyArray | None) -> Iterator[tuple[Any, Any]]:
    start = 0
    while (inputs := reader.get_next()) is not None:
        size = make_batch(inputs, None, "the data reader's batch").size
        if labels is not None and start + size > len(labels):
            raise DataError(
                f"{_NAME} yields more samples than there are labels ({len(labels):,})",
                hint="pass one label a sample, in the reader's order",
            )
        yield inputs, None if labels is None else labels[start : start + size]
        start += size
    if start == 0:
        raise DataError(
            f"{_NAME} yields no samples",
            hint="if it quantised a model before, it needs a rewind() method that goes back to the first batch",
        )
    if labels is not None and start != len(labels):
        raise DataError(
            f"{_NAME} yields {start:,} samples but there are {len(labels):,} labels",
            hint="pass one label a sample, in the reader's order",
        )


def _labels_of(reader: Any, labels: Truth | None) -> AnyArray | None:
    if isinstance(labels, Mapping):
        raise UsageError("a data reader takes one array of labels", hint="calibrate one head at a time")
    own = getattr(reader, "labels", None)
    if labels is not None or own is None or callable(own):
        return labels
    return label_array(own, f"labels of {_NAME}")


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
