"""From what a loader yields to what a module is called with, and to what onnxruntime is fed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from onnxcal.data.npz import LABEL_NAMES
from onnxcal.errors import DataError, ModelError, OnnxcalError, UsageError
from onnxcal.logits import as_array

Unpack: TypeAlias = Callable[[Any], tuple[Any, Any]]
"""From a batch of the loader to (inputs, labels); inputs are a tensor, a tuple of them, or a dict by parameter."""
UNPACK_HINT = "pass unpack=lambda batch: (inputs, labels), which picks what the model takes and the labels"


@dataclass(frozen=True)
class Inputs:
    """The arguments of a call of `forward`: samples along the first axis of each tensor."""

    positional: tuple[Tensor, ...]
    """Those without a name, in order."""
    by_name: Mapping[str, Tensor]
    """Those by parameter."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of them."""
        return (*self.positional, *self.by_name.values())

    @property
    def size(self) -> int:
        """Samples."""
        return len(self.tensors[0])

    def map(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """Each tensor changed."""
        return Inputs(tuple(map(change, self.positional)), {name: change(x) for name, x in self.by_name.items()})

    def call(self, module: nn.Module) -> Any:
        """What the module returns for them.

        Raises
        ------
        ModelError
            It raised something.
        """
        try:
            return module(*self.positional, **self.by_name)
        except OnnxcalError:
            raise
        except Exception as error:
            shapes = ", ".join(str(tuple(x.shape)) for x in self.tensors)
            raise ModelError(
                f"{type(module).__name__} raised {type(error).__name__} on a batch of shape {shapes}: {error}",
                hint="it must run on batches of any size, as the loader yields them",
            ) from error


class LoaderBatches:
    """A loader, read anew each time: `(arrays by input name, labels)`, as `onnxcal.calibrate` takes them.

    Parameters
    ----------
    loader : any iterable that can be read again; batches are `(inputs, labels)`, or dicts with labels of a usual name.
    unpack : what makes `(inputs, labels)` of other batches.
    module : whose `forward` names the inputs.

    Raises
    ------
    UsageError
        The loader is an iterator, which can be read only once.
    DataError
        It yields nothing, or something that cannot be taken apart.
    """

    def __init__(self, loader: Iterable[Any], unpack: Unpack | None, module: nn.Module) -> None:
        if isinstance(loader, Iterator):
            raise UsageError(
                "the loader is an iterator, which can be read only once",
                hint="pass the DataLoader itself, or list(batches)",
            )
        self._loader, self._unpack = loader, unpack
        first = next(read(loader, unpack), None)
        if first is None:
            raise DataError("the loader yields no batches", hint="check its data set, sampler and drop_last")
        self.first = first[0]
        self.names = input_names(module, self.first)
        self.n_samples = length(getattr(loader, "dataset", None))

    def __iter__(self) -> Iterator[tuple[dict[str, NDArray[Any]], Any]]:
        for inputs, labels in read(self._loader, self._unpack):
            yield self.arrays(inputs), labels

    def pairs(self) -> Iterator[tuple[Inputs, dict[str, NDArray[Any]]]]:
        """The inputs for torch, and the same for onnxruntime."""
        for inputs, _ in read(self._loader, self._unpack):
            yield inputs, self.arrays(inputs)

    def arrays(self, inputs: Inputs) -> dict[str, NDArray[Any]]:
        """Inputs by the name that they have in the ONNX file."""
        named = {**dict(zip(self.names, inputs.positional, strict=False)), **inputs.by_name}
        return {name: as_array(x, f"input '{name}'") for name, x in named.items()}


def read(loader: Iterable[Any], unpack: Unpack | None) -> Iterator[tuple[Inputs, Any]]:
    """Inputs and labels of each batch.

    Raises
    ------
    DataError
        The loader or `unpack` raised, or a batch is no `(inputs, labels)`.
    """
    iterator = _tried(lambda: iter(loader), "the loader")
    end = object()
    for number in range(1 << 62):
        item = _tried(lambda: next(iterator, end), "the loader")
        if item is end:
            return
        yield _taken_apart(item, unpack, f"batch {number} of the loader")


def input_names(module: nn.Module, inputs: Inputs) -> tuple[str, ...]:
    """What the inputs are called in the ONNX file: as the parameters of `forward`.

    Raises
    ------
    DataError
        `forward` does not take such inputs.
    """
    parameters = inspect.signature(module.forward).parameters.values()
    free = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    known = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        free += [f"input{i}" for i in range(len(free), len(inputs.positional))]
    extra = [name for name in inputs.by_name if name not in known]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        extra = []
    if extra or len(inputs.positional) > len(free):
        given = ", ".join(f"'{name}'" for name in extra) if extra else f"{len(inputs.positional)} inputs"
        raise DataError(
            f"forward of {type(module).__name__} takes ({', '.join(p.name for p in parameters)}), "
            f"but a batch brings {given}",
            hint=UNPACK_HINT,
        )
    order = [p.name for p in parameters if p.name in inputs.by_name]  # of forward, not of the dict
    return (*free[: len(inputs.positional)], *dict.fromkeys((*order, *inputs.by_name)))


def _taken_apart(item: Any, unpack: Unpack | None, where: str) -> tuple[Inputs, Any]:
    if unpack is not None:
        pair = _tried(lambda: unpack(item), f"unpack, called with {where},")
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise DataError(f"unpack made a {type(pair).__name__} of {where}, expected (inputs, labels)")
        given, labels = pair
    elif isinstance(item, Mapping):
        names = [name for name in LABEL_NAMES if name in item]
        if len(names) != 1:
            keys = ", ".join(f"'{key}'" for key in item)
            raise DataError(f"{where} is a dict without labels of a usual name, only {keys}", hint=UNPACK_HINT)
        given, labels = {key: value for key, value in item.items() if key != names[0]}, item[names[0]]
    elif isinstance(item, (tuple, list)) and len(item) == 2:
        given, labels = item
    else:
        what = f"has {len(item)} parts" if isinstance(item, (tuple, list)) else f"is a {type(item).__name__}"
        raise DataError(f"{where} {what}, expected (inputs, labels)", hint=UNPACK_HINT)
    if isinstance(given, Mapping):
        return Inputs((), {str(name): _tensor(x, f"{where}: input '{name}'") for name, x in given.items()}), labels
    if isinstance(given, (tuple, list)):
        return Inputs(tuple(_tensor(x, f"{where}: input {i}") for i, x in enumerate(given)), {}), labels
    return Inputs((_tensor(given, f"{where}: the input"),), {}), labels


def _tensor(value: Any, what: str) -> Tensor:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        value = torch.from_numpy(value)
    if not isinstance(value, Tensor) or value.ndim == 0:
        raise DataError(f"{what} is a {type(value).__name__}, expected a tensor of samples", hint=UNPACK_HINT)
    return value.detach()


def length(dataset: Any) -> int | None:
    """How many samples a data set says it has; iterable ones do not."""
    try:
        return len(dataset)
    except (TypeError, NotImplementedError):
        return None


def _tried(step: Callable[[], Any], what: str) -> Any:
    try:
        return step()
    except OnnxcalError:
        raise
    except Exception as error:
        raise DataError(
            f"{what} raised {type(error).__name__}: {error}", hint="run it on its own to see where"
        ) from error
