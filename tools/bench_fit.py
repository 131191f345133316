"""Time `onnxcal.fit` against other people's fits of a temperature, and against one pass of `exp` over the logits.

What it does: draws float32 logits of an overconfident model, finds the best T in float64 by code of its own, lets
everyone fit them in turns in one process, and takes medians. A peer is right if its T is within 1e-4 of the optimum.
Peers that cannot be imported are named and left out; `--install` makes a virtual environment with all of them and runs
there. With `--accuracy` also: the error of onnxcal's T over awkward logits and, where they are at hand, published ones.

What it prints: one table a size, with the ratio to the fastest peer that is right and to one chunked single-thread
`exp`, and whether the project's limits are met. It reports and does not judge: the exit code is 0 either way.

It needs 8 GB of memory for the default sizes, and for `--install` a network, 2 GB of disk and some minutes.

    python tools/bench_fit.py --install --json fit.json --plot fit.svg
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarking import Limit, at_least, at_most, machine, positive
from fitbench import accuracy, peers_venv
from fitbench.peers import PEERS, Peer
from fitbench.problems import drawn
from fitbench.race import CORRECT, Race, Timed, race
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

SIZES = ((5_000, 10), (50_000, 100), (50_000, 1_000))
ACCURACY_SIZES = ((5_000, 10), (50_000, 100), (50_000, 1_000), (1_000_000, 10), (2_000, 50_000))
QUICK_SIZES = ((500, 5),)
QUICK_RUNS = 2
SPEED_UP_LIMITS = {"5,000×10": 7.0, "50,000×100": 8.0, "50,000×1,000": 40.0}
"""How many times faster than the fastest correct peer the project promises to be."""
EXP_LIMITS = {"50,000×100": 6.0, "50,000×1,000": 3.0}
"""In how many passes of `exp`."""
BUSY = 0.5
"""Load average above which times say little."""
ENOUGH_LOGITS = 1_000_000
"""From here on the time of a fit goes with the number of logits, not of calls."""
PACKAGES = (
    "numpy", "numba", "scipy", "scikit-learn", "torch", "torch-uncertainty", "probmetrics", "netcal", "onnxruntime"
)  # fmt: skip

CHECKOUT = Path(__file__).resolve().parents[1]


def main(argv: list[str] | None = None) -> int:
    """Run, and print what came out."""
    arguments = sys.argv[1:] if argv is None else argv
    options = _parser().parse_args(arguments)
    if options.install and not peers_venv.is_inside(options.venv):
        peers_venv.install(options.venv)
        return peers_venv.run_again_inside(options.venv, Path(__file__), arguments)
    sizes = options.sizes or (QUICK_SIZES if options.quick else SIZES)
    sizes = () if options.accuracy == "only" else sizes
    runs = options.runs or (QUICK_RUNS if options.quick else 7)
    chosen = _chosen(options.peers, quick=options.quick)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    races = []
    with progress_line() as progress:
        for result in run_races(sizes, chosen, runs, options.peer_seconds, options.most_seconds, progress):
            races.append(result)
            print_race(result)
    limits = held_limits(races)
    if limits:
        print_limits(limits)
    if load is not None and load > BUSY and races:
        print(f"the machine was busy with other things (load {load:.1f} before the first run): do not trust the times")
    fits: list[accuracy.Accuracy] = []
    if options.accuracy:
        sizes = options.sizes or (QUICK_SIZES if options.quick else ACCURACY_SIZES)
        with progress_line() as progress:
            print(f"\n{'onnxcal':42}{'T':>16}{'error of T':>13}{'s':>9}")
            for fit in accuracy.measure(accuracy.problems(sizes, options.data), progress):
                fits.append(fit)
                print_accuracy(fit)
        met = sum(fit.met for fit in fits)
        print(f"\nrelative error of T at most {accuracy.LIMIT:g}: {met} of {len(fits)} met")
    if options.json is not None:
        text = json.dumps(as_json(races, limits, fits, load), indent=2, ensure_ascii=False, allow_nan=False)
        options.json.write_text(text + "\n", encoding="utf-8")
    if options.plot is not None and races:
        from fitbench.drawing import draw

        draw(races, options.plot)
    return 0


def run_races(
    sizes: Sequence[tuple[int, int]],
    peers: dict[str, Peer],
    runs: int,
    budget: float,
    most: float,
    progress: Callable[[str], None],
) -> Iterator[Race]:
    """One race a size; who would need more than `most` seconds for one fit, going by the size before, is left out."""
    pace: dict[str, float] = {}
    for rows, classes in sizes:
        name = f"{rows:,}×{classes:,}"
        progress(f"{name}: drawing")
        problem = drawn(rows, classes)
        expected = {peer: seconds * problem.z.size for peer, seconds in pace.items()}
        slow = {peer: f"left out: about {seconds:.0f} s a fit" for peer, seconds in expected.items() if seconds > most}
        able = {peer: entry for peer, entry in peers.items() if peer not in slow}
        result = race(problem, able, runs, budget, progress)
        if problem.z.size >= ENOUGH_LOGITS:
            pace |= {peer: timed.median_seconds / problem.z.size for peer, timed in result.fits.items()}
        result.failed.update(slow)
        yield result


def held_limits(races: Sequence[Race]) -> dict[str, Limit]:
    """What the project promises for these sizes, as far as a correct peer took part."""
    limits = {}
    for result in races:
        ours = result.fits.get("onnxcal")
        if ours is None:
            continue
        if ours.to_fastest is not None and result.problem in SPEED_UP_LIMITS:
            limits[f"speed_up {result.problem}"] = at_least(1 / ours.to_fastest, SPEED_UP_LIMITS[result.problem])
        if result.problem in EXP_LIMITS:
            limits[f"exp_passes {result.problem}"] = at_most(ours.to_exp, EXP_LIMITS[result.problem])
    return limits


def as_json(
    races: Sequence[Race], limits: dict[str, Limit], fits: Sequence[accuracy.Accuracy], load: float | None
) -> dict[str, Any]:
    """Everything measured, and on what."""
    return {
        **machine(),
        "date": datetime.date.today().isoformat(),
        "load_before": load,
        "packages": dict(_versions()),
        "correct_within": CORRECT,
        "races": [asdict(result) for result in races],
        "limits": {name: asdict(entry) for name, entry in limits.items()},
        "accuracy": [asdict(fit) | {"met": fit.met} for fit in fits],
    }


def print_race(result: Race) -> None:
    """One line a contestant, the fastest first; then the limits of the machine, and who is missing."""
    print(f"\n{result.problem} float32, T = {result.temperature:.7g}, {os.cpu_count()} CPUs\n")
    print(f"{'':42}{'median ms':>12}{'÷ fastest':>11}{'÷ exp':>10}{'error of T':>13}{'runs':>6}")
    for timed in sorted(result.fits.values(), key=lambda timed: timed.median_seconds):
        off = "no number" if timed.relative_error is None else f"{timed.relative_error:.1e}"
        print(_row(timed) + f"{off:>13}{timed.runs:6}{'' if timed.correct else '  wrong'}")
    for timed in result.limits.values():
        print(_row(timed) + f"{'':13}{timed.runs:6}")
    for name, reason in result.failed.items():
        print(f"{PEERS[name].title if name in PEERS else name:42}  {reason}")
    sys.stdout.flush()


def print_limits(limits: dict[str, Limit]) -> None:
    """One line a promise."""
    print()
    for name, limit in limits.items():
        kind, size = name.split(" ")
        if kind == "speed_up":
            said = f"at least {limit.limit:g}x faster than the fastest correct peer"
        else:
            said = f"at most {limit.limit:g} passes of exp"
        print(f"{size}: {said}: {limit.verdict} ({limit.value:.2f})")


def print_accuracy(fit: accuracy.Accuracy) -> None:
    """One line."""
    result = fit.refused or f"{fit.fitted:16.9g}{fit.relative_error:13.1e}{fit.seconds:9.3f}"
    print(f"{fit.problem:42}{result}{'' if fit.met else '  not met'}", flush=True)


@contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """One line on stderr that says what is being done, where stderr is a terminal."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("")
        yield lambda text: progress.update(task, description=text)


