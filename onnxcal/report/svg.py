"""matplotlib's SVG files as elements of one HTML page: half as long, the shape of each letter once, no id twice."""

from __future__ import annotations

import re

_ASIDE = re.compile(r"<metadata>.*?</metadata>|<!--.*?-->", re.DOTALL)
_LETTER = re.compile(r'<path id="([^"]+)" (d="[^"]*" transform="scale\([\d.]+\)"/>)')
_ID = re.compile(r' id="([^"]+)"')
_REFERENCE = re.compile(r'((?:xlink:)?href="#|url\(#)([^")]+)')
_DIGITS = re.compile(r"(\.\d{3})\d+")


class Page:
    """The pictures of one page, in the order in which they are added."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}
        self._ids = 0
        self.size = 0
        """Characters of all that was added."""

    def add(self, svg: str, label: str) -> str:
        """An `<svg>` element for the page, with a label for those who cannot see it.

        Parameters
        ----------
        svg : a file that matplotlib wrote.
        label : plain words, without markup.
        """
        text = _ASIDE.sub("", svg[svg.index("<svg") :])
        names: dict[str, str] = {}

        def kept(letter: re.Match[str]) -> str:
            known = len(self._letters)
            names[letter[1]] = name = self._letters.setdefault(letter[2], f"l{known}")
            if len(self._letters) > known:
                self.size += len(letter[2]) + len(name)
            return ""

        text = _LETTER.sub(kept, text)
        for _, wanted in _REFERENCE.findall(text):
            if wanted not in names:
                names[wanted] = f"i{self._ids}"
                self._ids += 1
        text = _ID.sub(lambda found: f' id="{names[found[1]]}"' if found[1] in names else "", text)
        text = _REFERENCE.sub(lambda found: found[1].removeprefix("xlink:") + names[found[2]], text)
        text = _DIGITS.sub(r"\1", re.sub(r"> <", "><", re.sub(r"\s+", " ", text)))
        text = text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
        self.size += len(text)
        return text

    def finished(self, first: str) -> str:
        """The first picture of the page, with the shapes of all letters."""
        shapes = "".join(f'<path id="{name}" {shape}' for shape, name in self._letters.items())
        end = first.index(">") + 1
        return f"{first[:end]}<defs>{shapes}</defs>{first[end:]}"
