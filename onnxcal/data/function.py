"""`package.module:callable` and `file.py:callable`: a user's own loader, named on the command line."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from onnxcal.data.batch import Truth
from onnxcal.data.iterables import IterableSource
from onnxcal.data.reader import is_reader, rewound
from onnxcal.errors import DataError, UsageError


def open_function(spec: str, labels: Truth | None = None) -> IterableSource:
    """Batches from calling the function that `spec` names, anew at each reading.

    Parameters
    ----------
    spec : `package.module:callable` or `file.py:callable`.
    labels : for a callable that makes a `CalibrationDataReader`; all else yields its own with each batch.

    Raises
    ------
    DataError
        The module cannot be imported, or has no such callable.
    UsageError
        While reading: labels were passed, and it makes no reader.
    """
    where, _, attribute = spec.rpartition(":")
    try:
        module = _load_file(Path(where)) if where.endswith(".py") else _load_module(where)
    except DataError:
        raise
    except (Exception, SystemExit) as error:
        raise DataError(
            f"cannot import '{where}' for --data {spec}: {type(error).__name__}: {error}",
            hint="run it with python on its own first",
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        names = [name for name in dir(module) if not name.startswith("_") and callable(getattr(module, name))]
        raise DataError(
            f"'{where}' has no callable '{attribute}'", hint=f"it has {', '.join(names[:8]) or 'no callables at all'}"
        )
    return IterableSource(
        f"{Path(where).name if where.endswith('.py') else where}:{attribute}", _calls(function, spec, labels)
    )


def _calls(function: Callable[[], Any], spec: str, labels: Truth | None) -> Callable[[], Iterable[Any]]:
    def call() -> Iterable[Any]:
        batches: Iterable[Any] = function()
        if is_reader(batches):
            return rewound(batches, labels)
        if labels is not None:
            raise UsageError(f"--labels does not go with {spec}", hint="yield the labels with each batch of inputs")
        return batches

    return call


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise DataError(f"cannot read '{path}': no such file", hint="check the path before the colon")
    spec = importlib.util.spec_from_file_location(f"onnxcal_data_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise DataError(f"cannot import '{path}'", hint="the file before the colon must be a Python file")
    folder = str(path.resolve().parent)
    if folder not in sys.path:  # as `python file.py` does
        sys.path.insert(0, folder)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _load_module(name: str) -> ModuleType:
    here = os.getcwd()
    if here not in sys.path:  # as `python -m` does, and as users of `module:callable` elsewhere expect
        sys.path.insert(0, here)
    return importlib.import_module(name)
