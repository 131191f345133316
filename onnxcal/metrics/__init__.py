"""How good and how honest probabilities are: accuracy, NLL, ECE, Brier score, reliability bins. Pure numpy, float64."""

from onnxcal.metrics.bootstrap import Intervals, ScoreIntervals, bootstrap
from onnxcal.metrics.comparison import Metrics, compare
from onnxcal.metrics.per_sample import PerSample, per_sample
from onnxcal.metrics.reliability import ReliabilityBins, reliability_bins
from onnxcal.metrics.scores import Scores, score

__all__ = [
    "Intervals",
    "Metrics",
    "PerSample",
    "ReliabilityBins",
    "ScoreIntervals",
    "Scores",
    "bootstrap",
    "compare",
    "per_sample",
    "reliability_bins",
    "score",
]
