"""What was checked and what came of it, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from onnxcal.errors import VerificationError

Blame: TypeAlias = Literal["runtime", "patch", "unknown"]


@dataclass(frozen=True)
class Check:
    """One thing that was checked."""

    name: str
    """What: `checker`, `probabilities of 'probs'`, `arg max of 'probs'`, `other outputs`, `untouched bytes`."""
    passed: bool
    """Whether it held."""
    value: float | None
    """What was measured, in the unit of `limit`; None where there is nothing to measure."""
    limit: float | None
    """What would just have passed."""
    detail: str
    """The finding, in words: where the largest error is, which tolerance would have passed."""


@dataclass(frozen=True)
class RuntimeCheck:
    """How one runtime did on the data."""

    name: str
    """The runtime."""
    version: str
    """Its version."""
    passed: bool
    """Whether its numbers are within tolerance."""
    max_abs_error: float | None
    """Largest difference from the reference; None if it ran nothing."""
    argmax_changed: int
    """Samples whose predicted class differs from that of the unpatched logits."""
    n_samples: int
    """Samples that were run."""
    setting: str = ""
    """How it was run, where there are several ways."""
    counts: bool = True
    """Whether the model must be right here; else this entry is for information."""
    tolerance: float | None = None
    """Largest error that would have passed, by the precision of the model."""
    tolerance_needed: float | None = None
    """Smallest tolerance with which its values would have passed."""
    max_abs_error_before: float | None = None
    """Largest error of the unpatched model in the same runtime; None if it was not run there."""
    nll: float | None = None
    """Mean negative log-likelihood of the probabilities there, in nats; None without labels."""
    ece: float | None = None
    """Their expected calibration error, 15 bins."""
    blame: Blame | None = None
    """Whose fault it is; None if it passed, or was not looked into."""
    detail: str = ""
    """What is wrong and since when, or why it does not run."""

    @property
    def title(self) -> str:
        """Its name and how it was run."""
        return f"{self.name} {self.setting}".strip()

    def as_check(self) -> Check:
        """The same as one of the checks."""
        passed = f"largest error {self.max_abs_error or 0:.2g} (limit {self.tolerance or 0:.2g})"
        passed += f", {self.n_samples:,} samples" + (f"; {self.detail}" if self.detail else "")
        return Check(
            f"runtime {self.title}",
            self.passed,
            self.max_abs_error,
            self.tolerance,
            passed if self.passed else self.detail,
        )


@dataclass(frozen=True)
class Verification:
    """The patched model, run for real, held against the reference."""

    passed: bool
    """Whether every check held."""
    runtimes: tuple[RuntimeCheck, ...]
    """One entry a runtime."""
    checks: tuple[Check, ...]
    """Every check, in the order in which they were made."""

    def raise_if_failed(self, hint: str | None = None) -> None:
        """Raise VerificationError, with the first check that did not hold and what to do, unless all did."""
        failed = [check for check in self.checks if not check.passed]
        if failed:
            raise VerificationError(
                f"FAILED: {failed[0].name}: {failed[0].detail}",
                hint="the output was not written; "
                + (hint or "rerun with -v for all checks, and report the model if it is sound"),
                known={"verification": self},
                details="".join(
                    f"\n  {'ok' if check.passed else 'FAIL'} {check.name}: {check.detail}" for check in self.checks
                ),
            )
