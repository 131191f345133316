"""`export_calibrated`: export, fit, patch, verify, and hold the file against the module, before anyone sees it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from onnxcal.atomic import check_writable
from onnxcal.calibrators import Calibration
from onnxcal.errors import UsageError, VerificationError
from onnxcal.graph.filerecord import FileRecord
from onnxcal.graph.head import Activation
from onnxcal.graph.modelfile import open_model
from onnxcal.graph.write import Draft
from onnxcal.inference.collect import Progress
from onnxcal.inference.options import DEFAULT_BATCH_SIZE
from onnxcal.logits import Task
from onnxcal.metrics.bootstrap import DEFAULT_RESAMPLES
from onnxcal.patching import patch
from onnxcal.pipeline import calibrate
from onnxcal.report.progress import progress_of
from onnxcal.results import CalibrateResult, PatchResult
from onnxcal.torch.batches import LoaderBatches, Unpack
from onnxcal.torch.comparison import Files, Network, compare
from onnxcal.torch.export import Exporter, check_exporter, write_onnx
from onnxcal.torch.modes import check_settled, evaluating, on_device_of
from onnxcal.torch.outputs import flat_outputs
from onnxcal.verification import Check, RuntimeCheck, Verification

Result = TypeVar("Result", CalibrateResult, PatchResult)


def export_calibrated(
    model: nn.Module,
    val_loader: Iterable[Any],
    output: str | os.PathLike[str],
    *,
    eval_loader: Iterable[Any] | None = None,
    unpack: Unpack | None = None,
    exporter: Exporter = "dynamo",
    opset: int | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_axes: Mapping[str, Sequence[int]] | None = None,
    tolerance: float | None = None,
    no_holdout: bool = False,
    head: str | None = None,
    task: Task | None = None,
    axis: int | None = None,
    activation: Activation | None = None,
    ignore_index: int | None = None,
    exact: bool = False,
    prior: float | None = None,
    smoothing: float | None = None,
    bootstrap: int = DEFAULT_RESAMPLES,
    keep_logits: bool = False,
    force: bool = False,
    max_ece: float | None = None,
    provider: str | None = None,
    threads: int | None = None,
    seed: int = 0,
    progress: Progress | bool = True,
) -> CalibrateResult:
    """From a module and its validation set to a calibrated ONNX file that agrees with torch.

    The module is exported with a dynamic batch; T is fitted on the logits that onnxruntime computes, and put in; the
    file is verified as `onnxcal.calibrate` does, and then held against the module itself, run by torch with its logits
    divided by T. Only then does it appear. The module stays on its device, and in its modes.

    Parameters
    ----------
    model : in any mode; it is run in eval mode. It may return logits, or end in a softmax, log-softmax or sigmoid.
    val_loader : yields `(inputs, labels)`, or dicts with the labels under a usual name; inputs are a tensor, a tuple in
        the order of `forward`, or a dict by its parameters; on any device. It is read four times; not the data that the
        model was trained on.
    output : where the file goes.
    eval_loader : the same, to measure on, instead of a held-out half.
    unpack : makes `(inputs, labels)` of a batch that carries more, such as paths or ids.
    exporter : `dynamo`, torch's default and the one it develops: it refuses what it cannot follow. `torchscript`, which
        torch deprecates, is faster, needs no onnxscript, and freezes branches as the first samples take them.
    opset : of the file, default the exporter's.
    output_names : of the outputs, default `output`, the keys of a dict, or `output0` ….
    dynamic_axes : by input, axes besides the first whose sizes vary, such as `{"input_ids": [1]}`.
    tolerance : largest difference of a probability from torch's; default 1e-4 for float32, 1e-2 for float16.
    head : the output to calibrate, where there are several.
    no_holdout, task, axis, activation, ignore_index, exact, prior, smoothing, bootstrap, keep_logits, force, max_ece,
    provider, threads, seed : as for `onnxcal.calibrate`.
    progress : True for a bar on stderr, where that is a terminal; a callable, as elsewhere; False for neither.

    Returns
    -------
    What `onnxcal.calibrate` returns, with torch as one more runtime and one more check of `.verification`.

    Raises
    ------
    ModelError
        Part of the module is still training in eval mode, or it cannot be exported or patched.
    DataError, UsageError
        Something that was passed cannot be used.
    FitError
        No positive, finite temperature is best.
    VerificationError, GateError
        A check said no; nothing was written.
    """
    check_module(model)
    with _exported(
        model, val_loader, output, unpack=unpack, exporter=exporter, opset=opset, output_names=output_names,
        dynamic_axes=dynamic_axes, tolerance=tolerance, force=force, provider=provider, threads=threads,
        progress=progress,
    ) as made:  # fmt: skip
        evaluation = None if eval_loader is None else LoaderBatches(eval_loader, unpack, model)
        result = calibrate(
            made.path, made.network.batches, output=made.calibrated, eval_data=evaluation, no_holdout=no_holdout,
            head=head, task=task, axis=axis, activation=activation, ignore_index=ignore_index, exact=exact, prior=prior,
            smoothing=smoothing, bootstrap=bootstrap, keep_logits=keep_logits, max_ece=max_ece,
            batch_size=made.batch_size, provider=provider, threads=threads, seed=seed, progress=made.progress,
        )  # fmt: skip
        return made.delivered(result)


def export_patched(
    model: nn.Module,
    calibration: Calibration,
    data: Iterable[Any],
    output: str | os.PathLike[str],
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
    """`export_calibrated` with a temperature that is known."""
    with _exported(
        model, data, output, unpack=unpack, exporter=exporter, opset=opset, output_names=None,
        dynamic_axes=dynamic_axes, tolerance=tolerance, force=force, provider=provider, threads=threads,
        progress=progress,
    ) as made:  # fmt: skip
        result = patch(
            made.path, calibration, output=made.calibrated, data=made.network.batches, task=task, axis=axis,
            keep_logits=keep_logits, batch_size=made.batch_size, provider=provider, threads=threads,
            progress=made.progress,
        )  # fmt: skip
        return made.delivered(result)


def check_module(model: object) -> None:
    """Raise UsageError unless it is a module that has no temperature yet."""
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"a {type(model).__name__} is no torch.nn.Module", hint="for an ONNX file there is onnxcal.calibrate"
        )
    if isinstance(getattr(model, "temperature", None), nn.Parameter) and isinstance(
        getattr(model, "model", None), nn.Module
    ):
        raise UsageError(
            f"this {type(model).__name__} divides by a temperature already",
            hint="call its export(), which keeps that T; or pass its .model, to fit another",
        )


@dataclass(frozen=True)
class _Exported:
    """A module as an ONNX file in a folder that will be gone, and where the calibrated one is to go."""

    path: Path
    """The file as torch wrote it."""
    calibrated: Path
    """Where its calibrated form is made."""
    output: str | os.PathLike[str]
    """Where that will stand."""
    network: Network
    """The module."""
    warnings: tuple[str, ...]
    """What the exporter said."""
    force: bool
    """Whether `output` may be replaced."""
    tolerance: float | None
    """Largest difference of a probability from torch's; None for the default."""
    provider: str | None
    """onnxruntime execution provider."""
    threads: int | None
    """Intra-op threads."""
    progress: Progress | None
    """Where to report."""

    @property
    def batch_size(self) -> int:
        """Samples a run: the loader's own batches stay whole."""
        return max(DEFAULT_BATCH_SIZE, self.network.batches.first.size)

    def delivered(self, result: Result) -> Result:
        """Compare with torch, and let the file appear at its place.

        Raises
        ------
        VerificationError
            It does not agree with the module.
        """
        files = Files(open_model(self.path), open_model(self.calibrated), self.provider, self.threads)
        check, runtime = compare(
            self.network, files, result.head, result.calibration.temperature,
            tolerance=self.tolerance, progress=self.progress,
        )  # fmt: skip
        verification = _with_torch(result.verification, check, runtime)
        if not check.passed:
            raise VerificationError(
                f"FAILED: {check.name}: {check.detail}",
                hint="nothing was written; try the other exporter, or pass tolerance= if so much is acceptable",
                known={"verification": verification},
            )
        digests = [files.exported.sha256, files.calibrated.sha256]
        with Draft(self.output, files.calibrated, force=self.force) as draft:
            draft.write(files.calibrated, [(0, os.path.getsize(self.calibrated))])
            draft.finish()
            draft.commit()
        return replace(
            result,
            model=FileRecord(None, lambda: digests[0]),
            output=FileRecord(os.fspath(self.output), lambda: digests[1]),
            verification=verification,
            warnings=(*result.warnings, *(f"torch: {line}" for line in self.warnings)),
        )


