"""The checks that let a patched model be called calibrated: it is run, and held against a reference in float64."""

from onnxcal.verification.checks import Check, RuntimeCheck, Verification
from onnxcal.verification.moved import Moved
from onnxcal.verification.run import VerifyResult, verify, verify_file
from onnxcal.verification.wanted import DEFAULT_SAMPLES, DEFAULT_TIMEOUT, RuntimeOptions, runtime_options

__all__ = [
    "DEFAULT_SAMPLES",
    "DEFAULT_TIMEOUT",
    "Check",
    "Moved",
    "RuntimeCheck",
    "RuntimeOptions",
    "Verification",
    "VerifyResult",
    "runtime_options",
    "verify",
    "verify_file",
]
