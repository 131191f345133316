"""How good and how honest probabilities are: accuracy, NLL, ECE, Brier score, reliability bins. Pure numpy, float64."""

from onnxcal.metrics.reliability import ReliabilityBins, reliability_bins
from onnxcal.metrics.scores import Metrics, Scores, score

__all__ = ["Metrics", "ReliabilityBins", "Scores", "reliability_bins", "score"]
