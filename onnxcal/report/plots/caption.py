"""The line above a figure that says what it is of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxcal.report.plots.style import CAPTION_SIZE
from onnxcal.report.plots.text import narrow_name, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from onnxcal.metrics.subject import Subject

_SPLITS = {"holdout": ", the held-out half", "eval": "", "fit": ", which T was fitted on"}
WIDEST_NAME = 120.0
"""Room for the name of an output, in points."""


def put_caption(figure: Figure, subject: Subject, note: str = "") -> None:
    """Which samples, which output of the model, and a note."""
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06, wspace=0.03)  # type: ignore[union-attr, call-arg]
    text = figure.suptitle(
        " · ".join(filter(None, (caption(subject), note))), x=0.012, ha="left", fontsize=CAPTION_SIZE
    )
    plain(text)


def caption(subject: Subject) -> str:
    """What `put_caption` says."""
    logits = subject.sample.logits
    said = "1 sample" if logits.n_samples == 1 else f"{logits.n_samples:,} samples"
    if subject.sample.group is not None:
        said = f"{logits.n_samples:,} positions in {subject.sample.n_groups:,} samples"
    if logits.task == "multilabel":
        said += f" of {logits.num_classes:,} labels each"
    said += _SPLITS[subject.split]
    return said if subject.output is None else f"'{narrow_name(subject.output, CAPTION_SIZE, WIDEST_NAME)}': {said}"
