"""Every exception that onnxcal raises on purpose, and the exit code each one means.

::

    OnnxcalError
    ├── UsageError              exit 2   options that contradict each other, or are not known
    ├── ModelError              exit 2   a file that is no ONNX model, or one that cannot be patched
    ├── DataError               exit 2   inputs, labels or logits that do not fit
    │   └── FitError                     the data has no positive, finite temperature:
    │       ├── NoFiniteOptimum          every label is the arg max, T would go to 0
    │       ├── UselessLogits            the logits say nothing about the labels, T would be infinite
    │       └── WorseThanChance          the logits rank the labels backwards, T would be negative
    ├── VerificationError       exit 1   the patched model does not compute what was fitted
    └── GateError               exit 1   a limit such as ``--max-ece`` was exceeded

A message is one sentence: what is wrong, where. ``hint`` is what to do about it. Anything else that escapes is a
bug in onnxcal, and is meant to look like one.
"""

from __future__ import annotations


class OnnxcalError(Exception):
    """Base of all errors that are the user's to mend.

    Parameters
    ----------
    message : str
        What is wrong, and where.
    hint : str, optional
        What to do about it.
    known : dict, optional
        What a check that said no had found until then, by JSON keys: `metrics`, `verification`.
    details : str, optional
        More lines for those who ask with ``-v``.
    """

    exit_code = 2

    def __init__(
        self, message: str, *, hint: str | None = None, known: dict[str, object] | None = None, details: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.known = known or {}
        self.details = details

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class UsageError(OnnxcalError):
    """Options that contradict each other or that are not known."""


class ModelError(OnnxcalError):
    """A file that is no ONNX model, or a model that cannot be patched."""


class DataError(OnnxcalError):
    """Inputs, labels or logits that do not fit the model or each other."""


class FitError(DataError):
    """The negative log-likelihood has no minimum at a positive, finite temperature."""


class NoFiniteOptimum(FitError):
    """Every label is the arg max of its row: the likelihood grows as T goes to 0."""


class UselessLogits(FitError):
    """The slope of the NLL at 1/T = 0 is exactly zero, or every row of logits is constant."""


class WorseThanChance(FitError):
    """The slope of the NLL at 1/T = 0 is positive: the best T would be negative."""


class VerificationError(OnnxcalError):
    """The patched model, run for real, does not compute the calibration that it carries."""

    exit_code = 1


class GateError(OnnxcalError):
    """A limit that the user set, such as ``--max-ece``, was exceeded."""

    exit_code = 1
