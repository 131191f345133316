"""The pictures of a report: plots as elements of an HTML page."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

from onnxcal.metrics.subject import Subject
from onnxcal.report.plots import draw, find_plot, write_figure
from onnxcal.report.plots.kinds import KINDS

_OF_MEASURED = ("reliability", "classes", "confidence", "risk-coverage")
_OF_FITTED = ("temperature",)
_REFERENCES = re.compile(r'(\bid="|url\(#|href="#)')


@dataclass(frozen=True)
class Picture:
    """A plot with what it shows."""

    svg: str
    """An `<svg>` element with a label for those who cannot see it; its ids are unlike those of other pictures."""
    caption: str
    """One sentence."""


def pictures_of(measured: Subject, fitted: Subject, *, prefix: str) -> tuple[Picture, ...]:
    """The pictures of one head.

    Parameters
    ----------
    measured : the samples that scores are of.
    fitted : the samples that T was fitted on.
    prefix : of the ids in the elements.
    """
    made = []
    for kind in KINDS:
        if kind in _OF_FITTED + _OF_MEASURED and not (kind == "classes" and measured.sample.logits.task == "binary"):
            subject = fitted if find_plot(kind).fitted else measured
            made.append(Picture(_element(kind, subject, f"{prefix}-{kind}-"), KINDS[kind]))
    return tuple(made)


def _element(kind: str, subject: Subject, prefix: str) -> str:
    file = io.BytesIO()
    write_figure(draw(kind, subject), file, ".svg")
    text = file.getvalue().decode()
    element = text[text.index("<svg") :]
    element = _REFERENCES.sub(lambda match: match[0] + prefix, element)
    return element.replace("<svg", f'<svg role="img" aria-label="{KINDS[kind]}"', 1)
