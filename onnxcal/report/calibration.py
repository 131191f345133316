"""CAL.json: a calibration with its metrics and warnings, the same document that `fit --json` prints."""

from __future__ import annotations

import json
import os
from typing import BinaryIO

from onnxcal.atomic import write_file
from onnxcal.calibrators import Calibration
from onnxcal.report.json import as_document
from onnxcal.results import FitResult


def write_calibration(calibration: Calibration, path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write a CAL.json that `patch --calibration` reads.

    Raises
    ------
    UsageError
        The file exists and `force` is False, or it cannot be written.
    """
    text = json.dumps(as_document(FitResult.of(calibration)), indent=1, allow_nan=False, ensure_ascii=False) + "\n"

    def write(file: BinaryIO) -> None:
        file.write(text.encode())

    write_file(path, write, force=force)
