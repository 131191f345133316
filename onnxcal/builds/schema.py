"""The JSON Schema of onnxcal.toml, for editors: made from the same table of keys that the parser reads.

`python -m onnxcal.builds.schema` prints it; `onnxcal.schema.json` beside this file is what it prints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxcal.builds.keys import FILES, GATES, OPTIONS, Key

PUBLISHED = Path(__file__).with_name("onnxcal.schema.json")


def schema() -> dict[str, Any]:
    """The document (JSON Schema, draft 2020-12, without what draft 7 lacks)."""
    gates = _table(GATES, "Limits beyond which nothing is written and the exit code is 1.")
    target = _table({**FILES, **OPTIONS}, "One calibrated model.")
    target["properties"]["gates"] = gates
    target["required"] = ["model"]
    with_data: dict[str, Any] = {"additionalProperties": {"required": ["data"]}}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "onnxcal.toml",
        "description": "What onnxcal build makes: calibrated ONNX classifiers, each with its data, options and gates.",
        "type": "object",
        "additionalProperties": False,
        "required": ["targets"],
        "properties": {
            "defaults": _table(OPTIONS, "Options of every target that does not say otherwise."),
            "gates": gates,
            "targets": {
                "description": "The calibrated models, by name.",
                "type": "object",
                "minProperties": 1,
                "additionalProperties": target,
            },
        },
        "anyOf": [
            {"properties": {"defaults": {"required": ["data"]}}, "required": ["defaults"]},
            {"properties": {"targets": with_data}},
        ],
    }


def text() -> str:
    """The document as it is published."""
    return json.dumps(schema(), indent=2) + "\n"


def _table(keys: Mapping[str, Key], about: str) -> dict[str, Any]:
    properties = {name: _value(key) for name, key in keys.items()}
    return {"description": about, "type": "object", "additionalProperties": False, "properties": properties}


def _value(key: Key) -> dict[str, Any]:
    name = {"description": key.about}
    if key.choices:
        return name | {"enum": list(key.choices)}
    string = {"type": "string", "minLength": 1, "pattern": "^[^\\u0000]*$"}
    if key.kind == "strings":
        several = {"type": "array", "items": string, "minItems": 1, "uniqueItems": True}
        return name | {"anyOf": [string, several]}
    if key.kind == "string":
        return name | string
    found: dict[str, Any] = {"type": key.kind}
    if key.minimum is not None:
        found["minimum"] = key.minimum
    if key.maximum is not None:
        found["exclusiveMaximum" if key.open_maximum else "maximum"] = key.maximum
    return name | (found if key.word is None else {"anyOf": [found, {"const": key.word}]})


if __name__ == "__main__":
    print(text(), end="")
