"""What a plot is of: labelled logits, and the temperature whose effect on them is to be seen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from onnxcal.logits import Sample
from onnxcal.metrics.bootstrap import DEFAULT_RESAMPLES
from onnxcal.metrics.comparison import Metrics, compare
from onnxcal.metrics.per_sample import PerSample, per_sample


@dataclass(frozen=True, eq=False)
class Subject:
    """Samples to look at before (T = 1) and after (at `temperature`)."""

    sample: Sample
    """Labelled logits, at least one."""
    temperature: float
    """T of "after", finite and > 0."""
    split: str = "eval"
    """What kind of samples these are, see `Metrics`."""
    interval: tuple[float, float] | None = None
    """95 % interval of T, where it was fitted on these samples or others."""
    output: str | None = None
    """Name of the model output, as the model has it; None if it is not known."""
    classes: tuple[str, ...] | None = None
    """Names of the classes, as the model has them; None if it does not say."""
    resamples: int = DEFAULT_RESAMPLES
    """Of the bootstrap, for the intervals of scores; 0 for none."""
    seed: int = 0
    """Of the bootstrap."""

    @cached_property
    def metrics(self) -> Metrics:
        """Scores before and after, with their intervals."""
        return compare(self.sample, self.temperature, split=self.split, resamples=self.resamples, seed=self.seed)

    @cached_property
    def before(self) -> PerSample:
        """Each prediction at T = 1."""
        return per_sample(self.sample)

    @cached_property
    def after(self) -> PerSample:
        """Each prediction at `temperature`."""
        return per_sample(self.sample, self.temperature)
