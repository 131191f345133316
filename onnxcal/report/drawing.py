"""How a head ends, as a drawing of a few lines: from what makes its logits to the output, with the division marked.

    Gemm ─► fc (N, 10) ─►[ ÷ T ]─► Softmax ─► probs
            logits       to add    activation
            └─► ArgMax: not divided

Names come out of files that anyone may have made: what is no printable character is shown as an escape sequence.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, TypeAlias

from onnxcal.graph.plan import DIVIDE
from onnxcal.graph.way import Stage, Way
from onnxcal.report.printable import printable

Style: TypeAlias = Literal["", "patch", "activation", "caption"]
Line: TypeAlias = "list[tuple[str, Style]]"
"""Pieces of one line, each with what it shows."""

_LONGEST_NAME = 32
_LONGEST_OPERATOR = 24
_LONGEST_SHAPE = 24
_MOST_AT_THE_END = 5
_BETWEEN_CAPTIONS = 2
_MADE_UP = re.compile(r"unk__\d+")
_UNSEEN = "keep off zero"
_WORDS = {
    "logarithm": "log p",
    "log odds": "log p - log(1 - p)",
    "both columns": "[1 - p, p]",
    "second column": "second column",
}
"""What inserted nodes do, where that says more than their operators."""
_PIECES = {"log_softmax": "log-softmax", "none": "activation"}


@dataclass(frozen=True)
class Glyphs:
    """The characters that lines are drawn with."""

    dash: str = "─"
    """Of an arrow's shaft."""
    head: str = "►"
    """Of an arrow."""
    hook: str = "└"
    """Where an arrow turns to the right."""
    divide: str = "÷"
    """Divided by."""
    dots: str = "…"
    """What was left out."""


ASCII = Glyphs("-", ">", "`", "/", "..")


def glyphs_for(encoding: str) -> Glyphs:
    """Box-drawing characters, or ASCII where an encoding has none."""
    drawn = Glyphs()
    try:
        (drawn.dash + drawn.head + drawn.hook + drawn.divide + drawn.dots).encode(encoding)
    except (UnicodeError, LookupError):
        return ASCII
    return drawn


def draw(way: Way, width: int, glyphs: Glyphs | None = None) -> list[Line]:
    """A way as lines of at most `width` columns, unless a single name needs more."""
    glyphs = glyphs or Glyphs()
    rows: list[list[_Box]] = [[]]

    def is_too_wide(boxes: list[_Box]) -> bool:
        return _Row(boxes, glyphs, first=len(rows) == 1).width > width

    for together in _bracketed(list(_boxes(way, glyphs)), way):
        if rows[-1] and is_too_wide(rows[-1] + together):
            rows.append([])
        for box in together:
            if rows[-1] and is_too_wide([*rows[-1], box]):
                rows.append([])
            rows[-1].append(box)
    return [line for n, boxes in enumerate(rows) for line in _Row(boxes, glyphs, first=n == 0).lines(width)]


def sizes(shape: tuple[int | str | None, ...] | None, longest: int | None = None) -> str:
    """A shape; symbols that shape inference made up are question marks, and so are all where it gets too long."""
    if shape is None:
        return "(?)"
    known = [None if isinstance(size, str) and _MADE_UP.fullmatch(size) else size for size in shape]
    text = f"({', '.join(str(size or '?') for size in known)})"
    if longest is None or cells(text) <= longest:
        return printable(text)
    return f"({', '.join(str(size) if isinstance(size, int) else '?' for size in known)})"


