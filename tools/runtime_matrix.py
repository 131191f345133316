"""Which calibrated graphs are right in which runtimes: 96 of them through everything that is installed, as two pages.

    python tools/runtime_matrix.py -o examples/edge

Every tail is written in every precision and patched in every form; opsets and batches take turns, so that each two
choices meet. `onnxcal.verify` runs each graph before and after in every runtime (`onnxcal runtimes` lists them) and
holds it against the float64 reference. It takes about half an hour on two cores with all runtimes; `--runtime` and
`--graphs` make it shorter. It reports and does not judge: the exit code is 0 whatever came out.
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from benchmarking import machine, positive
from rich.console import Console
from rich.progress import track
from runtimematrix.graphs import Graph, graphs
from runtimematrix.pages import Matrix, matrix, write_pages
from runtimematrix.run import Row, row

from onnxcal.inference.runtimes.registry import NAMES, list_runtimes


def main(argv: Sequence[str] | None = None) -> int:
    """Run, write the pages, and print how many are right."""
    parser = _parser()
    options = parser.parse_args(argv)
    if find_spec("jinja2") is None:
        parser.error("the pages need Jinja2: pip install 'onnxcal[report]'")
    there = {state.name: state for state in list_runtimes().runtimes}
    names = options.runtime or [name for name in NAMES if there[name].installed]
    for name in names:
        if not there[name].installed:
            parser.error(f"runtime '{name}' is not installed: {there[name].install}")
    chosen = [graph for graph in graphs() if all(part in graph.title for part in options.graphs)]
    if not chosen:
        parser.error(
            f"no graph has {' and '.join(map(repr, options.graphs))} in its title; one is '{next(graphs()).title}'"
        )
    options.output.mkdir(parents=True, exist_ok=True)
    found = matrix(_run(chosen, names, options.timeout, options.jobs))
    today = datetime.datetime.now(tz=datetime.timezone.utc)
    where = f"onnxcal {machine()['onnxcal']}, onnx {metadata.version('onnx')}, {platform.system()} {platform.machine()}"
    command = shlex.join(["python", "tools/runtime_matrix.py", *(sys.argv[1:] if argv is None else argv)])
    pages = write_pages(found, options.output, f"{today.day} {today:%B %Y}", where, command)
    _print(found)
    print("\n" + "\n".join(map(str, pages)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "-o", "--output", type=Path, default=Path(), metavar="DIR", help="folder of the pages (default: here)"
    )
    parser.add_argument(
        "--runtime", action="append", choices=NAMES, help="only this one, repeatable (default: all that are installed)"
    )
    parser.add_argument(
        "--graphs",
        action="append",
        default=[],
        metavar="TEXT",
        help="only graphs with this in their title, repeatable: 'float16'",
    )
    parser.add_argument(
        "-j", "--jobs", type=positive, default=os.cpu_count() or 1, help="graphs at once (default: one a core)"
    )
    parser.add_argument("--timeout", type=positive, default=120, metavar="SECONDS", help="for each runtime and graph")
    return parser


def _run(chosen: Sequence[Graph], names: Sequence[str], timeout: float, jobs: int) -> list[Row]:
    """The rows, in the graphs' order, with a bar on a terminal."""
    context = multiprocessing.get_context("spawn")  # runtimes do not all survive a fork
    with ProcessPoolExecutor(min(jobs, len(chosen)), mp_context=context) as pool:
        futures = [pool.submit(row, graph, names, timeout) for graph in chosen]
        console = Console(stderr=True)
        shown = track(futures, "graphs", console=console, transient=True, disable=not console.is_terminal)
        return [future.result() for future in shown]


def _print(found: Matrix) -> None:
    for column, total in zip(found.columns, found.totals, strict=True):
        print(f"{column.title:<36} {column.version:<14} {total.text}")
    for title, why in found.refused:
        print(f"{title}: {why}")


if __name__ == "__main__":
    sys.exit(main())
