"""The calibrated file against torch's own calibrated probabilities: the module itself, its logits divided by T."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from onnxcal.errors import ModelError, VerificationError
from onnxcal.graph.head import Head
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.patch import with_logits
from onnxcal.inference.collect import Progress
from onnxcal.inference.expected import logits_of
from onnxcal.inference.session import open_session
from onnxcal.logits import as_array
from onnxcal.torch.batches import Inputs, LoaderBatches
from onnxcal.torch.modes import evaluating, on_device_of
from onnxcal.torch.outputs import flat_outputs
from onnxcal.verification import Check, RuntimeCheck

TOLERANCE = {"float16": 1e-2, "bfloat16": 5e-2, "float32": 1e-4, "float64": 1e-8}
"""Largest difference of a probability, by the head's element type: the two run other kernels all the way to the logits,
and what an exporter got wrong is far larger."""
LOGITS_TOLERANCE = 1e-2
"""By how much the logits of torch and onnxruntime may differ, relative to the largest one, to be taken for the same."""


@dataclass(frozen=True)
class Network:
    """A module with the names that its inputs and outputs have in the file."""

    module: nn.Module
    """The module; it stays where it is."""
    batches: LoaderBatches
    """Its data."""
    outputs: tuple[str, ...]
    """Names of what it returns."""

    def run(self, inputs: Inputs) -> dict[str, Tensor]:
        """What it returns, by name."""
        returned = inputs.map(on_device_of(self.module)).call(self.module)
        return flat_outputs(returned, type(self.module).__name__, self.outputs)


@dataclass(frozen=True)
class Files:
    """What was exported, what was made of it, and how both are run."""

    exported: ModelFile
    """The file as torch wrote it."""
    calibrated: ModelFile
    """The file with the patch."""
    provider: str | None
    """onnxruntime execution provider."""
    threads: int | None
    """Intra-op threads."""


def compare(
    network: Network,
    files: Files,
    head: Head,
    temperature: float,
    *,
    tolerance: float | None,
    progress: Progress | None,
) -> tuple[Check, RuntimeCheck]:
    """Every batch through the module, with its logits divided by T, and through the calibrated file.

    Raises
    ------
    ModelError
        The tensor that holds the logits is not found among what torch computes.
    """
    limit = TOLERANCE[head.precision] if tolerance is None else tolerance
    session = open_session(files.calibrated, provider=files.provider, threads=files.threads)
    name = session.outputs[network.outputs.index(head.output)]
    worst, place, changed, done = 0.0, "", 0, 0
    with evaluating(network.module):
        calibrated = _calibrated_module(network, files, head, temperature)
        for inputs, arrays in network.batches.pairs():
            expected = as_array(calibrated(inputs), "outputs of the module").astype(np.float64)
            got = np.asarray(session.run(arrays, [name])[0])
            if got.shape != expected.shape:
                detail = f"shape {got.shape}, in torch {expected.shape}"
                return _findings(head, np.inf, limit, detail, changed, done + inputs.size)
            error = np.abs(got.astype(np.float64) - expected)
            error = np.where(np.isnan(error), np.where(got == expected, 0.0, np.inf), error)
            if head.activation == "log_softmax":
                error /= np.maximum(1.0, np.abs(expected))  # of log-probabilities below −1 it is relative
            if error.max(initial=0.0) > worst:
                at = np.unravel_index(int(error.argmax()), error.shape)
                worst = float(error[at])
                position = ", ".join(str(int(i)) for i in at)
                place = f"at [{position}] of the batch from sample {done}: {got[at]:.9g}, in torch {expected[at]:.9g}"
            changed += int((_predictions(got, head) != _predictions(expected, head)).sum())
            done += inputs.size
            if progress is not None:
                progress("comparing with torch", done, None)
    return _findings(head, worst, limit, place, changed, done)


def _findings(
    head: Head, worst: float, limit: float, place: str, changed: int, n_samples: int
) -> tuple[Check, RuntimeCheck]:
    detail = f"largest difference {worst:.2g} (limit {limit:.2g})"
    if place:
        detail += f", {place}; minimum required tolerance {worst:.3g}"
    check = Check(f"torch's own probabilities of '{head.output}'", worst <= limit, worst, limit, detail)
    version = str(torch.__version__)
    return check, RuntimeCheck("torch", version, check.passed, worst, changed, n_samples)


def _calibrated_module(network: Network, files: Files, head: Head, temperature: float) -> Callable[[Inputs], Tensor]:
    """The head's output with its logits divided by T, all of it computed by torch."""
    if head.activation == "none":

        def activated(inputs: Inputs) -> Tensor:
            z = network.run(inputs)[head.output] / temperature
            return torch.softmax(z, head.axis) if head.task == "multiclass" else torch.sigmoid(z)

        return activated
    call = _call_that_makes_logits(network, files, head)

    def divided(inputs: Inputs) -> Tensor:
        with _Divided(call, temperature):
            return network.run(inputs)[head.output]

    return divided


