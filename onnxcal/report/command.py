"""What was asked for, as the command line that asks for it."""

from __future__ import annotations

import inspect
import os
import shlex
from collections.abc import Callable, Mapping
from typing import Any


def as_command(name: str, arguments: Mapping[str, Any], function: Callable[..., Any]) -> str:
    """The command with the options that are not at their defaults; data in memory is named as such.

    Parameters
    ----------
    name : of the command.
    arguments : of the Python function with the same options, by name.
    function : that function; its parameters without a default come first, the model without a name.
    """
    words = ["onnxcal", name]
    for parameter in inspect.signature(function).parameters.values():
        value = arguments[parameter.name]
        if parameter.name == "progress" or value is None or _is_default(value, parameter.default):
            continue
        option = f"--{parameter.name.replace('_', '-')}"
        if parameter.name == "model":
            words.append(_word(value))
        elif value is True:
            words.append(option)
        else:
            several = value if isinstance(value, (list, tuple)) and parameter.name == "head" else [value]
            for one in several:
                words += [option, _word(one)]
    return " ".join(words)


def _is_default(value: Any, default: Any) -> bool:
    """Arrays are none: they compare element by element."""
    return isinstance(value, (str, int, float)) and bool(value == default)


def _word(value: Any) -> str:
    if isinstance(value, (str, int, float, os.PathLike)):
        return shlex.quote(str(value))
    return "(in memory)"
