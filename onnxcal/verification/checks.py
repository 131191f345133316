"""What was checked and what came of it, as data."""

from __future__ import annotations

from dataclasses import dataclass

from onnxcal.errors import VerificationError


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
    max_abs_error: float
    """Largest difference from the reference."""
    argmax_changed: int
    """Samples whose predicted class differs from that of the unpatched logits."""
    n_samples: int
    """Samples that were run."""


@dataclass(frozen=True)
class Verification:
    """The patched model, run for real, held against the reference."""

    passed: bool
    """Whether every check held."""
    runtimes: tuple[RuntimeCheck, ...]
    """One entry a runtime."""
    checks: tuple[Check, ...]
    """Every check, in the order in which they were made."""

    def raise_if_failed(self, *, folded: bool = False) -> None:
        """Raise VerificationError, with the first check that did not hold, unless all did.

        Where T was folded into weights, a division is what may do better.
        """
        failed = [check for check in self.checks if not check.passed]
        if failed:
            raise VerificationError(
                f"FAILED: {failed[0].name}: {failed[0].detail}",
                hint="the output was not written; "
                + (
                    "leave out --fold: a division rounds less"
                    if folded
                    else "rerun with -v for all checks, and report the model if it is sound"
                ),
                known={"verification": self},
                details="".join(
                    f"\n  {'ok' if check.passed else 'FAIL'} {check.name}: {check.detail}" for check in self.checks
                ),
            )