def _call_that_makes_logits(network: Network, files: Files, head: Head) -> int:
    """Which of the torch functions that a run calls, counted through, returns the logits.

    The ones that onnxruntime reads before the activation are looked for by their numbers; the nearest, and of equals
    the first, so that views of it come behind.
    """
    inputs = network.batches.first
    form, (name,) = with_logits(files.exported, [head])
    session = open_session(form, tap=[name], provider=files.provider, threads=files.threads)
    arrays = network.batches.arrays(inputs)
    output = session.outputs[network.outputs.index(head.output)]
    logits, unpatched = session.run(arrays, [name, output])
    with _Sought(np.asarray(logits_of(logits, head))) as sought:
        raw = network.run(inputs)[head.output]
    if sought.call is not None:
        return int(sought.call)
    apart = np.abs(np.asarray(unpatched, np.float64) - as_array(raw, "outputs of the module").astype(np.float64))
    if np.nanmax(apart, initial=0.0) > TOLERANCE[head.precision]:
        raise VerificationError(
            f"FAILED: output '{head.output}' as exported differs from the module's by {np.nanmax(apart):.2g}",
            hint="nothing was written; try the other exporter",
        )
    raise ModelError(
        f"the logits before the {head.activation} of '{head.output}' are not among the tensors that "
        f"{type(network.module).__name__} computes, so that the file cannot be held against torch",
        hint="return the logits themselves; or export it yourself and pass the file to onnxcal.calibrate",
    )


class _Sought(TorchFunctionMode):
    """Notes which call returns the given numbers."""

    def __init__(self, logits: NDArray[Any]) -> None:
        super().__init__()
        self.call: int | None = None
        self._logits = torch.from_numpy(logits.astype(np.float64))
        self._nearest = LOGITS_TOLERANCE * max(float(self._logits.nan_to_num(0.0, 0.0, 0.0).abs().max()), 1e-30)
        self._calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            if made.is_floating_point() and made.numel() == self._logits.numel():
                mine = made.detach().double().cpu().reshape(self._logits.shape)
                apart = float((mine - self._logits).nan_to_num(0.0).abs().max())
                if apart < self._nearest:
                    self.call, self._nearest = self._calls, apart
            self._calls += 1
        return made


class _Divided(TorchFunctionMode):
    """Divides what one call returns."""

    def __init__(self, call: int, temperature: float) -> None:
        super().__init__()
        self._call, self._temperature, self._calls = call, temperature, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            if self._calls == self._call:
                in_place = any(made is argument for argument in args)
                made = made.div_(self._temperature) if in_place else made / self._temperature
            self._calls += 1
        return made


def _predictions(output: NDArray[Any], head: Head) -> NDArray[Any]:
    """The predicted class of each position; where the class axis was moved, whether each is more likely than not."""
    if head.task == "multiclass" and not head.trail:
        return np.asarray(output.argmax(axis=head.axis))
    return np.asarray(output > (np.log(0.5) if head.activation == "log_softmax" else 0.5))
