"""What all runtimes have in common: what they need, what they are given, what they give back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from onnxcal.inference.runtimes.parts import Part

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Job:
    """A model to be loaded."""

    model: Path
    """The .onnx file, its external data beside it; or what `convert` made of it."""
    shapes: Mapping[str, tuple[int, ...]]
    """Of the inputs of the first run, by name, in the order of the model; later runs may have fewer samples."""
    outputs: tuple[str, ...]
    """Names of the model's outputs, in their order."""
    setting: str = ""
    """The name of one of the runtime's settings."""
    folder: Path = Path()
    """Where files may be written; it goes when the runtime does."""
    home: Path = Path()
    """The user's current folder."""
    made_from: Path | None = None
    """The .onnx file, where `model` is what `convert` made of it."""


@dataclass(frozen=True)
class Conversion:
    """A model to be converted to the runtime's own format."""

    job: Job
    """The model, with the input shapes that it is converted for where the format has fixed ones."""
    target: Path
    """The main file to be written; others have its stem. Its folder is the model's, its stem too."""
    compress: bool = False
    """Whether weights become float16; else they stay what they are."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The calibration, for formats that can hold it."""


class Program(Protocol):
    """A loaded model."""

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[Any]:
        """All outputs, in the model's order, for inputs by name."""


@dataclass(frozen=True)
class Setting:
    """One of several ways to run a runtime."""

    name: str = ""
    """In a few words; empty where there is one way only."""
    counts: bool = True
    """Whether the calibrated model must be right with it; else it is shown for information."""


@dataclass(frozen=True)
class Runtime:
    """A runtime, installed or not."""

    name: str
    """What `--runtime` calls it."""
    what: str
    """What it is, in a few words."""
    parts: tuple[Part, ...]
    """What it needs; the first has the version that is shown."""
    install: str
    """The command that installs them."""
    load: Callable[[Job], Program]
    """Loads a model; imports the runtime. Raises whatever the runtime raises."""
    settings: Callable[[], tuple[Setting, ...]] = lambda: (Setting(),)
    """The ways to run it; called only where it is installed."""
    convert: Callable[[Conversion], None] | None = None
    """Writes a model in the runtime's own format, which `load` takes too. Raises whatever the converter raises."""
    single: bool = False
    """Whether it takes one sample at a time: it has no batch, or is compiled for fixed shapes."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the parts that are not there."""
        return tuple(part.name for part in self.parts if part.version() is None)

    @property
    def version(self) -> str:
        """The version, empty if it is not installed."""
        return self.parts[0].version() or ""
