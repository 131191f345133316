"""The race: everyone fits the same problem in turns in one process, beside what no fit can be faster than."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from fitbench.peers import TORCH_THREADS, Fit, Peer
from fitbench.problems import Problem

CORRECT = 1e-4
"""Largest relative error of T of a peer that counts as right."""
EXP = "exp once, in chunks, 1 thread"
"""The limit that others are measured in."""
CHUNK = 1 << 15
"""float32 numbers in a chunk: 128 kB of input and as much of output stay in a cache."""
QUICK_SECONDS = 0.02
"""In a turn, what takes less is called several times, until about this long: a cold cache decides nothing."""
MOST_CALLS = 20
LONG_SECONDS = 1.0
"""A call this long needs no warming up."""
REST_SECONDS = 0.01
"""Between turns: worker threads of the last one spin for a while."""


@dataclass(frozen=True)
class Timed:
    """All calls of one contestant, or of one limit, on one problem."""

    title: str
    runs: int
    """Calls that count."""
    median_seconds: float
    seconds: tuple[float, ...]
    """Of every call that counts, in order."""
    to_exp: float
    """`median_seconds` in passes of `EXP`."""
    temperature: float | None = None
    """None for a limit."""
    relative_error: float | None = None
    """|T / T* − 1|; None for a limit, and where T is no number."""
    correct: bool = False
    """Whether that is at most `CORRECT`."""
    to_fastest: float | None = None
    """`median_seconds` in units of the fastest correct peer's, onnxcal apart; None where no peer is correct."""


@dataclass(frozen=True)
class Race:
    """What came out on one problem."""

    problem: str
    temperature: float
    """The float64 optimum."""
    fastest: str | None
    """Name of the fastest correct peer, onnxcal apart."""
    limits: dict[str, Timed]
    fits: dict[str, Timed]
    failed: dict[str, str]
    """Who raised, and what."""


@dataclass
class _Turns:
    """One contestant's calls so far."""

    call: Fit
    first: float
    """Seconds of the call that warms up."""
    result: float
    seconds: list[float]

    def wants_more(self, runs: int, budget: float) -> bool:
        return not self.seconds or (len(self.seconds) < runs * self.calls and sum(self.seconds) < budget)

    @property
    def calls(self) -> int:
        """In one turn."""
        return max(1, min(MOST_CALLS, round(QUICK_SECONDS / max(self.first, 1e-9))))


def race(
    problem: Problem, peers: Mapping[str, Peer], runs: int, budget: float, progress: Callable[[str], None]
) -> Race:
    """Let all fit `problem` in turns.

    Parameters
    ----------
    problem : what to fit; its logits are (N, K), float32.
    peers : who takes part.
    runs : turns of each.
    budget : seconds after which one is not called again; the first call is never cut short.
    progress : told whose turn it is.
    """
    turns: dict[str, _Turns] = {}
    failed: dict[str, str] = {}
    limits = dict(_limits(problem))
    for name in (*limits, *peers):
        progress(f"{problem.name}: {name}, first call")
        try:
            turns[name] = _first(limits[name] if name in limits else peers[name].prepare(problem))
        except Exception as error:  # of code that is not ours
            failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    number = 0
    while waiting := [name for name, turn in turns.items() if turn.wants_more(runs, budget)]:
        number += 1
        for name in waiting:
            progress(f"{problem.name}: {name}, turn {number} of {runs}")
            time.sleep(REST_SECONDS)
            _take(turns[name])
    return _judged(problem, turns, peers, failed)


def _first(call: Fit) -> _Turns:
    """Warm up; a long call counts at once, and after a short one, which may have spent its time on imports, another."""
    turn = _Turns(call, 0.0, 0.0, [])
    for _ in range(2):
        start = time.perf_counter()
        turn.result = call()
        turn.first = time.perf_counter() - start
        if turn.first >= LONG_SECONDS:
            turn.seconds = [turn.first]
            break
    return turn


def _take(turn: _Turns) -> None:
    for _ in range(turn.calls):
        start = time.perf_counter()
        turn.result = turn.call()
        turn.seconds.append(time.perf_counter() - start)


def _judged(problem: Problem, turns: Mapping[str, _Turns], peers: Mapping[str, Peer], failed: dict[str, str]) -> Race:
    median = {name: statistics.median(turn.seconds) for name, turn in turns.items()}
    error = {name: abs(turns[name].result / problem.temperature - 1) for name in peers if name in turns}
    right = {name: median[name] for name, off in error.items() if off <= CORRECT and name != "onnxcal"}
    fastest = min(right, key=right.__getitem__, default=None)

    def timed(name: str) -> Timed:
        turn, known = turns[name], name in error
        off = error.get(name, math.nan)
        return Timed(
            title=peers[name].title if known else name,
            runs=len(turn.seconds),
            median_seconds=median[name],
            seconds=tuple(turn.seconds),
            to_exp=median[name] / median[EXP],
            temperature=turn.result if known and math.isfinite(turn.result) else None,
            relative_error=off if math.isfinite(off) else None,
            correct=off <= CORRECT,
            to_fastest=None if fastest is None else median[name] / median[fastest],
        )

    return Race(
        problem=problem.name,
        temperature=problem.temperature,
        fastest=fastest,
        limits={name: timed(name) for name in turns if name not in peers},
        fits={name: timed(name) for name in turns if name in peers},
        failed=failed,
    )


def _limits(problem: Problem) -> Iterator[tuple[str, Fit]]:
    """Calls that do less than any fit can."""
    z = problem.z
    flat = z.reshape(-1)
    out = np.empty(CHUNK, z.dtype)

    def exp() -> float:
        for begin in range(0, len(flat), CHUNK):
            chunk = flat[begin : begin + CHUNK]
            np.exp(chunk, out=out[: len(chunk)])
        return 0.0

    yield "read once, 1 thread", lambda: float(flat.max())
    yield EXP, exp
    with suppress(ImportError):
        yield f"onnxruntime Softmax, {TORCH_THREADS} threads", _softmax(problem)


def _softmax(problem: Problem) -> Fit:
    import onnxruntime
    from onnx import TensorProto, helper

    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", "K"]) for name in ("z", "p")]
    graph = helper.make_graph([helper.make_node("Softmax", ["z"], ["p"], axis=1)], "softmax", info[:1], info[1:])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = TORCH_THREADS
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run() -> float:
        session.run(None, {"z": problem.z})
        return 0.0

    return run
