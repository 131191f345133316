"""Whether a head is what it was taken for: its activation over its logits must give the output as the model stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcal.errors import ModelError
from onnxcal.graph.head import SMALLEST_PROBABILITY, Added, Head
from onnxcal.graph.modelfile import ModelFile
from onnxcal.inference.expected import expected_output, output_array, shape_tensors
from onnxcal.inference.feeds import Feed
from onnxcal.inference.options import RunOptions
from onnxcal.inference.session import Session, open_session

RECOGNITION_TOLERANCE = 0.02
"""Largest difference of a probability. Half precision and 8-bit activations come near it; misread heads are far off."""
_FEW_CLASSES = 32
_CHUNK_ELEMENTS = 1 << 14
"""Small enough for memory that the allocator has at hand: new pages cost more than the arithmetic."""
_SAMPLES = 1024
"""How many samples are looked at, where that takes a second run."""


class Recognition:
    """The check for one head, batch by batch.

    `taps` are the tensors of the unpatched model that it needs. They are read out of the run that reads the logits, or,
    where logits come out of another form of the model, out of a second one, over the first samples only.
    """

    def __init__(self, model: ModelFile, head: Head, options: RunOptions) -> None:
        self._name, self._head = model.name, head
        self._seen = 0
        self._rows = self._zeros = 0
        self._session: Session | None = None
        self.taps: list[str] = []
        if head.activation != "none" or (isinstance(head.site, Added) and head.site.column):
            self.taps = tensors_to_recognise(head)
            if not head.is_logits:
                self._session = open_session(model, tap=self.taps, provider=options.provider, threads=options.threads)

    @property
    def by_run(self) -> bool:
        """Whether the next check runs a second session, which must see each run as the first one did."""
        return self._session is not None and self._seen < _SAMPLES

    @property
    def notes(self) -> tuple[str, ...]:
        """How many samples have probabilities that carry no logit, where logits are made of probabilities."""
        if self._zeros == 0:
            return ()
        return (
            f"{self._zeros:,} of {self._rows:,} samples have a probability of 0 or below {SMALLEST_PROBABILITY:.2g}, "
            "which carries no logit: it counts as that",
        )

    def count(self, logits: NDArray[Any]) -> None:
        """Take in the logits of some samples, one row each."""
        if isinstance(self._head.site, Added) and self._head.site.material == "probabilities":
            least = np.log(SMALLEST_PROBABILITY) + 1e-3
            small = np.abs(logits) >= -least if self._head.activation == "sigmoid" else logits <= least
            self._zeros += int(small.any(axis=1).sum() if small.ndim == 2 else small.sum())
            self._rows += len(logits)

    def tensors(self, tensors: Mapping[str, Any], feed: Feed) -> Mapping[str, Any]:
        """The taps of a batch: as they were run, or run now."""
        if self._session is None:
            return tensors
        return dict(zip(self.taps, self._session.run(feed.arrays, self.taps), strict=True))

    def check(self, logits: NDArray[Any], tensors: Mapping[str, Any], feed: Feed) -> None:
        """Raise ModelError unless a batch comes out as its logits say; `tensors` are the taps, where they were run."""
        if not self.taps:
            return
        if self._session is not None:
            if self._seen >= _SAMPLES:
                return
            self._seen += feed.size
        error = recognition_error(logits, self._head, self.tensors(tensors, feed))
        if error <= RECOGNITION_TOLERANCE:
            return
        raise unrecognised(self._head, self._name, error)


def unrecognised(head: Head, model: str, error: float) -> ModelError:
    """What to say of a head whose values are not what its graph says."""
    if isinstance(head.site, Added) and head.site.material == "probabilities":
        return ModelError(
            f"output '{head.output}' of {model} was taken for probabilities, but its values are none "
            f"(off by {error:.2g})",
            hint="pass --activation none if they are logits",
        )
    if isinstance(head.site, Added) and head.site.column and head.activation == "none":
        return ModelError(
            f"output '{head.output}' of {model} was taken for margins [-s, s], but its columns are two scores",
            hint="pass --task multiclass to calibrate a softmax over both",
        )
    if isinstance(head.site, Added) and head.site.material == "scores":
        return ModelError(
            f"output '{head.output}' of {model} is not the {head.activation} of its scores, which its post_transform "
            f"says (off by {error:.2g}): onnxruntime does not apply it as written",
            hint="export the model with raw scores and a Softmax or Sigmoid behind them",
        )
    return ModelError(
        f"output '{head.output}' of {model} is not the {head.activation} of '{head.logits}', as its graph looks: it is "
        f"off by {error:.2g}",
        hint="this is a form that onnxcal misreads: please report the model",
    )


def tensors_to_recognise(head: Head) -> list[str]:
    """Tensors of the unpatched model, besides the logits, that `recognition_error` and `expected_output` need."""
    margins = [head.site.target] if isinstance(head.site, Added) and head.site.column else []
    return list(dict.fromkeys([head.output, *shape_tensors(head), *margins]))


def recognition_error(logits: NDArray[Any], head: Head, tensors: Mapping[str, Any]) -> float:
    """Largest difference between the output of the unpatched model and what its logits say; 0 for raw logits."""
    if head.activation == "none":
        return _margins_error(logits, head, tensors)
    output = output_array(tensors[head.output], head)
    rough = _rough_error(logits, head, output)
    if rough is not None and rough <= RECOGNITION_TOLERANCE / 2:
        return rough
    expected = expected_output(logits, head, 1.0, tensors).values
    if isinstance(head.site, Added) and head.site.grid is not None:
        expected = np.clip(expected, head.site.grid[1], head.site.grid[2])
    if output.size != expected.size:
        return np.inf
    output = output.reshape(expected.shape).astype(np.float64)
    if head.activation == "log_softmax":
        output, expected = np.exp(output), np.exp(expected)
    with np.errstate(invalid="ignore"):
        error = np.abs(output - expected)
    return float(np.where(np.isnan(error), np.inf, error).max(initial=0.0))


def _rough_error(logits: NDArray[Any], head: Head, output: NDArray[Any]) -> float | None:
    """The error in single precision, good to 1e-5, for the usual heads; None for others, NaN where it cannot say."""
    plain = not head.trail and not isinstance(head.site, Added) and not head.flatten
    if not plain or head.activation not in ("softmax", "sigmoid") or logits.shape != output.shape:
        return None
    if logits.dtype != np.float32 or output.dtype != np.float32 or logits.size == 0:
        return None
    softmax = head.activation == "softmax"
    if softmax and (logits.ndim != 2 or head.axis != 1):
        return None
    step = max(1, _CHUNK_ELEMENTS * len(logits) // logits.size)
    starts = range(0, len(logits), step)
    with np.errstate(over="ignore", invalid="ignore"):
        rough = _rough_softmax_error if softmax else _rough_sigmoid_error
        errors = [rough(logits[start : start + step], output[start : start + step]) for start in starts]
        return float(np.max(errors))  # NaN if one is


def _rough_softmax_error(logits: NDArray[Any], output: NDArray[Any]) -> float:
    axis = 1
    if logits.shape[1] < _FEW_CLASSES:  # sums along short rows are slow: columns are added to each other
        logits, output, axis = logits.T.copy(), output.T.copy(), 0
    error = logits - logits.max(axis=axis, keepdims=True)
    np.exp(error, out=error)
    error /= error.sum(axis=axis, keepdims=True)
    error -= output
    return float(np.abs(error, out=error).max())


def _rough_sigmoid_error(logits: NDArray[Any], output: NDArray[Any]) -> float:
    error = 1 / (1 + np.exp(-logits))
    error -= output
    return float(np.abs(error, out=error).max())


def _margins_error(logits: NDArray[Any], head: Head, tensors: Mapping[str, Any]) -> float:
    """How far two columns are from [−s, s], in units of the largest s; [1 − s, s] and [0, s] are margins too.

    They are compared where the graph makes them, before what else it does to them on the way to the output.
    """
    if not isinstance(head.site, Added) or not head.site.column:
        return 0.0
    margin = np.asarray(logits, np.float64).reshape(-1)
    first = np.asarray(tensors[head.site.target], np.float64).take(0, axis=head.axis).reshape(-1)
    if first.size != margin.size:
        return np.inf
    scale = max(1.0, float(np.abs(margin).max(initial=0.0)))
    errors = [float(np.abs(first - other).max(initial=0.0)) for other in (-margin, 1 - margin, 0 * margin)]
    return float(np.inf if np.isnan(errors).any() else min(errors) / scale)
