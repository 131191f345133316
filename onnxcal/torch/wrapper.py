"""`ModelWithTemperature`: the class that everyone knows, with the T that is best rather than one on the way to it."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from onnxcal.calibrators import Calibration, fit
from onnxcal.calibrators.temperature import as_temperature
from onnxcal.errors import DataError, ModelError
from onnxcal.inference.collect import Progress
from onnxcal.logits import Task, as_array
from onnxcal.report.progress import progress_of
from onnxcal.results import PatchResult
from onnxcal.rows import probabilities_kind
from onnxcal.torch.batches import Unpack, length, read
from onnxcal.torch.bridge import export_patched
from onnxcal.torch.export import Exporter
from onnxcal.torch.modes import check_settled, evaluating, on_device_of


class ModelWithTemperature(nn.Module):
    """A classifier whose logits are divided by a temperature (Guo et al. 2017).

    `set_temperature` finds T by maximum likelihood, as `onnxcal.fit` does: exactly, or with an error that says why
    there is none. `forward` returns logits, z / T; a softmax or sigmoid over them gives the probabilities.

    Parameters
    ----------
    model : a module that returns logits (N, K) or (N, K, d1, …), or (N,) or (N, 1) for binary; or log-probabilities,
        which a softmax takes for logits too.
    temperature : T to begin with, say of a checkpoint; 1 leaves the model as it is.
    """

    temperature: nn.Parameter
    """T, float64 of shape (1,), so that it holds what was fitted. On a device without float64 move `.model` only."""

    def __init__(self, model: nn.Module, temperature: Any = 1.0) -> None:
        super().__init__()
        self.model = model
        self.temperature = nn.Parameter(torch.tensor([as_temperature(temperature)], dtype=torch.float64))
        self._fitted: Calibration | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Calibrated logits, of the shape and type of the model's."""
        return self.temperature_scale(_tensor(self.model(*args, **kwargs), self.model))

    def temperature_scale(self, logits: Tensor) -> Tensor:
        """z / T."""
        return logits / self.temperature.to(logits)

    @property
    def calibration(self) -> Calibration:
        """T with what is known of it: its interval and scores, if it was fitted here."""
        value = as_temperature(self.temperature)
        if self._fitted is not None and abs(value / self._fitted.temperature - 1) < 1e-6:
            return self._fitted
        return Calibration(value)

    def set_temperature(
        self,
        val_loader: Iterable[Any],
        *,
        unpack: Unpack | None = None,
        task: Task | None = None,
        axis: int | None = None,
        ignore_index: int | None = None,
        exact: bool = False,
        prior: float | None = None,
        smoothing: float | None = None,
        progress: Progress | bool = True,
    ) -> ModelWithTemperature:
        """Set T to the best one for the labelled batches of a loader; the model is run once, in eval mode.

        Parameters
        ----------
        val_loader : yields `(inputs, labels)`, or dicts; not the data that the model was trained on.
        unpack : what makes `(inputs, labels)` of batches that carry more.
        task, axis, ignore_index, exact, prior, smoothing : as for `onnxcal.fit`.
        progress : True for a bar on stderr, where that is a terminal; a callable, as elsewhere; False for neither.

        Returns
        -------
        The wrapper itself.

        Raises
        ------
        ModelError
            Part of the model is still training in eval mode, or it returns something else than logits.
        DataError, FitError
            The batches cannot be used, or have no best temperature; T stays as it was.
        """
        with evaluating(self.model), progress_of(progress) as report:
            pairs = self._logits_and_labels(val_loader, unpack, report)
            return self.fit(
                pairs, task=task, axis=axis, ignore_index=ignore_index, exact=exact, prior=prior, smoothing=smoothing
            )

    def fit(
        self,
        logits: Any,
        labels: Any = None,
        *,
        task: Task | None = None,
        axis: int | None = None,
        ignore_index: int | None = None,
        exact: bool = False,
        prior: float | None = None,
        smoothing: float | None = None,
    ) -> ModelWithTemperature:
        """`set_temperature` from logits that are at hand: tensors, arrays, or batches of them, as for `onnxcal.fit`."""
        calibration = fit(
            logits, labels, task=task, axis=axis, ignore_index=ignore_index, exact=exact, prior=prior,
            smoothing=smoothing,
        )  # fmt: skip
        assert calibration.fitted_on is not None
        fitted_on = calibration.fitted_on.sample.logits
        kind = probabilities_kind(fitted_on) if fitted_on.task != "multiclass" else None
        if kind is not None:
            raise DataError(f"the model returns {kind}, not logits", hint="wrap it without its final Sigmoid")
        with torch.no_grad():
            self.temperature.fill_(calibration.temperature)
        self._fitted = calibration
        return self

    def _logits_and_labels(
        self, loader: Iterable[Any], unpack: Unpack | None, report: Progress | None
    ) -> Iterator[tuple[Any, Any]]:
        """What the model says to each batch."""
        move, total, done = on_device_of(self.model), length(getattr(loader, "dataset", None)), 0
        for inputs, labels in read(loader, unpack):
            there = inputs.map(move)
            if done == 0:
                check_settled(self.model, there)
            yield as_array(_tensor(there.call(self.model), self.model), "logits"), as_array(labels, "labels")
            done += inputs.size
            if report is not None:
                report("collecting logits", done, total)

    def export(
        self,
        output: str | os.PathLike[str],
        data: Iterable[Any],
        *,
        unpack: Unpack | None = None,
        exporter: Exporter = "dynamo",
        opset: int | None = None,
        dynamic_axes: Mapping[str, Sequence[int]] | None = None,
        tolerance: float | None = None,
        task: Task | None = None,
        axis: int | None = None,
        keep_logits: bool = False,
        force: bool = False,
        provider: str | None = None,
        threads: int | None = None,
        progress: Progress | bool = True,
    ) -> PatchResult:
        """Write the model with this T as an ONNX file of probabilities, checked against torch on `data`.

        The graph is the one that `export_calibrated` makes of `.model`; T is the wrapper's own instead of one from
        onnxruntime's logits. Parameters and errors as of `export_calibrated`.
        """
        return export_patched(
            self.model, self.calibration, data, output, unpack=unpack, exporter=exporter, opset=opset,
            dynamic_axes=dynamic_axes, tolerance=tolerance, task=task, axis=axis, keep_logits=keep_logits, force=force,
            provider=provider, threads=threads, progress=progress,
        )  # fmt: skip


