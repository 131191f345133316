"""From fitted scikit-learn and LightGBM classifiers to calibrated ONNX files.

Usage: python examples/tabular/tabular.py [--picture reliability.svg] [--trees N] [--small]
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import onnxcal
import onnxcal.sklearn

PICTURED = "LightGBM"


@dataclass(frozen=True)
class Row:
    """One classifier: T by onnxcal and by scikit-learn, and scores on the test part, before and after."""

    name: str
    temperature: float
    of_scikit_learn: float
    accuracy: float
    nll: tuple[float, float]
    ece: tuple[float, float]


def classifiers(trees: int) -> dict[str, Any]:
    return {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(C=100, max_iter=1000)),
        "naive Bayes": GaussianNB(var_smoothing=0.01),
        PICTURED: lightgbm.LGBMClassifier(
            n_estimators=trees, num_leaves=7, min_child_samples=5, random_state=0, n_jobs=1, verbose=-1
        ),
    }


def main() -> list[Row]:
    parser = argparse.ArgumentParser(description="Calibrate tabular classifiers and export them to ONNX.")
    parser.add_argument("--small", action="store_true", help="10 trees, as --trees 10")
    parser.add_argument("--trees", type=int, default=100, help="trees of the boosted classifier")
    parser.add_argument("--picture", type=Path, help=f"draw the reliability diagram of {PICTURED}")
    arguments = parser.parse_args()
    data, target = load_digits(return_X_y=True)  # 64 columns: how dark each pixel is, from 0 to 16
    X, X_rest, y, y_rest = train_test_split(data, target, train_size=300, random_state=0, stratify=target)
    X_valid, X_test, y_valid, y_test = train_test_split(X_rest, y_rest, train_size=0.5, random_state=0, stratify=y_rest)
    test = (X_test.astype(np.float32), y_test)

    rows = list[Row]()
    print(f"{'':19} {'T':>6} {'scikit-learn 1/β':>17} {'accuracy':>9} | NLL            | ECE")
    with tempfile.TemporaryDirectory() as folder:
        for name, classifier in classifiers(10 if arguments.small else arguments.trees).items():
            classifier.fit(X, y)
            path, plain = Path(folder) / f"{name}.onnx", Path(folder) / f"{name}.plain.onnx"
            result = onnxcal.sklearn.export_calibrated(classifier, X_valid, y_valid, path)

            # The same by scikit-learn's own temperature scaling, whose T is kept
            calibrated = CalibratedClassifierCV(FrozenEstimator(classifier), method="temperature")
            calibrated.fit(X_valid, y_valid)
            onnxcal.sklearn.export(calibrated, X_test, Path(folder) / f"{name}.scikit-learn.onnx")
            beta = calibrated.calibrated_classifiers_[0].calibrators[0].beta_

            onnxcal.revert(path, output=plain)
            before, after = onnxcal.evaluate(plain, test).metrics, onnxcal.evaluate(path, test).metrics
            row = Row(
                name, result.calibration.temperature, 1 / beta, before.accuracy, (before.nll, after.nll),
                (before.ece, after.ece),
            )  # fmt: skip
            rows.append(row)
            scores = " | ".join(" -> ".join(f"{value:.3f}" for value in each) for each in (row.nll, row.ece))
            print(f"{name:19} {row.temperature:6.2f} {row.of_scikit_learn:17.2f} {row.accuracy:9.1%} | {scores}")
            if arguments.picture is not None and name == PICTURED:
                onnxcal.plots.plot("reliability", path, data=test, output=arguments.picture, force=True)
    return rows


if __name__ == "__main__":
    main()
