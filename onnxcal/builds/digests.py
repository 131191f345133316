"""What was found out by reading files, remembered in the user's cache folder: a large file is read once.

Digests, and whether a calibrated model is what its metadata say.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import platformdirs

from onnxcal.atomic import write_file
from onnxcal.errors import DataError, OnnxcalError
from onnxcal.graph.filerecord import file_digest

SETTLED_SECONDS = 2.0
"""A file that was written later than so before it was read may be written once more with the same time of writing."""
MOST_ENTRIES = 2000


class DigestCache:
    """SHA-256 of files by device, inode, size and times of change: a file that changed has another digest, or is read.

    Nothing is lost where the cache cannot be read or written: files are then read each time.

    Parameters
    ----------
    path : of the cache file, default `digests.json` in the user's cache folder.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = (
            Path(platformdirs.user_cache_dir("onnxcal", appauthor=False)) / "digests.json" if path is None else path
        )
        self._known = self._read()
        self._changed = False

    def sha256(self, path: Path) -> str:
        """Digest of a file's content.

        Raises
        ------
        DataError
            It cannot be read.
        """
        return self._remembered(path, "", lambda: file_digest(path))

    def is_made_from(self, path: Path, model: str, look: Callable[[], bool]) -> bool:
        """Whether a calibrated model is what its metadata say, of the model with that digest.

        Parameters
        ----------
        path : of the calibrated model.
        model : digest of the model.
        look : finds it out; called where that is not known, of this file as it is.
        """
        return self._remembered(path, "made from ", lambda: model if look() else "") == model

    def _remembered(self, path: Path, about: str, find: Callable[[], str]) -> str:
        try:
            before = os.stat(path)
            key = about + _key(before)
            if key in self._known:
                return self._known[key]
            found = find()
            settled = time.time() - max(before.st_mtime, before.st_ctime) > SETTLED_SECONDS
            if found and settled and _key(os.stat(path)) == _key(before):
                self._known[key] = found
                self._changed = True
        except OSError as error:
            raise DataError(f"cannot read '{path}': {error.strerror}", hint="check the path") from None
        return found

    def save(self) -> None:
        """Keep what was found for the next time."""
        if not self._changed:
            return
        kept = dict(list(self._known.items())[-MOST_ENTRIES:])

        def write(file: BinaryIO) -> None:
            file.write(json.dumps(kept).encode())

        with suppress(OSError, OnnxcalError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_file(self.path, write, force=True)

    def _read(self) -> dict[str, str]:
        try:
            known = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(known, dict):
            return {}
        return {key: value for key, value in known.items() if isinstance(value, str) and len(value) == 64}


def _key(stat: os.stat_result) -> str:
    return f"{stat.st_dev} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
