"""The kinds of plots by name, each in the module of that name. Light: for `--help`, without matplotlib or numpy."""

from __future__ import annotations

from difflib import get_close_matches

from onnxcal.errors import UsageError

KINDS = {
    "reliability": "Accuracy over confidence, before and after, with counts, bands and ECE.",
    "classes": "The same for the six classes that add most to the ECE.",
    "temperature": "NLL and ECE against T: the fitted T, its interval, the model as it was.",
    "sweep": "Reliability at a range of temperatures.",
    "risk-coverage": "Errors among the surest predictions, before and after, with AURC.",
    "confidence": "How sure right and wrong predictions are, before and after.",
}
SUFFIXES = (".svg", ".png", ".pdf")
STYLES = ("light", "dark")


def check_kind(kind: str) -> str:
    """The kind itself.

    Raises
    ------
    UsageError
        It is not known; the hint names the nearest that is.
    """
    if kind in KINDS:
        return kind
    word = kind.lower()
    near = [known for known in KINDS if word and known.startswith(word)] or get_close_matches(
        word, KINDS, 1, cutoff=0.5
    )
    listed = ", ".join(KINDS)
    raise UsageError(
        f"there is no plot {kind[:40]!r}",
        hint=f"did you mean {near[0]}? There are {listed}" if near else f"there are {listed}",
    )


def check_suffix(suffix: str) -> None:
    """Raise UsageError unless files with this suffix can be drawn."""
    if suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"a plot cannot be written as {suffix[:20]!r}" if suffix else "the plot's file has no suffix",
            hint=f"end its name in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}",
        )


def check_style(style: str) -> None:
    """Raise UsageError unless the style is known."""
    if style not in STYLES:
        raise UsageError(f"style {style[:40]!r} is not known", hint=f"use {' or '.join(STYLES)}")
