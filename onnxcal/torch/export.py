"""torch's two exporters: a module becomes an ONNX file that takes any number of samples."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from onnxcal.errors import ModelError, UsageError
from onnxcal.torch.batches import Inputs

Exporter: TypeAlias = Literal["dynamo", "torchscript"]
EXPORTERS: tuple[Exporter, ...] = get_args(Exporter)
INLINE_BYTES = 1 << 30
"""Weights beyond this go into a file of their own beside the model; protobuf ends at twice that."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def check_exporter(exporter: str) -> None:
    """Raise UsageError unless it is known, and what it needs is installed."""
    if exporter not in EXPORTERS:
        raise UsageError(f"exporter {exporter!r} is not known", hint=f"use one of {', '.join(EXPORTERS)}")
    if exporter == "dynamo":
        try:
            import onnxscript  # noqa: F401
        except ImportError:
            raise UsageError(
                "torch's dynamo exporter needs onnxscript, which is not installed",
                hint="pip install 'onnxcal[torch]', or pass exporter='torchscript'",
            ) from None


def write_onnx(
    module: nn.Module,
    inputs: Inputs,
    path: Path,
    *,
    names: Sequence[str],
    outputs: Sequence[str],
    exporter: Exporter,
    opset: int | None,
    dynamic_axes: Mapping[str, Sequence[int]],
) -> tuple[str, ...]:
    """Export a module that is in eval mode; what torch warned of is returned.

    Parameters
    ----------
    inputs : an example, from which two samples are taken: more would cost time, one would be taken for a constant.
    path : where to; weights beyond `INLINE_BYTES` go into `<path>.data` beside it.
    names, outputs : of the inputs and outputs in the file.
    dynamic_axes : by input, axes besides the first whose sizes vary.

    Raises
    ------
    ModelError
        torch cannot export it.
    """
    by_name = {name: inputs.by_name[name] for name in names[len(inputs.positional) :]}
    example = Inputs(inputs.positional, by_name).map(_two_samples)
    weights = sum(x.numel() * x.element_size() for x in (*module.parameters(), *module.buffers()))
    write = _write_dynamo if exporter == "dynamo" else _write_torchscript
    try:
        with _quiet() as caught:
            write(module, example, path, names, outputs, opset, dynamic_axes, external=weights > INLINE_BYTES)
    except Exception as error:  # the exporters raise whatever the tracer, the converter or protobuf does
        other = "torchscript" if exporter == "dynamo" else "dynamo"
        raise ModelError(
            f"torch's {exporter} exporter cannot export {type(module).__name__}: {_reason(error)}",
            hint=f"pass exporter='{other}'; or export it yourself and pass the file to onnxcal.calibrate",
            details=_COLOUR.sub("", str(error)),
        ) from error
    said = [str(w.message).strip().split("\n")[0] for w in caught if w.category.__name__ == "TracerWarning"]
    return tuple(dict.fromkeys(said))


def _write_dynamo(
    module: nn.Module,
    example: Inputs,
    path: Path,
    names: Sequence[str],
    outputs: Sequence[str],
    opset: int | None,
    dynamic_axes: Mapping[str, Sequence[int]],
    *,
    external: bool,
) -> None:
    samples = torch.export.Dim("N")
    shapes = [{0: samples, **dict.fromkeys(dynamic_axes.get(name, ()), torch.export.Dim.DYNAMIC)} for name in names]
    positional = len(example.positional)
    program = torch.onnx.export(
        module,
        example.positional,
        kwargs=dict(example.by_name),
        dynamo=True,
        input_names=list(names),
        output_names=list(outputs),
        opset_version=opset,
        dynamic_shapes=(*shapes[:positional], *shapes[positional:])
        if positional
        else dict(zip(names, shapes, strict=True)),
        verbose=False,
    )
    assert program is not None
    for node in program.model.graph.all_nodes():  # paths of this machine are nobody else's business
        node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)
    program.save(str(path), external_data=external)


def _write_torchscript(
    module: nn.Module,
    example: Inputs,
    path: Path,
    names: Sequence[str],
    outputs: Sequence[str],
    opset: int | None,
    dynamic_axes: Mapping[str, Sequence[int]],
    *,
    external: bool,
) -> None:
    axes = {name: {0: "N", **{i: f"{name}_{i}" for i in dynamic_axes.get(name, ())}} for name in names}
    torch.onnx.export(
        module,
        example.positional,
        str(path),
        kwargs=dict(example.by_name),
        dynamo=False,
        input_names=list(names),
        output_names=list(outputs),
        opset_version=opset,
        dynamic_axes={**axes, **{name: {0: "N"} for name in outputs}},
        external_data=external,
    )


def _two_samples(x: Tensor) -> Tensor:
    return torch.cat([x[:1], x[:1]]) if len(x) == 1 else x[:2]


@contextlib.contextmanager
def _quiet() -> Iterator[list[warnings.WarningMessage]]:
    """The exporters print, log and warn of what is no concern of a user; the warnings are kept."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(record=True) as caught,
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("always")
            yield caught
    finally:
        logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """What went wrong, from the innermost exception: those around it tell which step of the export it was."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in _COLOUR.sub("", str(error)).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
