"""The pictures of a report: plots as elements of an HTML page, as many as keep it small enough to be sent around."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace

from onnxcal.metrics.subject import Subject
from onnxcal.report.plots import draw, find_plot, write_figure
from onnxcal.report.plots.kinds import KINDS
from onnxcal.report.svg import Page

ROOM = 1_400_000
"""Characters of a report of 1.5 MB that are for heads."""
WORDS = 12_000
"""Of those, for the tables, drawings and names of one head."""
_FIRST = ("reliability", "temperature", "classes", "confidence", "risk-coverage")
"""What is drawn, of all heads, before the next."""


@dataclass(frozen=True)
class Picture:
    """A plot with what it shows."""

    kind: str
    """Which plot."""
    svg: str
    """An `<svg>` element. The shapes of its letters may be in the first picture of the page."""

    @property
    def caption(self) -> str:
        """One sentence."""
        return KINDS[self.kind]


@dataclass(frozen=True)
class Pictures:
    """All pictures of a page."""

    heads: Mapping[str, tuple[Picture, ...]]
    """By output name, in the order in which they are shown."""
    left_out: bool
    """Whether some were left out for want of room."""


def pictures_of(subjects: Mapping[str, tuple[Subject, Subject]], *, room: int = ROOM) -> Pictures:
    """The pictures of some heads: the most telling of each first, until there is no more room.

    Parameters
    ----------
    subjects : by output name, the samples that scores are of, and those that T was fitted on.
    room : characters, with the words about each head.
    """
    page = Page()
    room -= WORDS * len(subjects)
    made: dict[str, list[Picture]] = {name: [] for name in subjects}
    wanted = [
        (kind, name)
        for kind in _FIRST
        for name, (measured, _) in subjects.items()
        if not (kind == "classes" and measured.sample.logits.task == "binary")
    ]
    done = 0
    for kind, name in wanted:
        svg = _drawn(kind, subjects[name][find_plot(kind).fitted])
        element = page.add(svg, KINDS[kind])
        if page.size > room:
            break
        made[name].append(Picture(kind, element))
        done += 1
    shown = {name: tuple(sorted(some, key=lambda one: list(KINDS).index(one.kind))) for name, some in made.items()}
    first = next((name for name, some in shown.items() if some), None)
    if first is not None:
        lead, *others = shown[first]
        shown[first] = (replace(lead, svg=page.finished(lead.svg)), *others)
    return Pictures(shown, done < len(wanted))


def _drawn(kind: str, subject: Subject) -> str:
    file = io.BytesIO()
    write_figure(draw(kind, subject), file, ".svg")
    return file.getvalue().decode()
