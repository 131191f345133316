"""External data: the files beside a model that hold its tensors. Locations are read from the model, never guessed.

Source: ONNX IR specification, "External Tensor Data". A location is a POSIX path relative to the model's folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import onnx

from onnxcal.errors import ModelError
from onnxcal.graph.modelfile import ModelFile


def external_locations(model: ModelFile) -> tuple[str, ...]:
    """The distinct locations that the model's tensors name, in order of appearance."""
    seen: dict[str, None] = {}
    for tensor in _tensors(model.skeleton):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
            seen.setdefault(location)
    return tuple(seen)


def external_files(model: ModelFile) -> tuple[Path, ...]:
    """The files that hold the model's external data, checked.

    Raises
    ------
    ModelError
        A file is missing, or lies outside the model's folder: absolute, through `..`, a symlink, or a hard link.
    """
    return tuple(external_file(model, location) for location in external_locations(model))


def external_file(model: ModelFile, location: str) -> Path:
    """The file at a location, checked as by `external_files`."""
    what = f"external data '{location}' of {model.name}"
    if model.folder is None:
        raise ModelError(f"{what} cannot be found: the model was not read from a file", hint="pass the model's path")
    unsafe = "move it into the model's folder as an ordinary file, and name it by a relative path"
    if not location or os.path.isabs(location) or location.startswith("\\") or ":" in location[:2]:
        raise ModelError(f"{what} has an absolute or empty location", hint=unsafe)
    if ".." in Path(location.replace("\\", "/")).parts:
        raise ModelError(f"{what} lies outside the model's folder", hint=unsafe)
    path = model.folder / location
    if not path.is_file():
        raise ModelError(f"{what} is missing", hint=f"put the file beside the model: {path}")
    folder, real = os.path.realpath(model.folder), os.path.realpath(path)
    if os.path.commonpath([folder, real]) != folder:
        raise ModelError(f"{what} is a link out of the model's folder", hint=unsafe)
    if path.stat().st_nlink > 1:
        raise ModelError(
            f"{what} is a hard link, which onnx refuses to follow", hint="replace it by a copy: cp FILE X && mv X FILE"
        )
    return path


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)
    for training in model.training_info:
        yield from _graph_tensors(training.initialization)
        yield from _graph_tensors(training.algorithm)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        if attribute.HasField("g"):
            yield from _graph_tensors(attribute.g)
        for graph in attribute.graphs:
            yield from _graph_tensors(graph)
