"""Results as the JSON objects of the contract: fields become keys, in their order."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from onnxcal.calibrators.calibration import SCHEMA
from onnxcal.errors import OnnxcalError


def as_document(result: Any) -> dict[str, Any]:
    """A result dataclass as a JSON document, the schema first.

    What has a method `as_json` is shown as that says. Fields marked `metadata={"json": False}` are left out, NumPy
    arrays and scalars become lists and Python's numbers, and numbers that JSON does not have (NaN,
    infinity) become null.
    """
    return {"schema": SCHEMA, **_plain(result)}


def refusal(error: OnnxcalError) -> dict[str, Any]:
    """The document of a command whose check said no: the error, and what was found on the way."""
    return {"schema": SCHEMA, "error": error.message, **_plain(error.known)}


def as_text(document: Mapping[str, Any]) -> str:
    """The document as one line of text for `--json`."""
    return json.dumps(document, allow_nan=False)


def _plain(value: Any) -> Any:
    if hasattr(value, "as_json"):
        return _plain(value.as_json())
    if dataclasses.is_dataclass(value):
        shown = [f for f in dataclasses.fields(value) if f.metadata.get("json", True)]
        return {f.name: _plain(getattr(value, f.name)) for f in shown}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        value = value.tolist()
        return _plain(value) if isinstance(value, list) else _number(value)
    return _number(value)


def _number(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
