"""The demo as a script: calibrate the bundled network, look at the figures, use the calibrated model.

Usage: python examples/quickstart/quickstart.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime

import onnxcal

DEMO_DATA = Path(onnxcal.__file__).parent / "demo_data"


def main() -> None:
    model, data = DEMO_DATA / "digits.onnx", DEMO_DATA / "digits.npz"
    with tempfile.TemporaryDirectory() as folder:
        calibrated = Path(folder) / "digits.calibrated.onnx"
        result = onnxcal.calibrate(model, data, output=calibrated)

        before, after = result.metrics.before, result.metrics.after
        print(f"T = {result.calibration.temperature:.3f} ± {result.calibration.stderr:.3f}")
        print(f"held-out NLL {before.nll:.3f} -> {after.nll:.3f}, ECE {before.ece:.3f} -> {after.ece:.3f}")
        print(f"verified: {result.verification.passed}")

        # The calibrated file is an ordinary ONNX model: same input, same output name, now probabilities.
        images = np.load(data)["image"][:3]
        session = onnxruntime.InferenceSession(calibrated)
        for probabilities in session.run(["logits"], {"image": images})[0]:
            print(f"a {probabilities.argmax()}, {probabilities.max():.1%} sure")


if __name__ == "__main__":
    main()
