"""The numbers of reliability diagrams: before and after, of a sweep of temperatures, and of single classes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from onnxcal.errors import UsageError
from onnxcal.logits import IndexArray, Logits, value_chunks
from onnxcal.metrics.per_sample import PerSample
from onnxcal.metrics.reliability import ReliabilityBins
from onnxcal.metrics.scores import Scores, score
from onnxcal.metrics.subject import Subject

WORST = 6
"""Classes that are looked at one by one."""
FACTORS = (1 / 4, 1 / 2, 1, 2, 4)
"""Temperatures of a sweep, relative to the one that is looked at."""
_SAME = 0.15
"""Temperatures whose logarithms differ by less draw one line over the other."""


@dataclass(frozen=True)
class ReliabilityDiagram:
    """Accuracy over confidence at one temperature."""

    temperature: float
    """T that the logits were divided by."""
    scores: Scores
    """ECE, NLL, accuracy …, of the same predictions."""
    bins: ReliabilityBins
    """15 bins of confidence; `.band` is the Wilson interval of each accuracy."""
    ece_interval: tuple[float, float] | None = None
    """95 % interval of the ECE; None if the bootstrap was switched off."""

    @classmethod
    def of(
        cls, temperature: float, scores: Scores, ece_interval: tuple[float, float] | None = None
    ) -> ReliabilityDiagram:
        """The diagram behind some scores."""
        return cls(temperature, scores, scores.bins, ece_interval)


@dataclass(frozen=True)
class ReliabilityDiagrams:
    """One model before and after calibration, on the same samples."""

    before: ReliabilityDiagram
    """At T = 1."""
    after: ReliabilityDiagram
    """At the subject's T."""


@dataclass(frozen=True)
class ClassDiagram:
    """The predictions of one class, before and after."""

    index: int
    """The class; for multilabel, the label."""
    name: str | None
    """What the model calls it; None if it does not say."""
    before: ReliabilityDiagram
    """At T = 1."""
    after: ReliabilityDiagram
    """At the subject's T."""


@dataclass(frozen=True)
class ClassDiagrams:
    """The classes that are worst calibrated."""

    worst: tuple[ClassDiagram, ...]
    """Worst first, at most six."""
    num_classes: int
    """K, how many classes there are."""
    task: str
    """Of multilabel heads a class is a column of labels; else it is the predicted class."""


@dataclass(frozen=True)
class ReliabilitySweep:
    """Reliability at several temperatures."""

    diagrams: tuple[ReliabilityDiagram, ...]
    """In the order of T."""
    chosen: int = field(default=0)
    """Position of the subject's own T."""


def reliability_diagrams(subject: Subject) -> ReliabilityDiagrams:
    """The diagram at T = 1 and at the subject's T."""
    metrics = subject.metrics
    sure = metrics.intervals
    return ReliabilityDiagrams(
        ReliabilityDiagram.of(1.0, metrics.before, None if sure is None else sure.before.ece),
        ReliabilityDiagram.of(subject.temperature, metrics.after, None if sure is None else sure.after.ece),
    )


def class_diagrams(subject: Subject, *, count: int = WORST) -> ClassDiagrams:
    """The diagrams of the classes that add most to the ECE after calibration.

    A class is the set of samples that are predicted to be of it (top-label calibration: Gupta & Ramdas 2022, "Top-label
    calibration and multiclass-to-binary reductions"); for multilabel, the predictions of one label. Classes are ordered
    by their weight times how far their ECE is above its noise floor (`Scores.ece_floor`), so that a class with a
    handful of samples, whose ECE is large by chance, is not taken for the worst.
    """
    classes = predicted_classes(subject.sample.logits)
    weight = subject.sample.weight
    weights = np.ones(len(classes)) if weight is None else np.repeat(weight, len(classes) // len(weight))
    found: list[tuple[float, ClassDiagram]] = []
    order = np.argsort(classes, kind="stable")
    starts = np.flatnonzero(np.diff(classes[order], prepend=-1))
    for rows in np.split(order, starts[1:]):
        w = weights[rows]
        if not w.any():
            continue
        before, after = (
            _scores_of(each, rows, None if weight is None else w) for each in (subject.before, subject.after)
        )
        index = int(classes[rows[0]])
        name = None if subject.classes is None or index >= len(subject.classes) else subject.classes[index]
        diagrams = ReliabilityDiagram.of(1.0, before), ReliabilityDiagram.of(subject.temperature, after)
        found.append((float(w.sum()) * (after.ece - after.ece_floor), ClassDiagram(index, name, *diagrams)))
    found.sort(key=lambda one: -one[0])
    logits = subject.sample.logits
    return ClassDiagrams(tuple(diagram for _, diagram in found[:count]), logits.num_classes, logits.task)


def class_diagram(subject: Subject, index: int) -> ClassDiagram:
    """The diagram of one class, see `class_diagrams`.

    Raises
    ------
    UsageError
        Nothing is predicted to be of this class.
    """
    for diagram in class_diagrams(subject, count=subject.sample.logits.num_classes).worst:
        if diagram.index == index:
            return diagram
    raise UsageError(
        f"no sample is predicted to be of class {index}", hint=f"there are {subject.sample.logits.num_classes} classes"
    )


def reliability_sweep(subject: Subject, temperatures: tuple[float, ...] | None = None) -> ReliabilitySweep:
    """Diagrams at T = 1, at the subject's T, and at a quarter, half, twice and four times that."""
    own = subject.temperature
    others = tuple(own * factor for factor in FACTORS if factor != 1) if temperatures is None else temperatures
    kept = [t for t in others if all(abs(np.log(t / known)) > _SAME for known in (1.0, own))]
    chosen = sorted({*kept, 1.0, own} if abs(np.log(own)) > _SAME else {*kept, own})
    diagrams = tuple(ReliabilityDiagram.of(t, score(subject.sample, t)) for t in chosen)
    return ReliabilitySweep(diagrams, chosen.index(own))


def predicted_classes(logits: Logits) -> IndexArray:
    """The class of each prediction: the arg max (ties go to the lower index), for multilabel the label it is about."""
    if logits.task == "multilabel":
        return np.tile(np.arange(logits.num_classes), logits.n_samples)
    if logits.task == "binary":
        return np.asarray(logits.values > 0, np.int64)
    return np.concatenate([z.argmax(axis=1) for z in value_chunks(logits)]).astype(np.int64)


def _scores_of(each: PerSample, rows: IndexArray, weight: np.ndarray | None) -> Scores:
    some = PerSample(
        each.nll[rows], each.brier[rows], each.confidence[rows], each.correct[rows],
        None if each.group is None else each.group[rows],
    )  # fmt: skip
    return Scores.of(some, len(rows), weight)
