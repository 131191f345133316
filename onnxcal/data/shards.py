"""A fit on stored logits: one LOGITS.npz, or several that are shards of one set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnxcal.calibrators import Calibration, fit
from onnxcal.data.npz import StoredLogits, read_logits
from onnxcal.errors import UsageError


def fit_files(
    paths: Sequence[Path], eval_data: Path | None = None, *, no_spool: bool = False, **fitting: Any
) -> Calibration:
    """`fit` on the arrays of files, one after the other in memory.

    Parameters
    ----------
    paths : LOGITS.npz files.
    eval_data : another, to measure on.
    no_spool : keep no logits, and add the files up in a single pass.
    fitting : what `fit` is to be told.

    Raises
    ------
    DataError
        A file cannot be read, or its arrays do not fit each other or those of other files.
    UsageError
        The files hold logits of different heads.
    FitError
        No positive, finite temperature is best.
    """
    seen: list[StoredLogits] = []
    apart = None if eval_data is None else read_logits(eval_data)
    fitting["eval_data"] = None if apart is None else _arrays(apart)
    first = read_logits(paths[0])
    fitting["task"] = fitting.get("task") or first.task
    if len(paths) == 1 and not no_spool:
        calibration = fit(first.logits, first.labels, sample_weight=first.sample_weight, **fitting)
        return replace(calibration, output=first.output, data_sha256=first.data_sha256)

    def batches() -> Any:
        for path in paths:
            stored = read_logits(path)
            if (stored.output, stored.task) != (first.output, first.task):
                raise UsageError(
                    f"'{path}' holds logits of {_named(stored)}, '{paths[0]}' of {_named(first)}",
                    hint="fit each head on its own files",
                )
            seen.append(replace(stored, logits=stored.logits[:0], labels=stored.labels[:0]))
            yield _arrays(stored)

    calibration = fit(batches(), no_spool=no_spool, **fitting)
    digests = [stored.data_sha256 for stored in seen]
    whole = None if None in digests else hashlib.sha256("".join(map(str, digests)).encode()).hexdigest()
    return replace(calibration, output=first.output, data_sha256=whole)


def _arrays(stored: StoredLogits) -> tuple[Any, ...]:
    return (stored.logits, stored.labels, *(() if stored.sample_weight is None else (stored.sample_weight,)))


def _named(stored: StoredLogits) -> str:
    output = "an unnamed output" if stored.output is None else f"output '{stored.output}'"
    return output if stored.task is None else f"{output} ({stored.task})"