def size(text: str) -> tuple[int, int]:
    """`5000x10`: rows and classes.

    Raises
    ------
    argparse.ArgumentTypeError
        It is not, or has fewer than 2 classes.
    """
    rows, _, classes = text.lower().replace("×", "x").replace("_", "").partition("x")
    if not (rows.isdecimal() and classes.isdecimal() and int(rows) >= 1 and int(classes) >= 2):
        raise argparse.ArgumentTypeError(f"'{text}' is no size: pass ROWSxCLASSES, such as 5000x10")
    return int(rows), int(classes)


def _chosen(names: Sequence[str] | None, *, quick: bool) -> dict[str, Peer]:
    if names is None:
        return {name: peer for name, peer in PEERS.items() if peer.cheap or not quick}
    return {name: peer for name, peer in PEERS.items() if name == "onnxcal" or name in names}


def _row(timed: Timed) -> str:
    fastest = "" if timed.to_fastest is None else f"{timed.to_fastest:.3g}"
    return f"{timed.title:42}{1000 * timed.median_seconds:12.4g}{fastest:>11}{timed.to_exp:10.3g}"


def _versions() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            yield name, metadata.version(name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Time onnxcal.fit against other fits of a temperature.")
    add = parser.add_argument
    add("--install", action="store_true", help="run in a virtual environment with all peers, made where it is missing")
    add("--venv", type=Path, default=peers_venv.default_folder(), metavar="DIR", help="that one (default: %(default)s)")
    add("--sizes", type=size, nargs="+", metavar="NxK", help="default: 5000x10 50000x100 50000x1000")
    add("--runs", type=positive, metavar="N", help="turns of each (default: 7)")
    add("--peers", nargs="+", choices=sorted(PEERS), metavar="NAME", help=f"some of {', '.join(PEERS)}")
    add("--peer-seconds", type=float, default=10, metavar="S", help="then a peer gets no more turns (default: 10)")
    add("--most-seconds", type=float, default=600, metavar="S", help="no fit expected to take longer (default: 600)")
    add("--quick", action="store_true", help="one tiny size, two turns, the peers that import no torch")
    add(
        "--accuracy",
        nargs="?",
        choices=("also", "only"),
        const="also",
        help="also the error of onnxcal's T over many kinds of logits; `only`: nothing else",
    )
    add(
        "--data",
        type=Path,
        default=Path(os.environ.get("ONNXCAL_DATA") or CHECKOUT.parent / "shared" / "data"),
        metavar="DIR",
        help="published logits (default: the environment variable ONNXCAL_DATA, or ../shared/data of the checkout)",
    )
    add("--json", type=Path, metavar="FILE", help="write everything measured there")
    add("--plot", type=Path, metavar="FILE.svg", help="draw it there; needs matplotlib")
    return parser


if __name__ == "__main__":
    sys.exit(main())
