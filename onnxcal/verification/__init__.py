"""The checks that let a patched model be called calibrated: it is run, and held against a reference in float64."""

from onnxcal.verification.checks import Check, RuntimeCheck, Verification
from onnxcal.verification.moved import Moved
from onnxcal.verification.run import VerifyResult, verify, verify_file

__all__ = ["Check", "Moved", "RuntimeCheck", "Verification", "VerifyResult", "verify", "verify_file"]
