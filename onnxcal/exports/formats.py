"""The formats that a calibrated model can be exported to. What converts and runs them is in `inference/runtimes/`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from onnxcal.errors import UsageError

SIDECAR = ".calibration.json"
RECIPE = "tflite-recipe"


@dataclass(frozen=True)
class Format:
    """One of them."""

    name: str
    """What `--to` calls it."""
    runtime: str
    """The runtime that converts and runs it; empty if nothing is converted."""
    suffix: str
    """Of its main file."""
    beside: tuple[str, ...] = ()
    """Of the files beside it: a sidecar adds to its name, the others replace its suffix."""
    compresses: bool = False
    """Whether its converter can round weights to float16."""

    def files(self, target: Path) -> tuple[Path, ...]:
        """All files, the main one first."""
        return (
            target,
            *(
                target.with_name(target.name + suffix) if suffix == SIDECAR else target.with_suffix(suffix)
                for suffix in self.beside
            ),
        )


FORMATS = {
    entry.name: entry
    for entry in (
        Format("ort", "onnxruntime", ".ort", (".required_operators.config",)),
        Format("openvino", "openvino", ".xml", (".bin",), compresses=True),
        Format("mnn", "mnn", ".mnn", (SIDECAR,), compresses=True),
        Format("ncnn", "ncnn", ".param", (".bin", SIDECAR), compresses=True),
        Format("c", "emx-c", ".c", (SIDECAR,)),
        Format(RECIPE, "", ".md"),
    )
}
"""By name. Those without a sidecar hold the calibration themselves: .ort as metadata, OpenVINO as `rt_info`."""


def format_named(name: str, *, compress: bool) -> Format:
    """The format of a name.

    Raises
    ------
    UsageError
        It is not known, or is to be compressed and cannot be.
    """
    if name not in FORMATS:
        raise UsageError(f"format {name!r} is not known", hint=f"--to is one of {', '.join(FORMATS)}")
    if compress and not FORMATS[name].compresses:
        able = ", ".join(entry.name for entry in FORMATS.values() if entry.compresses)
        raise UsageError(f"--compress does nothing with --to {name}", hint=f"leave it out; it is for {able}")
    return FORMATS[name]
