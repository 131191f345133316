"""What the reference is computed from: the unpatched model's logits and tensors, from onnxruntime, batch by batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnxcal.graph.head import Head
from onnxcal.graph.modelfile import ModelFile
from onnxcal.graph.patch import with_logits
from onnxcal.inference.expected import logits_of
from onnxcal.inference.feeds import Feed
from onnxcal.inference.options import RunOptions
from onnxcal.inference.samples import find_batch_axis
from onnxcal.inference.session import InputSpec, Optimisations, open_session
from onnxcal.verification.head import HeadComparison


@dataclass(frozen=True)
class Seen:
    """What the unpatched model gave for one batch."""

    logits: Sequence[Any]
    """The tensor of logits of each comparison's head."""
    tensors: Mapping[str, Any]
    """Other tensors, by name: outputs, and what the comparisons need."""
    batch_axes: Sequence[int]
    """Which axis of each tensor of logits counts samples."""


def logits_form(original: ModelFile, heads: Sequence[Head]) -> tuple[ModelFile, list[str]]:
    """`with_logits`, for heads of which several may show the same logits; a name for each."""
    places = {head.place: head for head in heads}
    form, names = with_logits(original, list(places.values()))
    by_place = dict(zip(places, names, strict=True))
    return form, [by_place[head.place] for head in heads]


class Reference:
    """The unpatched model in onnxruntime.

    Parameters
    ----------
    original : the model.
    comparisons : the heads that are looked at, and what is needed for each.
    options : how it is run.
    taps : more tensors that are wanted.
    optimisations : how far onnxruntime may change the graph.
    """

    def __init__(
        self,
        original: ModelFile,
        comparisons: Sequence[HeadComparison],
        options: RunOptions,
        taps: Sequence[str],
        optimisations: Optimisations = "all",
    ) -> None:
        self._heads = [c.head for c in comparisons]
        form, self._logits = logits_form(original, self._heads)
        needed = [tap for c in comparisons for tap in c.taps]
        needed += [name for name in self._logits if form is original]
        self._taps = list(dict.fromkeys([*needed, *taps]))
        how: dict[str, Any] = {
            "provider": options.provider, "threads": options.threads, "optimisations": optimisations
        }  # fmt: skip
        self._session = open_session(original, tap=self._taps, **how)
        self._form = None if form is original else open_session(form, tap=self._logits, **how)
        self._batch_axes: list[int] | None = None

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What the model is fed."""
        return self._session.inputs

    def run(self, feed: Feed) -> Seen:
        """Run one batch."""
        tensors = dict(zip(self._taps, self._session.run(feed.arrays, self._taps), strict=True))
        if self._form is None:
            logits = [tensors[name] for name in self._logits]
        else:
            logits = self._form.run(feed.arrays, self._logits)
        if self._batch_axes is None:
            self._batch_axes = self._find_batch_axes(logits, feed)
        return Seen(logits, tensors, self._batch_axes)

    def _find_batch_axes(self, logits: Sequence[Any], feed: Feed) -> list[int]:
        session = self._form or self._session
        return [
            find_batch_axis(session, name, logits_of(z, head), feed, head)
            for name, z, head in zip(self._logits, logits, self._heads, strict=True)
        ]
