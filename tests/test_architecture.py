"""The public names, and the import rule of the design: a room imports only from rooms above it."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import pytest

import onnxcal
import onnxcal.cli
from onnxcal import errors
from onnxcal.verification import verify

PACKAGE = Path(onnxcal.__file__).parent
ROOMS = (
    "errors", "version", "atomic", "depfile", "cores", "defaults", "logits", "spool", "labels", "rows", "metrics",
    "calibrators", "data", "graph", "inference", "heldout", "verification", "gates", "results", "report", "output",
    "heads", "subjects", "plots", "patching", "patched", "exports", "pipeline", "builds", "sklearn", "torch", "cli",
)  # fmt: skip
GRAPH_ROOMS = (
    "wire", "background", "skeleton", "mapped", "modelfile", "filerecord", "external", "head", "types", "messages",
    "view", "moves", "tails", "spill", "inline", "detect", "plan", "metadata", "draft", "folding", "payload",
    "division", "planner", "write", "edit", "records", "patch", "retune", "remade", "described", "compare", "diff",
    "way", "exclude", "targets", "inspect",
)  # fmt: skip
FILES = sorted(PACKAGE.rglob("*.py"))
ROOM_FILES = [path for path in FILES if path.name != "__main__.py" and path != PACKAGE / "__init__.py"]


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, also inside functions and for type checkers only."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative imports hide which room is meant"
            assert node.module is not None
            for alias in node.names:  # `from onnxcal.graph import wire` means the module onnxcal.graph.wire
                full = f"{node.module}.{alias.name}"
                yield full if is_module(full) else node.module


def is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return name.startswith("onnxcal.") and (path.with_suffix(".py").exists() or path.is_dir())


def own_imports(path: Path) -> list[list[str]]:
    return [name.split(".") for name in imports(path) if name.split(".")[0] == "onnxcal"]


def ids(path: Path) -> str:
    return module_name(path)


@pytest.mark.parametrize("path", ROOM_FILES, ids=ids)
def test_room_imports_only_from_rooms_above_it(path: Path) -> None:
    room = module_name(path).split(".")[1]
    assert room in ROOMS, f"{room} has no place in the table of rooms"
    for target in own_imports(path):
        assert len(target) > 1, f"{module_name(path)} imports the package itself"
        assert ROOMS.index(target[1]) <= ROOMS.index(room), f"{module_name(path)} imports {'.'.join(target)}"


def test_the_table_for_contributors_has_every_room_in_this_order() -> None:
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    first_cells = "".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))
    assert tuple(re.findall(r"`(\w+)(?:\.py|/)`", first_cells)) == ROOMS


@pytest.mark.parametrize("path", [p for p in ROOM_FILES if p.parts[-2:][0] == "graph" or "tails" in p.parts], ids=ids)
def test_graph_module_imports_only_from_graph_modules_above_it(path: Path) -> None:
    parts = module_name(path).split(".")
    if len(parts) < 3:
        return  # graph/__init__.py is the door to all of them
    for target in own_imports(path):
        if target[1] == "graph" and len(target) > 2 and target[2] != parts[2]:
            assert GRAPH_ROOMS.index(target[2]) < GRAPH_ROOMS.index(parts[2]), f"{parts[2]} imports {target[2]}"


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("onnxruntime", {"onnxcal.inference.session", "onnxcal.inference.ort_format"}),
        ("click", {name for name in map(module_name, FILES) if name.startswith("onnxcal.cli")}),
        ("torch", {name for name in map(module_name, FILES) if name.startswith("onnxcal.torch")}),
        (
            "matplotlib",
            {"onnxcal.plots"}
            | {n for n in map(module_name, FILES) if n.startswith("onnxcal.report.plots.")}
            | {"onnxcal.report.plots"},
        ),
        ("sklearn", {"onnxcal.sklearn.estimators"}),
        ("skl2onnx", {"onnxcal.sklearn.convert"}),
        ("scipy", set()),
        ("PIL", {"onnxcal.data.picture"}),
        ("pyarrow", {"onnxcal.data.arrow", "onnxcal.data.tables"}),
        ("datasets", {"onnxcal.data.huggingface"}),
        ("onnxsim", set()),
        ("openvino", {"onnxcal.inference.runtimes.openvino"}),
        ("tract", {"onnxcal.inference.runtimes.tract"}),
        ("emx_onnx_cgen", {"onnxcal.inference.runtimes.emx_c"}),
        ("cv2", {"onnxcal.inference.runtimes.opencv"}),
        ("MNN", {"onnxcal.inference.runtimes.mnn"}),
        ("_tools", {"onnxcal.inference.runtimes.mnn"}),
        ("ncnn", {"onnxcal.inference.runtimes.ncnn"}),
        ("pnnx", set()),
        ("iree", {"onnxcal.inference.runtimes.iree"}),
        ("tvm", {"onnxcal.inference.runtimes.tvm"}),
    ],
)
def test_library_is_imported_in_its_room_only(library: str, allowed: set[str]) -> None:
    users = {module_name(path) for path in FILES if any(name.split(".")[0] == library for name in imports(path))}
    assert users <= allowed


def test_onnxruntime_is_imported_by_the_session() -> None:
    """The rule above cannot hold by accident of a parser that finds nothing."""
    session = PACKAGE / "inference" / "session.py"
    assert "onnxruntime" in set(imports(session))
    assert ["onnxcal", "graph", "wire"] in own_imports(session)


def test_list_of_runtimes_imports_none_of_them() -> None:
    program = (
        "import sys\n"
        "from onnxcal.inference.runtimes.registry import NAMES, list_runtimes\n"
        "assert [state.name for state in list_runtimes().runtimes] == list(NAMES)\n"
        "print({'onnx', 'onnxruntime', 'openvino', 'tract', 'cv2', 'MNN', 'tvm', 'iree'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("room", ["errors.py", "atomic.py", "logits.py", "rows.py", "metrics", "calibrators", "data"])
def test_rooms_before_the_graph_know_no_onnx(room: str) -> None:
    place = PACKAGE / room
    for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
        assert not {name.split(".")[0] for name in imports(path)} & {"onnx", "onnxruntime", "onnx_ir"}, path.name


def test_errors_import_nothing() -> None:
    assert set(imports(PACKAGE / "errors.py")) == {"__future__"}


@pytest.mark.parametrize("path", [p for p in FILES if "cli" not in p.parts and p.name != "__main__.py"], ids=ids)
def test_nothing_imports_the_command_line(path: Path) -> None:
    assert not [target for target in own_imports(path) if target[1:2] == ["cli"]]


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=lambda folder: folder.name)
def test_every_folder_with_modules_is_a_package(folder: Path) -> None:
    """A folder without `__init__.py` is left out by pkgutil, zipapps and many packagers."""
    assert (folder / "__init__.py").exists()


# Public names


def test_public_names_are_these() -> None:
    assert sorted(onnxcal.__all__) == [
        "Calibration", "DataError", "FitError", "GateError", "Head", "ModelError", "NoFiniteOptimum", "OnnxcalError",
        "UsageError", "UselessLogits", "VerificationError", "WorseThanChance", "__version__", "build", "calibrate",
        "collect_logits", "diff", "evaluate", "export", "fit", "inspect", "nodes_to_exclude", "patch", "revert",
        "set_temperature", "verify",
    ]  # fmt: skip
    assert set(onnxcal.__all__) <= set(dir(onnxcal))


@pytest.mark.parametrize("first", ["calibrate", "patch", "collect_logits", "inspect", "verify"])
def test_public_names_are_what_they_say_whichever_is_used_first(first: str) -> None:
    """`onnxcal.verify` is a function also after `onnxcal.calibrate` has imported the module of that name."""
    program = (
        f"import onnxcal; onnxcal.{first}\n"
        "things = {name: getattr(onnxcal, name) for name in onnxcal.__all__ if name != '__version__'}\n"
        "print([name for name, thing in things.items() if not callable(thing)])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_plots_are_a_module_that_is_imported_when_it_is_used() -> None:
    program = (
        "import sys, onnxcal\n"
        "assert 'onnxcal.plots' not in sys.modules and 'plots' in dir(onnxcal)\n"
        "onnxcal.plots.KINDS\n"
        "print('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'calibrat'"):
        onnxcal.calibrat  # noqa: B018


def test_error_tree_is_the_one_that_its_module_draws() -> None:
    tree = {
        name: (value.__base__.__name__, value.exit_code)
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.OnnxcalError)
    }
    assert tree == {
        "OnnxcalError": ("Exception", 2),
        "UsageError": ("OnnxcalError", 2),
        "ModelError": ("OnnxcalError", 2),
        "DataError": ("OnnxcalError", 2),
        "FitError": ("DataError", 2),
        "NoFiniteOptimum": ("FitError", 2),
        "UselessLogits": ("FitError", 2),
        "WorseThanChance": ("FitError", 2),
        "VerificationError": ("OnnxcalError", 1),
        "GateError": ("OnnxcalError", 1),
    }
    assert all(name in (errors.__doc__ or "") for name in tree)


# Command-line options and Python arguments

PRINTING = {"as_json", "quiet", "verbose", "help", "plot", "junit"}
COMMAND_OF: dict[str, tuple[Callable[..., object], set[str]]] = {
    "calibrate": (onnxcal.calibrate, set()),
    "build": (onnxcal.build, set()),
    "logits": (onnxcal.collect_logits, {"output", "force"}),
    "fit": (onnxcal.fit, {"output", "force"}),
    "patch": (onnxcal.patch, set()),
    "verify": (verify, set()),
    "diff": (onnxcal.diff, set()),
    "export": (onnxcal.export, set()),
    "evaluate": (onnxcal.evaluate, set()),
    "revert": (onnxcal.revert, set()),
    "set-temperature": (onnxcal.set_temperature, set()),
    "plot": (onnxcal.plots.plot, set()),
}


def options(command: str) -> dict[str, click.Option]:
    found = onnxcal.cli.cli.get_command(click.Context(onnxcal.cli.cli), command)
    assert found is not None
    return {str(p.name): p for p in found.params if isinstance(p, click.Option)}


@pytest.mark.parametrize("command", COMMAND_OF)
def test_python_arguments_have_the_names_of_the_options(command: str) -> None:
    function, only_cli = COMMAND_OF[command]
    arguments = set(inspect.signature(function).parameters) - {
        "model",
        "patched",
        "logits",
        "kind",
        "a",
        "b",
        "source",
        "targets",
        "recipe",
        "progress",
        "done",
    }
    if command == "set-temperature":
        arguments.remove("temperature")  # a word of its own, as the command is for nothing else
    if command == "fit":
        arguments -= {"labels", "sample_weight"}  # the command finds them in LOGITS.npz
    assert set(options(command)) - PRINTING - only_cli == arguments


@pytest.mark.parametrize("command", COMMAND_OF)
def test_option_has_the_default_of_the_python_argument(command: str) -> None:
    function, only_cli = COMMAND_OF[command]
    parameters = inspect.signature(function).parameters
    for name, option in options(command).items():
        if name in PRINTING | only_cli or parameters[name].default is inspect.Parameter.empty:
            continue
        default = option.to_info_dict()["default"]
        assert (default or None) == (parameters[name].default or None), name


@pytest.mark.parametrize("command", onnxcal.cli.COMMANDS)
def test_option_is_spelled_as_in_the_contract(command: str) -> None:
    flags = {flag for option in options(command).values() for flag in option.opts}
    known = {
        "--data", "--labels", "--preprocess", "--label-column",
        "--batch-size", "--provider", "--threads", "--ignore-index", "--head", "--task", "--axis",
        "--activation", "--method", "--seed", "--force", "--json", "-q", "--quiet", "-v", "--verbose", "-o", "--output",
        "--exact", "--plot", "--report", "--prior", "--smoothing", "--bootstrap", "--no-spool",
        "--in-place", "--output-name", "--keep-logits", "--eval-data", "--eval-labels", "--no-holdout",
        "--save-calibration",
        "--max-ece", "--max-nll", "--min-accuracy", "--max-temperature-change", "--require-improvement", "--depfile",
        "--config", "-j", "--jobs", "--check", "--summary", "--card", "--junit", "--temperature", "--calibration",
        "--style", "--class-names", "--fold", "--runtime-temperature", "--original", "--tolerance",
        "--to", "--compress", "--target", "--runtime", "--runtime-samples", "--runtime-timeout",
    }  # fmt: skip
    assert flags <= known
    if command != "completion":
        assert {"--json", "-q", "-v"} <= flags


# Docstrings


def undocumented(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not ast.get_docstring(tree):
        yield "the module"
    yield from undocumented_in(tree, "")


def undocumented_in(scope: ast.Module | ast.ClassDef, prefix: str) -> Iterator[str]:
    for node in scope.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from undocumented_in(node, f"{prefix}{node.name}.")
    if isinstance(scope, ast.ClassDef) and any("dataclass" in ast.unparse(d) for d in scope.decorator_list):
        for node, following in zip(scope.body, [*scope.body[1:], None], strict=True):
            documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            if isinstance(node, ast.AnnAssign) and not documented:
                yield prefix + ast.unparse(node.target)


@pytest.mark.parametrize("path", [p for p in FILES if p.stat().st_size], ids=ids)
def test_public_functions_classes_and_fields_have_docstrings(path: Path) -> None:
    assert list(undocumented(path)) == []


# Imports at run time

HEAVY = ("numpy", "onnx", "onnxruntime", "rich", "torch", "matplotlib")


def loaded_by(words: list[str], folder: Path, names: Sequence[str] = HEAVY) -> set[str]:
    program = (
        "import sys\n"
        "from onnxcal.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        f"open('loaded.txt', 'w').write(' '.join(n for n in {tuple(names)!r} if n in sys.modules))\n"
    )
    subprocess.run(
        [sys.executable, "-c", program, *words], cwd=folder, check=True, capture_output=True, env={**os.environ}
    )
    return set((folder / "loaded.txt").read_text().split())


@pytest.mark.parametrize(
    "words", [["--help"], ["-h"], ["--version"], ["calibrate", "--help"], ["plot", "--help"], ["completion", "bash"]]
)
def test_help_imports_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    assert loaded_by(words, tmp_path) == set()


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = f"import sys, onnxcal; print([n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "words",
    [
        ["patch", "digits.onnx", "--temperature", "1.7", "-o", "out.onnx"],
        ["inspect", "digits.onnx"],
        ["diff", "digits.onnx", "digits.onnx"],
    ],
)
def test_structure_work_does_not_import_onnxruntime(words: list[str], tmp_path: Path, demo_data: Path) -> None:
    (tmp_path / "digits.onnx").write_bytes((demo_data / "digits.onnx").read_bytes())
    assert not loaded_by(words, tmp_path) & {"onnxruntime", "torch"}


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_patch_imports_neither_numpy_nor_the_helpers_of_onnx(
    more: list[str], tmp_path: Path, demo_data: Path
) -> None:
    """What stands in for them until they are used is in `cli.postponed`; `numpy._core` is there when NumPy has run."""
    (tmp_path / "digits.onnx").write_bytes((demo_data / "digits.onnx").read_bytes())
    words = ["patch", "digits.onnx", "--temperature", "1.7", "-o", "out.onnx", *more]
    unwanted = ("numpy._core", "onnx.helper", "onnx.checker", "onnxruntime", "rich", "onnxcal.inference.collect")
    assert loaded_by(words, tmp_path, (*unwanted, "onnx.onnx_ml_pb2")) == {"onnx.onnx_ml_pb2"}


def test_fit_imports_no_onnxruntime(tmp_path: Path) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    z = rng.normal(size=(200, 3)).astype(np.float32)
    np.savez(tmp_path / "logits.npz", logits=3 * z, labels=(z + rng.gumbel(size=z.shape)).argmax(axis=1))
    assert not loaded_by(["fit", "logits.npz"], tmp_path) & {"onnxruntime", "torch"}
