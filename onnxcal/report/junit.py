"""`--junit`: checks and gates as tests, in the XML that continuous integration reads.

One test case a check. The form is what Jenkins, GitLab, GitHub's report actions and pytest agree on: `testsuites`,
`testsuite`, `testcase` with `failure`, `error` or `system-out`. Names come out of files that anyone may have made: what
is no printable character, and so perhaps none that XML 1.0 allows, is shown as an escape sequence.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from onnxcal.atomic import check_apart, check_writable, write_file
from onnxcal.errors import OnnxcalError, UsageError
from onnxcal.report.printable import printable
from onnxcal.verification.checks import Check, Verification

_ROOT = b"<testsuites"
_LONGEST = 1000


@contextmanager
def junit_report(
    path: str | os.PathLike[str] | None, command: str, others: Iterable[object] = ()
) -> Iterator[Callable[[Any], None]]:
    """Leave what a command checks as a JUnit file, also when a check says no or something cannot be used.

    Parameters
    ----------
    path : the .xml file, which replaces an older one; None for none.
    command : its name.
    others : what else it was told; the report is none of the files among that.

    Yields
    ------
    What to call with the result, which has `verification`, and `gates` if there were any.

    Raises
    ------
    UsageError
        The file exists and is something else, or it cannot be written.
    """
    if path is None:
        yield lambda result: None
        return
    check_apart([Path(path)], others)
    _check_replaceable(Path(path))
    start = time.perf_counter()
    cases: list[ElementTree.Element] = []

    def add(result: Any) -> None:
        cases.extend(_cases(command, getattr(result, "gates", ()), result.verification))

    try:
        yield add
    except OnnxcalError as error:
        found = error.known
        cases += _cases(command, found.get("gates", ()), found.get("verification"))  # type: ignore[arg-type]
        if not any(case.find("failure") is not None for case in cases):
            cases.append(_refused(command, error))
        _write(Path(path), command, cases, time.perf_counter() - start)
        raise
    _write(Path(path), command, cases, time.perf_counter() - start)


def _cases(command: str, gates: Sequence[Check], verification: Verification | None) -> list[ElementTree.Element]:
    checks = [("gates", check) for check in gates]
    checks += [("verification", check) for check in (() if verification is None else verification.checks)]
    return [_case(command, kind, check) for kind, check in checks]


def _case(command: str, kind: str, check: Check) -> ElementTree.Element:
    case = ElementTree.Element("testcase", classname=f"onnxcal.{command}.{kind}", name=_text(check.name), time="0")
    known = [("value", check.value), ("limit", check.limit)]
    figures = [f"{name} {value:.6g}" for name, value in known if value is not None]
    detail = "\n".join([_text(check.detail), *figures])
    if check.passed:
        ElementTree.SubElement(case, "system-out").text = detail
    else:
        ElementTree.SubElement(case, "failure", message=_text(check.detail), type=kind).text = detail
    return case


def _refused(command: str, error: OnnxcalError) -> ElementTree.Element:
    """What was no check: a failure if a check said no without more, an error if something could not be used."""
    case = ElementTree.Element("testcase", classname=f"onnxcal.{command}", name=command, time="0")
    how = "failure" if error.exit_code == 1 else "error"
    message = _text(error.message)
    said = ElementTree.SubElement(case, how, message=message, type=type(error).__name__)
    said.text = message if error.hint is None else f"{message}\nhint: {_text(error.hint)}"
    return case


def _write(path: Path, command: str, cases: Sequence[ElementTree.Element], seconds: float) -> None:
    total = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": str(sum(case.find("error") is not None for case in cases)),
        "time": f"{seconds:.3f}",
    }
    suites = ElementTree.Element("testsuites", {"name": "onnxcal", **total})
    suite = ElementTree.SubElement(suites, "testsuite", {"name": f"onnxcal {command}", **total, "skipped": "0"})
    suite.extend(cases)
    ElementTree.indent(suites)
    text = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True) + b"\n"
    _check_replaceable(path)
    write_file(path, lambda file: file.write(text), force=True)  # type: ignore[arg-type]


def _check_replaceable(path: Path) -> None:
    """Raise UsageError where a file of another kind stands, which `--junit` must not replace."""
    if path.is_file():
        with path.open("rb") as file:
            if _ROOT not in file.read(200):
                raise UsageError(f"'{path}' exists and is no JUnit file", hint="choose another --junit")
    check_writable(path, force=True)


def _text(text: str) -> str:
    """Printable text of a bearable length."""
    shown = printable(text)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}… ({len(shown):,} characters)"
