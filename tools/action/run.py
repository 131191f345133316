"""What the GitHub Action runs: `onnxcal build`, then its outcome as annotations, outputs and a job summary.

Inputs come as environment variables `ONNXCAL_*` (see action.yml), so that no shell ever reads what a user wrote.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MARKS = {"made": "✅", "up to date": "✅", "out of date": "⚠️", "refused": "❌", "failed": "❌"}


def main() -> int:
    """Run the build; the exit code is its."""
    done = subprocess.run(command(os.environ), stdout=subprocess.PIPE, encoding="utf-8", check=False)
    if not done.stdout.strip():  # wrong usage: it said why on stderr
        _append("GITHUB_OUTPUT", _output("exit-code", str(done.returncode)))
        return done.returncode
    document = json.loads(done.stdout)
    made = [target["output"] for target in document["targets"] if target["status"] == "made"]
    outputs = {"exit-code": str(done.returncode), "made": "\n".join(made), "result": done.stdout.strip()}
    _append("GITHUB_OUTPUT", "".join(_output(name, value) for name, value in outputs.items()))
    _append("GITHUB_STEP_SUMMARY", summary(document))
    for line in annotations(document):
        print(line)
    return done.returncode


def command(environment: Mapping[str, str]) -> list[str]:
    """The command line of the inputs."""
    words = [sys.executable, "-m", "onnxcal", "build", "--json"]
    for name in ("config", "jobs"):
        if value := environment.get(f"ONNXCAL_{name.upper()}", ""):
            words += [f"--{name}", value]
    for name in ("check", "force"):
        if environment.get(f"ONNXCAL_{name.upper()}", "") == "true":
            words.append(f"--{name}")
    return [*words, "--", *environment.get("ONNXCAL_TARGETS", "").split()]


def summary(document: Mapping[str, Any]) -> str:
    """A Markdown table of the targets, and what went wrong."""
    lines = [
        "### onnxcal build",
        "",
        "| target | | T | NLL | ECE | verified |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for target in document["targets"]:
        result = target["result"] or {}
        for head in result.get("heads") or ([result] if "calibration" in result else [{}]):
            status = f"{MARKS[target['status']]} {target['status']}"
            lines.append("| " + " | ".join(map(_cell, (target["name"], status, *_figures(head, result)))) + " |")
    for target in document["targets"]:
        if target["error"]:
            lines += ["", f"**{_cell(target['name'])}**: {_cell(target['error'])}"]
        elif target["status"] == "out of date":
            lines += ["", f"**{_cell(target['name'])}** is out of date: {_cell(target['reason'])}"]
    lines += ["", *(f"- {_cell(warning)}" for warning in document["warnings"])]
    return "\n".join(lines) + "\n"


def annotations(document: Mapping[str, Any]) -> list[str]:
    """Workflow commands that show errors and warnings beside the file that declares the targets."""
    config = _property(document["config"])
    lines = []
    for target in document["targets"]:
        title = _property(f"onnxcal: {target['name']}")
        if target["error"]:
            lines.append(f"::error file={config},title={title}::{_data(target['error'])}")
        elif target["status"] == "out of date":
            lines.append(f"::error file={config},title={title}::{_data('out of date: ' + target['reason'])}")
    lines += (f"::warning file={config},title=onnxcal::{_data(warning)}" for warning in document["warnings"])
    return lines


def _figures(head: Mapping[str, Any], result: Mapping[str, Any]) -> tuple[str, str, str, str]:
    if "calibration" not in head:
        return ("", "", "", "")
    before, after = head["metrics"]["before"], head["metrics"]["after"]
    t, stderr = head["calibration"]["temperature"], head["calibration"]["stderr"]
    verification = result.get("verification")
    verified = "" if verification is None else ("yes" if verification["passed"] else "no")
    changes = (f"{_number(before[key])} → {_number(after[key])}" for key in ("nll", "ece"))
    return (f"{t:.4g}" + (f" ± {stderr:.2g}" if stderr else ""), *changes, verified)  # type: ignore[return-value]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _cell(text: str) -> str:
    """Text that stays inside its cell, and is no markup."""
    text = " ".join(text.split())
    for mark in "\\|`*_[]<>":
        text = text.replace(mark, f"\\{mark}" if mark not in "<>" else {"<": "&lt;", ">": "&gt;"}[mark])
    return text


def _data(text: str) -> str:
    """Escaped as GitHub's toolkit escapes the data of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _output(name: str, value: str) -> str:
    """An output in the form for values of several lines, with a delimiter that no value holds."""
    mark = f"end-{uuid.uuid4().hex}"
    return f"{name}<<{mark}\n{value}\n{mark}\n"


def _append(variable: str, text: str) -> None:
    """To the file that the runner names; nothing outside of a runner."""
    if path := os.environ.get(variable):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    sys.exit(main())
