"""A throw-away virtual environment with pinned peers, and the benchmark run again inside it."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

import onnxcal

PINNED = (
    "torch==2.13.0",
    "torch-uncertainty==0.13.0",
    "lightning==2.6.6",  # torch-uncertainty imports it; declared only in an extra
    "torchvision==0.28.0",  # likewise; the one that goes with this torch, or pip replaces torch
    "probmetrics==1.3.0",
    "numba==0.68.1",  # probmetrics imports it; declared only in an extra
    "netcal==1.4.0",
    "scikit-learn==1.9.1",
    "scipy==1.17.1",
    "matplotlib==3.11.2",  # for --plot
)
"""What is compared, and what they fail to import after a plain install."""
CHECKOUT = Path(__file__).resolve().parents[2]
INSIDE = "ONNXCAL_BENCH_FIT_VENV"
"""Environment variable that says in which venv this process was started by `run_again_inside`."""


def default_folder() -> Path:
    """In the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onnxcal" / "bench-peers"


def is_inside(folder: Path) -> bool:
    """Whether this process was started by `run_again_inside` the same folder."""
    return os.environ.get(INSIDE) == str(folder.resolve())


def install(folder: Path) -> None:
    """Make the venv, or bring an existing one to the pinned versions; pip's output goes to stderr.

    Raises
    ------
    SystemExit
        pip failed.
    """
    if not _python(folder).exists():
        venv.EnvBuilder(with_pip=True).create(folder)
    command = [str(_python(folder)), "-m", "pip", "install", "--quiet", f"{CHECKOUT}[fast]", *PINNED]
    print(f"bench_fit: installing peers into {folder} (some minutes the first time)", file=sys.stderr)
    if (code := subprocess.run(command, stdout=sys.stderr, check=False).returncode) != 0:
        raise SystemExit(f"bench_fit: pip exited with {code}")


def run_again_inside(folder: Path, script: Path, arguments: Sequence[str]) -> int:
    """The same command by the venv's Python, on the same onnxcal as here; its exit code."""
    here = str(Path(onnxcal.__file__).parents[1])
    environment = os.environ | {INSIDE: str(folder.resolve()), "PYTHONPATH": here}
    command = [str(_python(folder)), str(script), *arguments]
    return subprocess.run(command, env=environment, check=False).returncode


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
