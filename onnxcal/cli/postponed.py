"""Packages that are imported when something of them is used: for commands that may get by without them.

`import numpy` and `import onnx` take longer than all that `patch --temperature` does with a small model; of onnx it
needs the message classes and shape inference, of numpy nothing. Only the command line does this, in its own process.
What counts as use: an attribute, another submodule, and `from package import name`, whatever the name; so modules that
such a command imports say `import onnx` or `from onnx.onnx_ml_pb2 import TensorProto`.
"""

from __future__ import annotations

import importlib
import sys
import threading
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_LOCK = threading.RLock()


def postpone(package: str, *light: str) -> None:
    """Let `import package` wait until something of it is used.

    Parameters
    ----------
    package : nothing happens if it is imported already, or not installed.
    light : submodules that are imported at once, in this order, without the rest; the package has their public names.
    """
    spec = None if package in sys.modules else find_spec(package)
    if spec is None or spec.loader is None:
        return
    module = _Postponed(spec)
    sys.modules[package] = module
    for name in light:
        vars(module)["__path__"] = list(spec.submodule_search_locations or ())
        imported = vars(importlib.import_module(name))
        vars(module).update({key: value for key, value in imported.items() if not key.startswith("_")})
    vars(module).pop("__path__", None)  # so that other submodules wait for the package, which may have to run first


class _Postponed(ModuleType):
    """A package that has not run its `__init__` yet; whatever is missing makes it run."""

    def __init__(self, spec: ModuleSpec) -> None:
        super().__init__(spec.name)
        self.__spec__, self.__loader__, self.__package__ = spec, spec.loader, spec.name
        if spec.origin is not None:
            self.__file__ = spec.origin

    def __getattr__(self, name: str) -> Any:
        with _LOCK:
            spec = self.__spec__
            if type(self) is _Postponed and spec is not None and spec.loader is not None:
                self.__class__ = ModuleType  # type: ignore[assignment]
                self.__path__ = list(spec.submodule_search_locations or ())
                spec.loader.exec_module(self)
        return getattr(self, name)
