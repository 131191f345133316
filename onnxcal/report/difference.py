"""`diff` on a terminal: what a patch changed and what else did, a few lines an element, then the ranges of bytes.

Whether something came, went or changed is said by a sign before it, `+`, `-` or `~`; colour only repeats that.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import TypeVar

from onnxcal.graph.compare import ByteChange, Change
from onnxcal.graph.diff import Diff
from onnxcal.report.console import Styled, print_line, print_rows, print_warnings, width, wrapped

_MOST = 20
_SIGNS = {"added": "+", "removed": "-", "changed": "~", "moved": "~", "rewritten": "~"}
_STYLES = {"+": "green", "-": "red", "~": "yellow"}
_INDENT = 6
_Shown = TypeVar("_Shown")


def print_diff(result: Diff, verbose: bool) -> None:
    """`diff`."""
    for name, record, size in zip("AB", (result.a, result.b), result.n_bytes, strict=True):
        print_rows([(name, f"{_path(record.path)}, {size:,} bytes")])
    if verbose:
        print_rows([("sha256 A", result.a.sha256), ("sha256 B", result.b.sha256)])
    ranges = "1 range" if result.unchanged_ranges == 1 else f"{result.unchanged_ranges:,} ranges"
    share = f"{result.unchanged_bytes:,} of A's bytes ({_percent(result.unchanged_share)}), in {ranges}"
    print_rows([("unchanged", share)])
    print_rows(("external", f"{e.location}: {'unchanged' if e.unchanged else e.detail}") for e in result.external_data)
    _print_changes("By the patch:", result.patch_changes, verbose)
    _print_changes("Besides:" if result.patch_changes else "Differences:", result.other_changes, verbose)
    if result.byte_changes:
        print_line(("Bytes:", "bold"))
        for change in _first(result.byte_changes, verbose):
            _print_bytes(change, verbose)
        _print_rest(len(result.byte_changes), verbose)
    style = "bold green" if result.passed else "bold red"
    print_rows([("verdict", Styled(verdict(result), style))])
    print_warnings(result.warnings)


def verdict(result: Diff) -> str:
    """PASSED or FAILED, and why, in one line."""
    return f"{'PASSED' if result.passed else 'FAILED'}: {result.detail}"


def _print_changes(title: str, changes: Sequence[Change], verbose: bool) -> None:
    if not changes:
        return
    print_line((title, "bold"))
    for change in _first(changes, verbose):
        sign = _SIGNS[change.how]
        fields = f": {', '.join(change.fields)}" if change.fields else ""
        how = f" ({change.how})" if change.how in ("moved", "rewritten") else ""
        _print_line(2, sign, f"{change.label}{fields}{how}")
        if change.how == "changed":
            _print_line(_INDENT, "-", change.before)
            _print_line(_INDENT, "+", change.after)
        elif change.how in ("added", "removed"):
            _print_line(_INDENT, "", change.after if change.how == "added" else change.before)
    _print_rest(len(changes), verbose)


def _print_bytes(change: ByteChange, verbose: bool) -> None:
    (first, last), (start, stop) = change.before, change.after
    what = [*_first(change.what, verbose)]
    more = f" and {len(change.what) - len(what):,} more" if len(what) < len(change.what) else ""
    sizes = f"{last - first:,} bytes at {first:,} of A → {stop - start:,} at {start:,} of B"
    _print_line(2, "", f"{sizes}: {', '.join(what)}{more}")


def _print_line(indent: int, sign: str, text: str | None) -> None:
    """Text behind a sign, wrapped under itself."""
    if text is None:
        return
    lead = f"{sign} " if sign else ""
    for number, line in enumerate(wrapped(text, width() - indent - len(lead), breaking=True)):
        before = " " * indent + (lead if number == 0 else " " * len(lead))
        print_line((before + line, _STYLES.get(sign, "")))


def _first(many: Sequence[_Shown], verbose: bool) -> Iterable[_Shown]:
    return many if verbose else many[:_MOST]


def _print_rest(count: int, verbose: bool) -> None:
    if count > _MOST and not verbose:
        _print_line(2, "", f"and {count - _MOST:,} more, with -v")


def _percent(share: float) -> str:
    """Never 100 % of what is less than all, and never 0 % of what is more than nothing."""
    if 0.9999 <= share < 1:
        return "more than 99.99 %"
    return "less than 0.01 %" if 0 < share < 0.0001 else f"{share:.2%}".replace("%", " %")


def _path(path: str | None) -> str:
    return "the model in memory" if path is None else shlex.quote(path)
