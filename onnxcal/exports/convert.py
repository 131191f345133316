"""Running a converter, in the process of its runtime: the files of a format, and what its output needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from onnxcal.errors import ModelError
from onnxcal.exports.formats import SIDECAR, Format
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.plan import role_of
from onnxcal.inference.ort_format import CONFIG_SUFFIX, operators
from onnxcal.inference.runtimes.client import RuntimeFailed, RuntimeProcess
from onnxcal.inference.runtimes.runtime import Conversion, Job


def convert(
    process: RuntimeProcess,
    file: ModelFile,
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    form: Format,
    compress: bool,
    metadata: Mapping[str, str],
) -> tuple[Path, ...]:
    """Everything that the format consists of, beside the .onnx file."""
    outputs = tuple(value.name for value in file.graph.output)
    target = path.with_suffix(form.suffix)
    job = Job(path, shapes, outputs, folder=path.parent, home=Path.cwd())
    try:
        process.convert(Conversion(job, target, compress, metadata))
    except RuntimeFailed as error:
        raise ModelError(
            f"the converter to {form.name} refuses {file.name}: {error}", hint="nothing was written; try another --to"
        ) from None
    if SIDECAR in form.beside:
        form.files(target)[-1].write_text("\n".join(metadata.values()) + "\n", encoding="utf-8")
    made = form.files(target)
    missing = [each.name for each in made if not each.is_file()]
    if missing:
        raise ModelError(f"the converter to {form.name} made no {', '.join(missing)}", hint="nothing was written")
    return made


def operators_added(process: RuntimeProcess, file: ModelFile, before: Path, made: Sequence[Path]) -> tuple[str, ...]:
    """What a minimal build needs for the calibrated model, and not for the unpatched one."""
    job = Job(before, {}, (), folder=before.parent, home=Path.cwd())
    try:
        process.convert(Conversion(job, before.with_suffix(".ort")))
    except RuntimeFailed as error:
        raise ModelError(f"the converter refuses {file.name} without its patch: {error}") from None
    known = set(operators(before.with_suffix(CONFIG_SUFFIX)))
    return tuple(name for name in operators(made[1]) if name not in known)


def fused_otherwise(file: ModelFile, added: Sequence[str]) -> Iterator[str]:
    """What to say of operators that a minimal build needs for the patch, though the patch does not have them."""
    own = {node.op_type for node in file.graph.node if role_of(node) is not None}
    others = [name for name in (entry.partition(" ")[0] for entry in added) if name not in own]
    if others:
        yield (
            f"the patch itself has no {', '.join(others)}: with it onnxruntime's converter fuses or splits the model's "
            "nodes otherwise than without it"
        )
