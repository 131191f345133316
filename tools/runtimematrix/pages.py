"""The two pages of the matrix, Markdown and HTML, from the same tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxcal.verification import RuntimeCheck
from runtimematrix.graphs import FORMS, PRECISIONS, Graph
from runtimematrix.run import Row

ALONE = "one sample at a time it is right"


@dataclass(frozen=True)
class Cell:
    """One graph in one runtime, or several."""

    mark: str
    """`right`, `wrong`, or `refused` where it does not run; of several, the worst."""
    text: str
    """What the table shows: the error and changed predictions."""
    note: int = 0
    """Number of the message; 0 for none."""


@dataclass(frozen=True)
class Message:
    """What a runtime said, or what onnxcal found there."""

    number: int
    """By which cells refer to it."""
    runtime: str
    """Where."""
    text: str
    """The message; its numbers are those of the first graph."""
    graphs: int
    """How many graphs have it."""


@dataclass(frozen=True)
class Column:
    """One way to run one runtime."""

    title: str
    """The runtime and its setting."""
    version: str
    """Of the runtime."""
    counts: bool
    """Whether a calibrated model must be right there."""


@dataclass(frozen=True)
class Matrix:
    """All that the pages show."""

    columns: tuple[Column, ...]
    """The runtimes."""
    rows: tuple[tuple[Graph, tuple[Cell, ...]], ...]
    """A graph, and a cell for each column."""
    totals: tuple[Cell, ...]
    """For each column, all graphs."""
    by_precision: tuple[tuple[Cell, ...], ...]
    """For each column, a cell for each precision."""
    by_form: tuple[tuple[Cell, ...], ...]
    """For each column, a cell for each form."""
    messages: tuple[Message, ...]
    """In the order in which cells first refer to them."""
    refused: tuple[tuple[str, str], ...]
    """Graphs that onnxcal does not patch, or that its own checks find wrong, and why."""


def matrix(rows: Sequence[Row]) -> Matrix:
    """Arrange what came out."""
    columns = tuple(dict.fromkeys(Column(c.title, c.version, c.counts) for row in rows for c in row.checks))
    said: dict[tuple[str, str], list[str]] = {}  # what differs in numbers alone is one message; f16 is no number

    def cell(check: RuntimeCheck) -> Cell:
        message = message_of(check)
        key = check.title, re.sub(r"\b\d+|\?", "#", message)
        if message:
            said.setdefault(key, []).append(message)
        number = list(said).index(key) + 1 if message else 0
        if check.max_abs_error is None:
            return Cell("refused", "does not run", number)
        return Cell("right" if check.passed else "wrong", _figures(check), number)

    shown = []
    for row in rows:
        by_title = {check.title: cell(check) for check in row.checks}
        shown.append((row.graph, tuple(by_title.get(column.title, Cell("refused", "–")) for column in columns)))

    def totals(kind: str, value: str) -> tuple[Cell, ...]:
        of_kind = [check for row in rows if getattr(row.graph, kind) == value for check in row.checks]
        return tuple(_total([check for check in of_kind if check.title == column.title]) for column in columns)

    def split(kind: str, values: Iterable[str]) -> tuple[tuple[Cell, ...], ...]:
        return tuple(zip(*(totals(kind, value) for value in values), strict=True))

    return Matrix(
        columns,
        tuple(shown),
        tuple(_total([c for row in rows for c in row.checks if c.title == column.title]) for column in columns),
        split("precision", PRECISIONS),
        split("form", FORMS),
        tuple(Message(i, title, texts[0], len(texts)) for i, ((title, _), texts) in enumerate(said.items(), 1)),
        tuple((row.graph.title, row.refusal or row.wrong) for row in rows if row.refusal or row.wrong),
    )


def message_of(check: RuntimeCheck) -> str:
    """What is remarkable, or wrong; that without the figures of one graph, and IREE's place in a temporary file."""
    if check.passed:
        return check.detail
    if check.max_abs_error is None:
        return check.detail.partition(" loc(")[0]
    kind = check.detail.partition("; ")[0]
    return f"{kind}; {ALONE}" if ALONE in check.detail else kind


def _figures(check: RuntimeCheck) -> str:
    flips = check.argmax_changed
    return f"{check.max_abs_error:.1e}" + (f", {flips} flip{'s' * (flips > 1)}" if flips else "")


def _total(checks: Sequence[RuntimeCheck]) -> Cell:
    """How many are right, and the largest error and all changed predictions of those."""
    if not checks:
        return Cell("refused", "–")
    right = [check for check in checks if check.passed]
    wrong = sum(check.max_abs_error is not None and not check.passed for check in checks)
    text = f"{len(right)} of {len(checks)}"
    if right:
        text += f", ≤ {max(check.max_abs_error or 0.0 for check in right):.1e}"
    flips = sum(check.argmax_changed for check in right)
    text += f", {flips} flip{'s' * (flips > 1)}" if flips else ""
    text += f", {wrong} wrong" if wrong else ""
    return Cell("wrong" if wrong else "right" if len(right) == len(checks) else "refused", text)


def write_pages(found: Matrix, folder: Path, when: str, where: str, command: str) -> tuple[Path, Path]:
    """Write `runtimes.md` and `runtimes.html`, and return where they are."""
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    written = []
    for template, name, escape in (("matrix.md.j2", "runtimes.md", False), ("matrix.html.j2", "runtimes.html", True)):
        environment = jinja2.Environment(
            loader=loader, autoescape=escape, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
            keep_trailing_newline=True,
        )  # fmt: skip
        environment.filters["row"] = _markdown
        text = environment.get_template(template).render(
            matrix=found, precisions=tuple(PRECISIONS), forms=tuple(FORMS), when=when, where=where, command=command
        )
        path = folder / name
        path.write_text(text)
        written.append(path)
    return written[0], written[1]


def _markdown(text: str) -> str:
    """Text that ends no cell of a Markdown table."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("_", "\\_").replace("*", "\\*")
