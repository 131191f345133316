"""Holds the table behind `--target` against onnxruntime itself: each version from a wheel, in a throw-away environment.

    python tools/opset_gates.py 1.17 1.19 1.22

Small models with the nodes of a patch, one for each IR and opset version, are loaded by that version; the highest that
it takes is what the table in `onnxcal.graph.targets` must say. Exit code 1 where it says something else. Without
versions, those of the table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

from onnx import TensorProto, helper

from onnxcal.graph.targets import RELEASES, Release

IR_VERSIONS = range(7, 16)
OPSETS = range(13, 31)
ML_OPSETS = range(1, 8)
PLAIN_OPSET, PLAIN_IR = 13, 7
"""What every version of the table takes: only one number of a model is odd at a time."""

PROGRAM = """
import json, sys, onnxruntime
onnxruntime.set_default_logger_severity(4)
def loads(path):
    try:
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception:
        return False
    return True
print(json.dumps([onnxruntime.__version__, [path for path in sys.argv[1:] if loads(path)]]))
"""


def main() -> int:
    """Compare, print a line a version, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="*", default=list(RELEASES), metavar="VERSION")
    differing = 0
    with tempfile.TemporaryDirectory(prefix="onnxcal-") as folder:
        models = list(write_models(Path(folder)))
        for version in parser.parse_args().versions:
            found = measured(version, Path(folder), models)
            if found is None:
                print(f"{version:<6} pip has no wheel of it for this Python")
                continue
            exact, release = found
            known = RELEASES.get(version)
            agrees = release == known
            differing += not agrees
            said = "as the table says" if agrees else f"DIFFERS: the table says {known}"
            print(f"{version:<6} {exact:<8} IR {release.ir}, ai.onnx {release.onnx}, ai.onnx.ml {release.ml}: {said}")
    return int(differing > 0)


def write_models(folder: Path) -> Iterator[str]:
    """One model for each number, named after it."""
    for kind, numbers in (("ir", IR_VERSIONS), ("onnx", OPSETS), ("ml", ML_OPSETS)):
        for number in numbers:
            opsets = {"": PLAIN_OPSET if kind != "onnx" else number}
            nodes = [helper.make_node("Div", ["x", "T"], ["z"]), helper.make_node("Softmax", ["z"], ["y"])]
            if kind == "ml":
                opsets["ai.onnx.ml"] = number
                nodes[1] = helper.make_node("Normalizer", ["z"], ["y"], domain="ai.onnx.ml", norm="L1")
            value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy"]
            model = helper.make_model(
                helper.make_graph(
                    nodes, kind, value[:1], value[1:], [helper.make_tensor("T", TensorProto.FLOAT, [1], [2.0])]
                ),
                opset_imports=[helper.make_opsetid(domain, version) for domain, version in opsets.items()],
                ir_version=number if kind == "ir" else PLAIN_IR,
            )
            path = folder / f"{kind}-{number}.onnx"
            path.write_bytes(model.SerializeToString())
            yield path.name


def measured(version: str, folder: Path, models: list[str]) -> tuple[str, Release] | None:
    """The exact version that was installed, and the highest numbers that it takes; None if there is no wheel."""
    with tempfile.TemporaryDirectory(prefix="onnxcal-", dir=folder) as place:
        venv.create(place, with_pip=False)
        python = next(p for p in (Path(place, "bin/python"), Path(place, "Scripts/python.exe")) if p.exists())
        numpy = "numpy<2" if int(version.split(".")[1]) < 19 else "numpy"
        wanted = f"onnxruntime=={version}.*" if version.count(".") == 1 else f"onnxruntime=={version}"
        install = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "-q",
            "--no-deps",
            "--only-binary",
            ":all:",
        ]
        pip = subprocess.run([*install, wanted, numpy], capture_output=True, text=True, check=False)
        if pip.returncode:
            print(pip.stderr.strip().splitlines()[-1], file=sys.stderr)
            return None
        done = subprocess.run(
            [python, "-c", PROGRAM, *models], cwd=folder, capture_output=True, text=True, check=True
        )  # fmt: skip
    exact, loaded = json.loads(done.stdout.splitlines()[-1])
    highest = {"ir": 0, "onnx": 0, "ml": 0}
    for name in loaded:
        kind, _, number = name.removesuffix(".onnx").partition("-")
        highest[kind] = max(highest[kind], int(number))
    return exact, Release(**highest)


if __name__ == "__main__":
    sys.exit(main())
