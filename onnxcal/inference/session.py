"""onnxruntime. No other file of the project imports it, and this one only when a model is to be run."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from numpy.typing import NDArray

from onnxcal.errors import ModelError, UsageError
from onnxcal.graph import wire
from onnxcal.graph.external import external_files
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.skeleton import GRAPH_OUTPUT, MODEL_GRAPH, VALUE_INFO_NAME

if TYPE_CHECKING:
    import onnxruntime

_NUMPY_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(string)": "str",
    "tensor(bool)": "bool",
    **{f"tensor({kind}{bits})": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}
Optimisations: TypeAlias = Literal["off", "basic", "all"]
"""How far onnxruntime may change a graph before it runs it."""
_LEVELS = {"off": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "all": "ORT_ENABLE_ALL"}
_REMOTE = ("Azure",)
"""Providers that run nothing on this machine."""
_QUIET = 4  # only fatal messages: what matters is raised


@dataclass(frozen=True)
class InputSpec:
    """What a model wants at one of its inputs."""

    name: str
    """Its name."""
    dtype: str
    """NumPy name of the element type, `str` for strings."""
    shape: tuple[int | None, ...] | None
    """Sizes; None for one that is free; None as a whole where the rank is not declared."""


class Session:
    """A loaded model."""

    def __init__(
        self, session: onnxruntime.InferenceSession, name: str, version: str, shapeless: Collection[str] = ()
    ) -> None:
        """`shapeless` inputs are declared without a shape, which onnxruntime tells as rank 0."""
        self._session = session
        self._name = name
        self.inputs = tuple(_input_spec(entry, name, entry.name in shapeless) for entry in session.get_inputs())
        self.outputs = tuple(entry.name for entry in session.get_outputs())
        self.version = version

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[Any]:
        """The named outputs for one batch.

        Raises
        ------
        ModelError
            onnxruntime failed.
        """
        try:
            return list(self._session.run(list(outputs), dict(feeds)))
        except Exception as error:  # onnxruntime's exceptions have no common base
            raise ModelError(
                f"onnxruntime failed to run {self._name}: {_first_line(error)}",
                hint="check that the inputs are what the model was trained on",
            ) from None

    @property
    def on_cpu(self) -> bool:
        """Whether onnxruntime reads and writes this process's own memory."""
        return bool(self._session.get_providers()[0] == "CPUExecutionProvider")

    def bound(self, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]]) -> Callable[[], None]:
        """A run that reads `inputs` and writes to `outputs` in place, each C-contiguous and of numbers.

        It costs half of what `run` costs beside the model. It raises onnxruntime's own exceptions, also where an output
        has another shape than its array; what the arrays then hold means nothing.
        """
        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for name, array in outputs.items():
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        return partial(self._session.run_with_iobinding, binding)


def open_session(
    model: ModelFile,
    *,
    tap: Sequence[str] = (),
    provider: str | None = None,
    threads: int | None = None,
    optimisations: Optimisations = "all",
) -> Session:
    """Load a model into onnxruntime.

    Parameters
    ----------
    model : from a path, or in memory.
    tap : tensors inside the graph to make outputs as well.
    provider : onnxruntime execution provider, default CPU; `CUDA` and `CUDAExecutionProvider` mean the same.
    threads : intra-op threads, default all cores.
    optimisations : how far the graph may be changed.

    Raises
    ------
    ModelError
        onnxruntime cannot load the model, or its external data are missing or unsafe.
    UsageError
        The provider is not available.
    """
    import onnxruntime

    options = session_options(optimisations)
    if threads is not None:
        options.intra_op_num_threads = threads
    external = external_files(model)
    outputs = {value.name for value in model.graph.output}
    new = [name for name in dict.fromkeys(tap) if name not in outputs]
    source: bytes | str
    if not new and model.path is not None and model.path.parent == model.folder:
        source = os.fspath(model.path)
    else:
        # Concatenated messages are merged (protobuf encoding, "Last One Wins"): repeated fields grow by what follows.
        source = model.to_bytes() + b"".join(_extra_output(name) for name in new)
        if external and model.folder is not None:
            folder = os.path.abspath(model.folder)
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    try:
        session = onnxruntime.InferenceSession(source, options, providers=[provider_named(provider)])
    except UsageError:
        raise
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ModelError(
            f"onnxruntime cannot load {model.name}: {_first_line(error)}",
            hint="check the model with onnx.checker, and that this onnxruntime knows its opset and IR version",
        ) from None
    if provider is not None and session.get_providers()[0] != provider_named(provider):
        raise UsageError(
            f"execution provider {provider!r} did not start; onnxruntime fell back to {session.get_providers()[0]}",
            hint="check its drivers and libraries, or leave --provider out",
        )
    shapeless = {value.name for value in model.graph.input if not value.type.tensor_type.HasField("shape")}
    return Session(session, model.name, str(onnxruntime.__version__), shapeless)


def local_providers() -> tuple[str, ...]:
    """The execution providers at hand that compute on this machine, in short names, the CPU first."""
    import onnxruntime

    names = [str(name).removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    return tuple(sorted((name for name in names if name not in _REMOTE), key=lambda name: name != "CPU"))


def _extra_output(name: str) -> bytes:
    value = wire.bytes_field(VALUE_INFO_NAME, name.encode())
    return wire.bytes_field(MODEL_GRAPH, wire.bytes_field(GRAPH_OUTPUT, value))


def session_options(optimisations: Optimisations) -> onnxruntime.SessionOptions:
    """Options of a session that says nothing but what it raises."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, _LEVELS[optimisations])
    return options


def provider_named(name: str | None) -> str:
    """onnxruntime's name of an execution provider, default that of the CPU.

    Raises
    ------
    UsageError
        It is not available.
    """
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if name is None:
        return "CPUExecutionProvider"
    for candidate in available:
        if name.lower() in (candidate.lower(), candidate.lower().removesuffix("executionprovider")):
            return str(candidate)
    raise UsageError(
        f"execution provider {name!r} is not available", hint=f"onnxruntime here has {', '.join(available)}"
    )


def _input_spec(entry: Any, model: str, shapeless: bool) -> InputSpec:
    if entry.type not in _NUMPY_TYPES:
        raise ModelError(
            f"input '{entry.name}' of {model} has type {entry.type}, which cannot be fed",
            hint="only tensors of numbers, booleans and strings are known",
        )
    shape = tuple(s if isinstance(s, int) and s > 0 else None for s in entry.shape)
    return InputSpec(entry.name, _NUMPY_TYPES[entry.type], None if shapeless else shape)


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    text = text.split(" : ", 2)[-1] if text.startswith("[ONNXRuntimeError]") else text
    return text if len(text) <= 300 else text[:297] + "..."
