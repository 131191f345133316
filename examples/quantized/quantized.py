"""Quantise a network to 8 bits, then calibrate what was quantised, with one data reader for both.

Usage: python examples/quantized/quantized.py [--picture reliability.svg] [--small]
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import onnxcal

DEMO_DATA = Path(onnxcal.__file__).parent / "demo_data"
FLOAT = "float32"
QUANTISED: dict[str, dict[str, Any]] = {
    "int8": {},
    "int8, per channel": {"per_channel": True},
    "int8, 7-bit weights": {"reduce_range": True},
    "int4 weights": {"weight_type": QuantType.QInt4},
}
"""What is done to the float32 file: options of onnxruntime's `quantize_static`."""


class Digits(CalibrationDataReader):
    """Images for the quantiser, 50 at a time; `labels` are what onnxcal reads besides."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels
        self.rewind()

    def rewind(self) -> None:
        """Back to the first batch: onnxcal asks for that, so that a reader can be used again and again."""
        self.batches = iter(np.split(self.images, range(50, len(self.images), 50)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Some images; None after the last."""
        images = next(self.batches, None)
        return None if images is None else {"image": images}


@dataclass(frozen=True)
class Row:
    """One file: its T, and scores on images that neither the quantiser nor the fit saw."""

    name: str
    size: int
    temperature: float
    accuracy: float
    nll: tuple[float, float, float]
    """As it is, with float32's T, with its own T."""
    ece: tuple[float, float, float]


def quantise(target: Path, reader: Digits, options: dict[str, Any]) -> None:
    logging.disable(logging.WARNING)  # onnxruntime recommends to optimise the graph first
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnxruntime's, about onnx
        quantize_static(DEMO_DATA / "digits.onnx", target, reader, quant_format=QuantFormat.QDQ, **options)
    logging.disable(logging.NOTSET)


def main() -> list[Row]:
    parser = argparse.ArgumentParser(description="Quantise, then calibrate.")
    parser.add_argument("--small", action="store_true", help="600 of the demo's 1,597 images")
    parser.add_argument("--picture", type=Path, help="draw the int8 file's reliability diagram")
    arguments = parser.parse_args()
    with np.load(DEMO_DATA / "digits.npz") as file:
        order = np.random.default_rng(0).permutation(len(file["labels"]))[: 600 if arguments.small else None]
        images, labels = file["image"][order], file["labels"][order]
    half = len(labels) // 2
    reader, held_out = Digits(images[:half], labels[:half]), (images[half:], labels[half:])

    rows = list[Row]()
    print(f"{'':20} {'kB':>4} {'T':>5} {'accuracy':>9} | NLL as it is, float32's T, its T | ECE likewise")
    with tempfile.TemporaryDirectory() as folder:
        for name in (FLOAT, *QUANTISED):
            model = DEMO_DATA / "digits.onnx"
            if name != FLOAT:
                model = Path(folder) / f"{len(rows)}.onnx"
                quantise(model, reader, QUANTISED[name])
            result = onnxcal.calibrate(model, reader, eval_data=held_out, output=Path(folder) / f"out{len(rows)}.onnx")
            own, before, after = result.calibration, result.metrics.before, result.metrics.after
            borrowed = rows[0].temperature if rows else own.temperature
            other = Path(folder) / f"borrowed{len(rows)}.onnx"
            onnxcal.patch(model, temperature=borrowed, output=other)
            theirs = onnxcal.evaluate(other, held_out).metrics
            row = Row(
                name, model.stat().st_size, own.temperature, before.accuracy,
                (before.nll, theirs.nll, after.nll), (before.ece, theirs.ece, after.ece),
            )  # fmt: skip
            rows.append(row)
            scores = " | ".join("  ".join(f"{value:.3f}" for value in each) for each in (row.nll, row.ece))
            print(f"{name:20} {row.size / 1024:4.0f} {row.temperature:5.2f} {row.accuracy:9.1%} | {scores}")
            if arguments.picture is not None and name == "int8, per channel":
                onnxcal.plots.save(onnxcal.plots.figure("reliability", own), arguments.picture, force=True)
    return rows


if __name__ == "__main__":
    main()
