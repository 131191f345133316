"""Thresholds on data with few decimals, where midpoints of samples are other samples."""

from __future__ import annotations

from pathlib import Path

import lightgbm
import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from onnxcal.sklearn import export_calibrated
from tests.converters import columns, quiet, run


def tenths(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Multiples of 0.1, as float32 has them; every other one is left out of the first half."""
    rng = np.random.default_rng(0)
    steps = rng.integers(0, 200, size=(n, 3))
    steps[: n // 2] -= steps[: n // 2] % 2
    x = (steps / 10).astype(np.float32)
    return x, (x @ [1, -1, 1] + rng.logistic(0, 3, size=n) > 10).astype(int)


@pytest.mark.parametrize("library", ["lightgbm", "scikit-learn"])
def test_samples_on_a_threshold_stay_on_their_side(library: str, tmp_path: Path) -> None:
    """Rounded to the nearest float32, as the converters do it, a threshold 0.1 is above 0.1."""
    x, y = tenths()
    half = len(x) // 2
    if library == "lightgbm":
        made = lightgbm.LGBMClassifier(n_estimators=5, min_child_samples=3, n_jobs=1, verbose=-1)
    else:
        made = HistGradientBoostingClassifier(max_iter=20, min_samples_leaf=3, random_state=0)
    with quiet():
        made.fit(x[:half].astype(np.float64), y[:half])
        result = export_calibrated(made, x[half:], y[half:], tmp_path / "out.onnx", bootstrap=0)
        p = made.predict_proba(x[half:].astype(np.float64))
    found = run((tmp_path / "out.onnx").read_bytes(), x[half:])["probabilities"]
    s = np.log(p[:, 1]) - np.log(p[:, 0])
    np.testing.assert_allclose(found, columns(s / result.calibration.temperature), rtol=0, atol=1.5e-6)
