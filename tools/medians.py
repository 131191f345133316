"""Functions timed in turns in one process: A B A B …, so that a slow minute of the machine falls on all alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence


def in_turns(compared: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every call, by name; one round before them is not counted. Garbage is collected between calls."""
    seconds: dict[str, list[float]] = {name: [] for name in compared}
    for number in range(rounds + 1):
        for name, function in compared.items():
            gc.collect()
            start = time.perf_counter()
            function()
            if number > 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def median_ratio(seconds: Sequence[float], baseline: Sequence[float]) -> float:
    """Median over the rounds of one time in units of the other, which was taken next to it."""
    return statistics.median(one / other for one, other in zip(seconds, baseline, strict=True))