@contextmanager
def _exported(
    model: nn.Module,
    loader: Iterable[Any],
    output: str | os.PathLike[str],
    *,
    unpack: Unpack | None,
    exporter: Exporter,
    opset: int | None,
    output_names: Sequence[str] | None,
    dynamic_axes: Mapping[str, Sequence[int]] | None,
    tolerance: float | None,
    force: bool,
    provider: str | None,
    threads: int | None,
    progress: Progress | bool,
) -> Iterator[_Exported]:
    check_exporter(exporter)
    check_writable(Path(output), force=force)
    if tolerance is not None and not 0 <= tolerance < 1:
        raise UsageError(f"tolerance {tolerance} is not between 0 and 1", hint="it is a difference of probabilities")
    batches = LoaderBatches(loader, unpack, model)
    if unknown := [name for name in dynamic_axes or {} if name not in batches.names]:
        raise UsageError(
            f"dynamic_axes names '{unknown[0]}'; the inputs are {', '.join(batches.names)}", hint="name one of those"
        )
    with tempfile.TemporaryDirectory(prefix="onnxcal-") as folder, progress_of(progress) as report:
        path = Path(folder) / Path(output).name
        with evaluating(model):
            example = batches.first.map(on_device_of(model))
            check_settled(model, example)
            names = tuple(flat_outputs(example.call(model), type(model).__name__, output_names))
            said = write_onnx(
                model, example, path, names=batches.names, outputs=names, exporter=exporter, opset=opset,
                dynamic_axes=dynamic_axes or {},
            )  # fmt: skip
        yield _Exported(
            path, Path(folder) / f"calibrated-{path.name}", output, Network(model, batches, names), said, force,
            tolerance, provider, threads, _with_total(report, batches.n_samples),
        )  # fmt: skip


def _with_torch(before: Verification | None, check: Check, runtime: RuntimeCheck) -> Verification:
    assert before is not None  # there were data to verify on
    return Verification(before.passed and check.passed, (*before.runtimes, runtime), (*before.checks, check))


def _with_total(report: Progress | None, n_samples: int | None) -> Progress | None:
    """The same, told how many samples the loader's data set has where nothing else is known."""
    if report is None:
        return None
    return lambda stage, done, total: report(stage, done, total or n_samples)
