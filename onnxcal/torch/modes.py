"""A module as it is deployed: in eval mode, without gradients, and giving the same answer twice."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from onnxcal.errors import ModelError
from onnxcal.torch.batches import Inputs
from onnxcal.torch.outputs import flat_outputs

SAME = 1e-2
"""Largest difference of two runs, relative to the largest output: kernels may add in another order."""


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients inside; afterwards every submodule is in the mode that it came in."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def on_device_of(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """What brings a tensor to where the module is; it stays where it is if the module holds none itself."""
    own = next(iter(module.parameters()), next(iter(module.buffers()), None))
    return lambda tensor: tensor if own is None else tensor.to(own.device)


def check_settled(module: nn.Module, inputs: Inputs) -> None:
    """Run a batch twice, then half of it, in eval mode.

    Raises
    ------
    ModelError
        Outputs differ, or buffers change: dropout or batch normalisation still work as in training.
    """
    name = type(module).__name__
    before = {key: buffer.clone() for key, buffer in module.named_buffers()}
    active = _Active()
    with active:
        once = _outputs(module, inputs)
    twice = _outputs(module, inputs)
    half = _outputs(module, inputs.map(lambda x: x[: (inputs.size + 1) // 2]))
    changed = [key for key, buffer in module.named_buffers() if not torch.equal(buffer, before[key])]
    for key, buffer in module.named_buffers():
        buffer.copy_(before[key])
    training = [key or name for key, part in module.named_modules() if part.training]
    suspects = [*(f"{key} is in training mode" for key in training), *active.found]
    reason = f" ({'; '.join(suspects[:4])})" if suspects else ""
    hint = "pass training=self.training to functions such as F.dropout, and let eval() reach every submodule"
    if (apart := _apart(once, twice)) > SAME:
        raise ModelError(
            f"{name} gives two answers for one batch in eval mode, up to {apart:.2g} apart: part of it is still "
            f"training{reason}",
            hint=hint,
        )
    if changed:
        raise ModelError(
            f"running {name} in eval mode changes its buffer '{changed[0]}': part of it is still training{reason}",
            hint=hint,
        )
    if (apart := _apart([x[: len(y)] for x, y in zip(once, half, strict=True)], half)) > SAME:
        raise ModelError(
            f"what {name} gives for a sample depends on the others in its batch, by up to {apart:.2g}: part of it "
            f"is still training{reason}",
            hint=hint,
        )


class _Active(TorchFunctionMode):
    """Notes the functions that are called with training=True."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, None] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.functional":
            bound = inspect.signature(func).bind(*args, **(kwargs or {}))
            bound.apply_defaults()
            if bound.arguments.get("training") is True:
                self.found[f"{func.__name__} is called with training=True"] = None
        return func(*args, **(kwargs or {}))


def _outputs(module: nn.Module, inputs: Inputs) -> list[Tensor]:
    made = flat_outputs(inputs.call(module), type(module).__name__).values()
    return [tensor for tensor in made if tensor.is_floating_point()]


def _apart(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest difference, relative to the largest of its output."""
    found = 0.0
    for one, other in zip(ours, theirs, strict=True):
        if one.shape != other.shape:
            return float("inf")
        difference = (one.double() - other.double()).nan_to_num(0.0).abs()
        if difference.numel():
            found = max(found, float(difference.max() / one.double().nan_to_num(0.0).abs().max().clamp(min=1e-30)))
    return found
