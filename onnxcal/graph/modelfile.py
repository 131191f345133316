"""An ONNX file as a skeleton for reasoning, plus the byte ranges it came from for editing."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TypeAlias

import onnx
from google.protobuf.message import DecodeError

from onnxcal.errors import ModelError
from onnxcal.graph import wire
from onnxcal.graph.mapped import ModelBytes, map_file
from onnxcal.graph.skeleton import MODEL_GRAPH, skeleton
from onnxcal.graph.wire import Buffer, Field

ModelLike: TypeAlias = "str | os.PathLike[str] | onnx.ModelProto | ModelBytes | ModelFile"
"""What the public functions accept as a model."""

ONNXRUNTIME_LARGEST = 2_147_483_646
"""Bytes of the largest file that onnxruntime loads; one more and its protobuf parser refuses."""


class ModelFile:
    """A model that is looked at through its skeleton and never loaded whole.

    Parameters
    ----------
    data : its bytes, which have a name and perhaps a place on disk.

    Raises
    ------
    ModelError
        The bytes are no ONNX model.
    """

    def __init__(self, data: ModelBytes) -> None:
        self.data = data
        self.name = name = data.name
        self.buffer = buffer = data.buffer
        self.path = data.path
        self.folder = data.folder
        try:
            self.top = tuple(wire.fields(buffer, 0, len(buffer)))
            self.graphs = tuple(f for f in self.top if f.number == MODEL_GRAPH and f.wire_type == wire.BYTES)
            self.skeleton = onnx.ModelProto.FromString(skeleton(buffer, 0, len(buffer)))
        except (wire.WireError, DecodeError) as error:
            _refuse_other_formats(name, buffer)
            raise ModelError(
                f"{name} is not an ONNX model, or is cut off: {error}", hint="pass an .onnx file, complete"
            ) from None
        if not self.graphs or not self.skeleton.graph.node:
            _refuse_other_formats(name, buffer)
            raise ModelError(f"{name} holds no ONNX graph", hint="pass an .onnx file of a whole model")

    @property
    def graph(self) -> onnx.GraphProto:
        """The main graph of the skeleton."""
        graph: onnx.GraphProto = self.skeleton.graph
        return graph

    @property
    def size(self) -> int:
        """Bytes of the file, without external data."""
        return len(self.buffer)

    @property
    def sha256(self) -> str:
        """Digest of the bytes that were opened; without external data."""
        return self.data.sha256

    def to_bytes(self) -> bytes:
        """All bytes of the file, in memory."""
        return self.buffer[:]

    def graph_records(self, number: int) -> list[Field]:
        """Where the elements of one repeated field of the graph lie, in order."""
        return self._graph_records.get(number, [])

    def top_records(self, number: int) -> list[Field]:
        """Where the elements of one repeated field of the model lie, in order."""
        return [field for field in self.top if field.number == number and field.wire_type == wire.BYTES]

    @cached_property
    def _graph_records(self) -> dict[int, list[Field]]:
        records: dict[int, list[Field]] = {}
        for segment in self.graphs:
            for field in wire.fields(self.buffer, segment.payload, segment.end):
                if field.wire_type == wire.BYTES:
                    records.setdefault(field.number, []).append(field)
        return records

    def opset(self) -> int | None:
        """The version of the default operator set; None if the model does not import it."""
        versions = [entry.version for entry in self.skeleton.opset_import if entry.domain in ("", "ai.onnx")]
        return max(versions, default=None)


def open_model(model: ModelLike) -> ModelFile:
    """A `ModelFile` of a path, of its bytes, of a `ModelProto` in memory, or as it is.

    Raises
    ------
    ModelError
        The file cannot be read or is no ONNX model.
    """
    if isinstance(model, ModelFile):
        return model
    if isinstance(model, onnx.ModelProto):
        try:
            return ModelFile(ModelBytes("the model", model.SerializeToString()))
        except ValueError as error:
            raise ModelError(
                f"the model cannot be serialised: {error}", hint="save it with external data, and pass the path"
            ) from None
    return ModelFile(model if isinstance(model, ModelBytes) else map_file(model))


def _refuse_other_formats(name: str, buffer: Buffer) -> None:
    head = bytes(buffer[:64])
    known = (
        (head.startswith(b"version https://git-lfs"), "a Git LFS pointer, not the model", "run git lfs pull"),
        (head.startswith(b"\x1f\x8b"), "gzip-compressed", "decompress it with gunzip"),
        (
            head.startswith(b"PK\x03\x04"),
            "a zip archive (or a PyTorch file)",
            "pass the .onnx file; unzip or export it",
        ),
        (head[4:8] == b"ORTM", "in onnxruntime's .ort format", "patch the .onnx it was made from, then convert again"),
        (head[4:8] == b"TFL3", "a TensorFlow Lite model", "pass an .onnx file"),
        (head.lstrip()[:1] in (b"<", b"{"), "text (HTML, XML or JSON), not a model", "download the model file itself"),
        (head[:6] == b"\x93NUMPY", "a NumPy array", "pass the model first and the data with --data"),
    )
    for matches, what, hint in known:
        if matches:
            raise ModelError(f"{name} is {what}", hint=hint)
