"""What `export` wrote, on the terminal."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from onnxcal.report.console import print_rows, print_warnings
from onnxcal.report.runtimes import print_runtime_checks
from onnxcal.report.terminal import verdict

if TYPE_CHECKING:
    from onnxcal.results import ExportResult


def print_exported(result: ExportResult, verbose: bool) -> None:
    """`export`."""
    print_rows(("calibrated", f"'{name}', T = {value:.5g}") for name, value in result.temperatures.items())
    if result.verification is not None:
        print_runtime_checks(result.verification.runtimes[1:])
        print_rows([("verified", verdict(result.verification))])
        if verbose:
            checks = result.verification.checks
            print_rows([("  ok" if check.passed else "  FAIL", f"{check.name}: {check.detail}") for check in checks])
    if result.to == "ort":
        print_rows(
            [
                (
                    "operators",
                    f"the patch adds to what a minimal build needs: {', '.join(result.operators_added) or 'none'}",
                )
            ]
        )
    print_warnings(result.warnings)
    print_rows(("written", shlex.quote(path)) for path in result.files)
