"""What `check` found of each file, on the terminal."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from onnxcal.report.console import Styled, print_rows, print_warnings
from onnxcal.report.printable import printable
from onnxcal.report.terminal import verdict
from onnxcal.verification.committed import CheckResult, FileCheck


def print_checked(result: CheckResult, verbose: bool) -> None:
    """`check`."""
    for file in result.files:
        print_rows([("file", shlex.quote(file.path))])
        print_rows([(" calibrated", f"{name}, T = {value:.5g}") for name, value in file.temperatures.items()])
        style = "bold green" if file.passed else "bold red"
        print_rows([(" checked", Styled(_found(file), style))])
        if verbose and file.verification is not None:
            checks = file.verification.checks
            print_rows([("  ok" if check.passed else "  FAIL", f"{check.name}: {check.detail}") for check in checks])
    print_warnings(result.warnings)


def failures(result: CheckResult) -> Iterator[str]:
    """One line for each file that did not pass."""
    for file in result.files:
        if not file.passed:
            yield printable(f"{shlex.quote(file.path)}: {_found(file)}")


def _found(file: FileCheck) -> str:
    """PASSED or FAILED, in one line."""
    if file.verification is None:
        return f"FAILED: {file.error}"
    if file.passed and file.verification.runtimes:
        return verdict(file.verification)
    failed = next((check for check in file.verification.checks if not check.passed), None)
    return f"FAILED: {failed.name}: {failed.detail}" if failed is not None else "its bytes are right; it was not run"
