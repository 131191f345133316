"""Names in models are hostile: what may go to a terminal. Light, for error messages too."""

from __future__ import annotations


def printable(text: str) -> str:
    """A text without characters that a terminal acts on, or that change how the rest is read."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
