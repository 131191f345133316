"""A process that makes one target: `python -m onnxcal.builds.worker` reads the job from stdin and prints its outcome.

A process of its own, so that one model that crashes a runtime, fills the memory, or whose data come from code that does
odd things to the interpreter cannot stop the others, and so that several can be made at once.
"""

from __future__ import annotations

import json
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

from onnxcal.errors import OnnxcalError
from onnxcal.pipeline import calibrate
from onnxcal.report.json import as_document, refusal
from onnxcal.report.stdout import stdout_kept

INTERRUPTED = 130


def main() -> int:
    """Read keyword arguments of `calibrate` as JSON; print `{"code", "error", "hint", "result"}`."""
    signal.signal(signal.SIGTERM, _interrupt)
    arguments: dict[str, Any] = json.load(sys.stdin)
    with stdout_kept():  # a user's loader may print
        try:
            outcome = _outcome(0, result=as_document(calibrate(**arguments)))
        except OnnxcalError as error:
            found = refusal(error) if error.exit_code == 1 else None
            outcome = _outcome(error.exit_code, error.message, error.hint, found)
        except KeyboardInterrupt:
            return INTERRUPTED
        except MemoryError:
            hint = "set a smaller batch-size, or use .npy data, which is not loaded whole"
            outcome = _outcome(2, "there is not enough memory", hint)
        except OSError as error:
            outcome = _outcome(2, f"{error.strerror or error}", "check the disk, and the files that are named")
        except Exception as error:
            said = f"internal error: {type(error).__name__}: {error}"
            hint = "this is a bug in onnxcal; onnxcal calibrate with the same options and -v shows the traceback"
            outcome = _outcome(2, said, hint)
    json.dump(outcome, sys.stdout)
    return 0


def _outcome(
    code: int, error: str | None = None, hint: str | None = None, result: dict[str, Any] | None = None
) -> dict[str, Any]:
    """For `runner.Outcome`."""
    return {"code": code, "error": error, "hint": hint, "result": result}


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
