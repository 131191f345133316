"""What can be done to a patched file: take the patch out again, or set another temperature."""

from __future__ import annotations

import os
from pathlib import Path

from onnxcal.atomic import check_apart
from onnxcal.calibrators import Calibration
from onnxcal.calibrators.temperature import TemperatureLike, as_temperature
from onnxcal.errors import ModelError, UsageError
from onnxcal.graph.division import divides, not_as_recorded, other_temperature
from onnxcal.graph.filerecord import FileRecord
from onnxcal.graph.modelfile import ModelFile, ModelLike, open_model
from onnxcal.graph.patch import check_made_from, write_original
from onnxcal.graph.write import Draft, write_taking_digest
from onnxcal.heads import unusual_temperature
from onnxcal.results import RevertResult, SetTemperatureResult


def revert(
    model: ModelLike,
    *,
    output: str | os.PathLike[str],
    original: ModelLike | None = None,
    force: bool = False,
) -> RevertResult:
    """Take the patch out of a patched model again.

    Parameters
    ----------
    model : the file that `patch` or `calibrate` wrote.
    output : where the original goes; it may be the model itself with `force`.
    original : the model that `model` was made from, where the patch cannot be taken out: T is folded into weights, or
        the graph was changed since. Its digest is held against the one that `model` carries, and it is copied.

    Raises
    ------
    ModelError
        The model is not patched; its graph was changed since, or T is folded into its weights, and there is no
        original; or that is another model.
    """
    file = open_model(model)
    if original is not None:
        return _revert_to(file, open_model(original), output, force=force)
    with Draft(output, file, force=force) as draft:
        digest, identical = write_original(file, draft)
        draft.commit()
    warnings = (
        ()
        if identical
        else ("another tool wrote the file anew: the patch is out, but the rest is not the original byte for byte",)
    )
    return RevertResult(FileRecord.of(file), FileRecord(os.fspath(output), lambda: digest), identical, warnings)


def _revert_to(file: ModelFile, original: ModelFile, output: str | os.PathLike[str], *, force: bool) -> RevertResult:
    """Copy the model that a patched one was made from, if it is that."""
    check_apart([Path(output)], [original.path])
    check_made_from(file, original)
    with Draft(output, original, force=force) as draft:
        digest = write_taking_digest(draft, original, [(0, original.size)])
        draft.commit()
    return RevertResult(FileRecord.of(file), FileRecord(os.fspath(output), lambda: digest), True)


def set_temperature(
    model: str | os.PathLike[str], temperature: TemperatureLike, *, head: str | None = None
) -> SetTemperatureResult:
    """Change T in a patched file, in place and without fitting again.

    The file changes as a whole or not at all. Its metadata tell that T was set by hand, and the T of before; what was
    known of that one, its standard error first of all, is dropped. It can be verified and reverted as before.

    Parameters
    ----------
    model : path of the file that `patch` or `calibrate` wrote.
    temperature : T: a number, or a tensor that holds one.
    head : the output whose T it is, where several are calibrated.

    Raises
    ------
    ModelError
        The file is not patched, T is folded into its weights, or T is not where it was put.
    UsageError
        T is not positive and finite, or too large or small for the type in which the file has it.
    """
    from onnxcal.graph.retune import chosen_entry, retuned  # NumPy, which `revert` needs not wait for

    wanted = as_temperature(temperature)
    file = open_model(model)
    if file.path is None:
        raise UsageError("the model is not a file", hint="pass its path, or patch it again with another temperature")
    entry = chosen_entry(file, head)
    known = Calibration.from_dict(entry.calibration, where=f"the metadata of {file.name}")
    before = known.temperature if known.replaced is None else known.replaced
    new = Calibration(wanted, task=known.task, output=known.output, replaced=before)
    output = entry.output_name or str(entry.head["output"])
    change = retuned(file, entry, new.temperature, new.as_json())
    found = other_temperature(file, output, known.temperature)
    warnings = unusual_temperature(new.temperature)
    if found is not None:
        warnings += (not_as_recorded(output, found, known.temperature),)
    with Draft(file.path, file, force=True) as draft:
        draft.write(file, change.pieces)
        draft.finish()
        written = open_model(draft.path)
        if not divides(written, output, new.temperature):
            raise ModelError(
                f"{file.name} would not divide '{output}' by {new.temperature:g}",
                hint="patch the model it was made from again",
            )
        draft.commit()
    return SetTemperatureResult(
        model=FileRecord.of(file),
        output=FileRecord.of(written, file.path),
        head=output,
        before=known.temperature if found is None else found,
        calibration=new,
        warnings=warnings,
    )
