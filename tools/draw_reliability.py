"""Draws README's picture: the reliability diagram of the demo's held-out half, before and after.

Usage: python tools/draw_reliability.py examples/quickstart/reliability.svg
Needs matplotlib: the `report` extra. `onnxcal plot reliability digits.onnx --data digits.npz -o …` draws the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import onnxcal
from onnxcal.plots import plot

DEMO_DATA = Path(onnxcal.__file__).parent / "demo_data"


def main() -> None:
    """Calibrate the demo model and draw what was measured."""
    parser = argparse.ArgumentParser(description="Draw the reliability diagram of the demo.")
    parser.add_argument("output", type=Path)
    output: Path = parser.parse_args().output
    result = plot("reliability", DEMO_DATA / "digits.onnx", data=DEMO_DATA / "digits.npz", output=output, force=True)
    print(f"{output}: T = {result.temperature:.4g}, {result.n_samples} held-out images")


if __name__ == "__main__":
    main()
