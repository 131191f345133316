"""Opening a user's data for one model: what the model declares tells which part of the data is what."""

from __future__ import annotations

from typing import Any

from onnxcal.data import Source, open_source
from onnxcal.graph.head import Head
from onnxcal.graph.inspect import model_inputs
from onnxcal.graph.modelfile import ModelFile


def source_for(
    model: ModelFile,
    head: Head | None,
    data: Any,
    labels: Any = None,
    *,
    preprocess: Any = None,
    label_column: str | None = None,
) -> Source:
    """`open_source` for what a model wants and calls its classes; parameters and errors are the same.

    `head` is None where labels are not needed.
    """
    return open_source(
        data,
        labels,
        preprocess=preprocess,
        label_column=label_column,
        inputs={declared.name: declared for declared in model_inputs(model)},
        classes=None if head is None else head.classes,
    )