def shortened(name: str, limit: int, dots: str = "…") -> str:
    """A name, printable, with its middle left out where it takes more than `limit` columns."""
    name = printable(name)
    if cells(name) <= limit:
        return name
    room = limit - cells(dots)
    end = _fitting(name[::-1], room // 2)[::-1]
    return _fitting(name, room - cells(end)) + dots + end


def cells(text: str) -> int:
    """How many columns of a terminal a printable text takes."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _fitting(text: str, room: int) -> str:
    """As much of the beginning as fits."""
    text = text[:room]
    while cells(text) > room:
        text = text[:-1]
    return text


@dataclass(frozen=True)
class _Box:
    """One thing on the way, and what is written below it."""

    text: str
    style: Style = ""
    caption: str = ""
    hanging: tuple[str, ...] = ()
    opens: bool = False
    closes: bool = False


def _boxes(way: Way, glyphs: Glyphs) -> Iterator[_Box]:
    for position, operator in enumerate(way.makers, 1):
        last = position == len(way.makers)
        taken = f"without {printable(way.transform)}" if way.transform and last else ""
        yield _Box(shortened(operator, _LONGEST_OPERATOR, glyphs.dots), caption=taken)
    name = "" if way.tensor is None else shortened(way.tensor, _LONGEST_NAME, glyphs.dots) + " "
    hanging = [f"{_listed(way.beside, glyphs)}: not divided"] if way.beside else []
    hanging += [f"{_listed(way.bypassed, glyphs)}: passed by"] if way.bypassed else []
    yield _Box(name + sizes(way.shape, _LONGEST_SHAPE), caption=way.holds, hanging=tuple(hanging))
    end = len(way.stages)
    while end and way.stages[end - 1].role == "other":
        end -= 1
    behind = [_stage(stage, way, glyphs) for stage in way.stages[end:]]
    if len(behind) > _MOST_AT_THE_END:
        behind[2:-2] = [_Box(f"{glyphs.dots} {len(behind) - 4} more {glyphs.dots}", "caption")]
    yield from (_stage(stage, way, glyphs) for stage in way.stages[:end] if stage.purpose != _UNSEEN)
    yield from behind
    yield _Box(shortened(way.output, _LONGEST_NAME, glyphs.dots))


def _stage(stage: Stage, way: Way, glyphs: Glyphs) -> _Box:
    operators = [shortened(operator, _LONGEST_OPERATOR, glyphs.dots) for operator in stage.operators]
    if stage.role == "inserted":
        if stage.purpose == DIVIDE:
            by = "T" if way.temperature is None else f"{way.temperature:.5g}"
            return _Box(f"{glyphs.divide} {by}", "patch")
        return _Box(_WORDS.get(stage.purpose, operators[-1]), "patch")
    text = ", ".join(operators)
    if len(operators) > 3:
        text = f"{operators[0]} {glyphs.dots} {operators[-1]} ({len(operators)} nodes)"
    if stage.role == "other":
        return _Box(text)
    if len(operators) > 1:
        text = f"{_PIECES.get(way.activation, way.activation)} in pieces ({len(operators)} nodes)"
    return _Box(text, "activation", "activation")


def _bracketed(boxes: list[_Box], way: Way) -> Iterator[list[_Box]]:
    """The same in order, what is to stay together in one list: what a patch puts in, in brackets."""
    for inserted, group in groupby(boxes, key=lambda box: box.style == "patch"):
        together = list(group)
        if not inserted:
            yield from ([box] for box in together)
            continue
        caption = "to add" if way.temperature is None else "added"
        together[0] = replace(together[0], text=f"[ {together[0].text}", caption=caption, opens=True)
        together[-1] = replace(together[-1], text=f"{together[-1].text} ]", closes=True)
        yield together


def _listed(names: tuple[str, ...], glyphs: Glyphs) -> str:
    shown = ", ".join(shortened(name, _LONGEST_NAME, glyphs.dots) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


class _Row:
    """One line of things on the way, with what is written below them."""

    def __init__(self, boxes: list[_Box], glyphs: Glyphs, *, first: bool) -> None:
        self._hook = glyphs.hook + glyphs.dash + glyphs.head + " "
        self._dots = glyphs.dots
        self._line: Line = []
        self._captions = ""
        self._hanging: list[tuple[int, str]] = []
        column, before = 0, None
        for box in boxes:
            gap = ("" if first else "  ") if before is None else "" if before.closes else " "
            head = "" if before is None and first else glyphs.head + ("" if box.opens else " ")
            shaft = 1 if head else 0
            free = cells(self._captions) + _BETWEEN_CAPTIONS if box.caption and self._captions else 0
            shaft += max(0, free - column - cells(gap + head) - shaft)
            arrow = gap + glyphs.dash * shaft + head
            column += cells(arrow)
            if box.caption:
                self._captions += " " * (column - cells(self._captions)) + box.caption
            self._hanging += [(column, text) for text in box.hanging]
            self._line += [(arrow, ""), (box.text, box.style)]
            column, before = column + cells(box.text), box
        hanging = (at + cells(self._hook) + min(cells(text), _LONGEST_NAME) for at, text in self._hanging)
        self.width = max(column, cells(self._captions), *hanging)

    def lines(self, width: int) -> Iterator[Line]:
        """The line, the captions below it, and what hangs below those."""
        yield self._line
        if self._captions:
            yield [(self._captions, "caption")]
        for column, text in self._hanging:
            room = max(width - column - cells(self._hook), _LONGEST_NAME)
            yield [(" " * column + self._hook, ""), (shortened(text, room, self._dots), "caption")]
