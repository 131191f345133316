"""What may go to a terminal: no character it acts on (names in models are hostile), and none it does not have.

Light, for error messages too.
"""

from __future__ import annotations

import codecs

SPELLED = "onnxcal.spelled"
"""Error handler of encodings: what they do not have is spelled with what they have."""
_SPELLED = {
    "±": "+-", "→": "->", "►": ">", "÷": "/", "×": "x", "−": "-", "–": "-", "…": "...", "≤": "<=", "≥": ">=",
    "β": "beta", "σ": "sigma", "²": "^2", "│": "|", "·": ".",
}  # fmt: skip


def printable(text: str) -> str:
    """A text without characters that a terminal acts on, or that change how the rest is read."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def spelled(text: str, encoding: str) -> str:
    """A text of characters that an encoding has."""
    return text.encode(encoding, SPELLED).decode(encoding)


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_SPELLED.get(character, "?") for character in missing), error.end


codecs.register_error(SPELLED, _spell)
