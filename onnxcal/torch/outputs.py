"""What a module returns, as tensors by the names that they get in the ONNX file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from onnxcal.errors import ModelError, UsageError


def flat_outputs(returned: Any, module: str, names: Sequence[str] | None = None) -> dict[str, Tensor]:
    """The tensors that a module returned, in order.

    One is called `output`; those of a dict or a named tuple as they are called there; others `output0`, `output1` ….

    Parameters
    ----------
    returned : a tensor, or tuples, lists and dicts of them; None is left out, as the exporters do.
    module : what messages call the module.
    names : other names.

    Raises
    ------
    ModelError
        It is something else.
    UsageError
        There are more or fewer names than tensors.
    """
    found = list(_tensors(returned, "", module))
    tensors = [tensor for _, tensor in found]
    if names is None:
        own = [name for name, _ in found]
        if all(own) and len(set(own)) == len(own):
            names = own
        else:
            names = ["output"] if len(found) == 1 else [f"output{i}" for i in range(len(found))]
    if len(names) != len(tensors) or len(set(names)) != len(names):
        raise UsageError(
            f"{len(names)} output names for the {len(tensors)} outputs of {module}", hint="pass a name for each"
        )
    return dict(zip(names, tensors, strict=True))


def _tensors(returned: Any, name: str, module: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(returned, Tensor):
        yield name, returned
    elif isinstance(returned, Mapping):
        for key, value in returned.items():
            yield from _tensors(value, str(key), module)
    elif isinstance(returned, (tuple, list)):
        keys: Sequence[str] = getattr(returned, "_fields", [""] * len(returned))
        for key, value in zip(keys, returned, strict=True):
            yield from _tensors(value, key, module)
    elif returned is not None:
        raise ModelError(
            f"{module} returns a {type(returned).__name__} among its outputs, expected tensors",
            hint="wrap it in a module whose forward returns the logits",
        )