def read_temperature(checkpoint: str | os.PathLike[str] | Mapping[str, Any]) -> Calibration:
    """The temperature in a checkpoint of a `ModelWithTemperature`, of this class or of the one it is named after.

    Parameters
    ----------
    checkpoint : a state dict, or the path of one that `torch.save` wrote; it may lie under `state_dict` or `model`.

    Raises
    ------
    DataError
        The file cannot be read without running code in it, or it holds no `temperature` of one number.
    """
    where = "the state dict"
    entries: Any = checkpoint
    if isinstance(checkpoint, (str, os.PathLike)):
        where = f"'{os.fspath(checkpoint)}'"
        try:
            entries = torch.load(checkpoint, map_location="cpu", weights_only=True)
        except OSError as error:
            raise DataError(f"cannot read {where}: {error.strerror}", hint="check the path") from None
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
            raise DataError(
                f"{where} is no file of tensors: {str(error).splitlines()[0]}",
                hint="save model.state_dict(), not the model itself",
            ) from None
    for key in ("state_dict", "model"):
        if isinstance(entries, Mapping) and isinstance(entries.get(key), Mapping):
            entries = entries[key]
    names = list(entries) if isinstance(entries, Mapping) else []
    found = [name for name in names if str(name).rpartition(".")[2] == "temperature"]
    if len(found) != 1:
        raise DataError(
            f"{where} has {len(found)} entries named 'temperature'", hint="pass the checkpoint of the whole wrapper"
        )
    return Calibration(as_temperature(entries[found[0]]))


def _tensor(returned: Any, model: nn.Module) -> Tensor:
    if not isinstance(returned, Tensor):
        raise ModelError(
            f"{type(model).__name__} returns a {type(returned).__name__}, expected a tensor of logits",
            hint="wrap it in a module whose forward returns the logits only",
        )
    return returned
