"""Who gets a progress bar."""

from __future__ import annotations

import io

import pytest

from onnxcal.report.progress import progress_of


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_for_each_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    with progress_of(True) as report:
        assert report is not None
        report("collecting logits", 50, 100)
        report("verifying", 10, None)
    assert "collecting logits" in screen.getvalue()
    assert "50/100" in screen.getvalue()
    assert "verifying" in screen.getvalue()


def test_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    with progress_of(lambda *step: seen.append(step)) as report:
        assert report is not None
        report("fitting", 1, 2)
    assert seen == [("fitting", 1, 2)]
    with progress_of(True) as report:  # stderr is no terminal under pytest
        assert report is None
    monkeypatch.setattr("sys.stderr", Terminal())
    with progress_of(False) as report:
        assert report is None
