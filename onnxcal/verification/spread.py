"""How precise a model is by itself: how far onnxruntime's own probabilities move when it adds up in another order.

Where a LayerNorm cancels, or 8-bit values lie between two steps, rounding alone moves a probability by far more than
the usual tolerances. No other runtime can be nearer to the reference than that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.graph.modelfile import ModelFile
from onnxcal.inference.expected import activated, logits_of
from onnxcal.inference.feeds import Feed
from onnxcal.inference.options import RunOptions
from onnxcal.verification.elsewhere import LARGEST_SPREAD, difference
from onnxcal.verification.head import HeadComparison
from onnxcal.verification.reference import Reference, Seen


def own_spread(
    original: ModelFile,
    comparisons: Sequence[HeadComparison],
    reference: Reference,
    feeds: Iterable[Feed],
    options: RunOptions,
    *,
    divisible: bool,
) -> tuple[list[float], list[float]]:
    """Largest difference of a probability of each head, unpatched and calibrated, between two ways of onnxruntime.

    What moves by more than `LARGEST_SPREAD` when a batch is taken apart depends on the other samples; that is no
    rounding, and as runtimes are compared in equal batches it explains nothing.

    Parameters
    ----------
    original : the unpatched model.
    comparisons : its heads, and their temperatures.
    reference : how it is run otherwise: with all optimisations, in batches.
    feeds : what it is run on; without optimisations, and each sample alone.
    divisible : whether batches may be taken apart.
    """
    plain = Reference(original, comparisons, options, taps=(), optimisations="off")
    unoptimised = alone = np.zeros((2, len(comparisons)))
    for feed in feeds:
        usual = reference.run(feed)
        unoptimised = np.maximum(unoptimised, _differences(comparisons, usual, plain.run(feed).logits))
        if divisible and feed.run_size > 1:
            for number in range(feed.size):
                one = Feed({name: a[number : number + 1] for name, a in feed.arrays.items()}, None, 1, 1, 1)
                part = [
                    np.split(np.asarray(z), feed.padded_size, axis)[number]
                    if np.shape(z)[axis] % feed.padded_size == 0
                    else None
                    for z, axis in zip(usual.logits, usual.batch_axes, strict=True)
                ]
                alone = np.maximum(alone, _differences(comparisons, reference.run(one), part))
    before, after = np.maximum(unoptimised, np.where(alone <= LARGEST_SPREAD, alone, 0.0)).tolist()
    return before, after


def _differences(comparisons: Sequence[HeadComparison], one: Seen, other: Sequence[Any]) -> NDArray[np.float64]:
    """Shape (2, heads): of the probabilities at T = 1, and of the calibrated ones."""
    largest = np.zeros((2, len(comparisons)))
    for number, (comparison, ours, theirs) in enumerate(zip(comparisons, one.logits, other, strict=True)):
        if theirs is not None and np.shape(ours) == np.shape(theirs):
            z = [logits_of(tensor, comparison.head) for tensor in (ours, theirs)]
            for row, temperature in enumerate((1.0, comparison.temperature)):
                p, q = (activated(logits, comparison.head, temperature) for logits in z)
                largest[row, number] = np.nanmax(difference(q, p, comparison.head), initial=0.0)
    return largest
