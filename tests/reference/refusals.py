"""What a good refusal looks like: the named error, one sentence on what is wrong and where, a hint on what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from onnxcal.errors import OnnxcalError


@contextmanager
def refused(error: type[OnnxcalError], *said: str, hint: str = "") -> Iterator[None]:
    """The block raises exactly `error`, whose message has each of `said` in it and whose hint has `hint`."""
    with pytest.raises(error) as caught:
        yield
    problem = caught.value
    assert type(problem) is error
    assert "\n" not in problem.message
    assert not problem.message.endswith(".")
    for words in said:
        assert words in problem.message
    assert problem.hint, "a refusal says what to do about it"
    assert hint in problem.hint
    assert str(problem) == f"{problem.message}\n  hint: {problem.hint}"
