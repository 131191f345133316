"""Wrong inputs: exit 2, one sentence and a hint on stderr, nothing on stdout, no file written or changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import builders
from tests.cli.conftest import MODEL, X, Y, contents

CALIBRATE = ["calibrate", "m.onnx", "--data"]
PATCH = ["patch", "m.onnx", "-o", "out.onnx"]


def prepare(folder: Path) -> None:
    """Files that are wrong, each in its own way."""
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "text.onnx").write_text("<html>not found</html>")
    (folder / "cut.onnx").write_bytes((folder / "m.onnx").read_bytes()[:100])
    (folder / "noise.bin").write_bytes(bytes(range(256)) * 8)
    (folder / "notes.csv").write_text("a,b\n1,2\n")
    (folder / "notes.h5").write_text("a,b\n1,2\n")
    (folder / "pickled.py").write_text("raise RuntimeError('no GPU')\n")
    (folder / "quits.py").write_text("import sys\nsys.exit(0)\n")
    (folder / "stops.py").write_text(
        "import sys\nimport numpy as np\n"
        "def f():\n    with np.load('d.npz') as f: d = dict(f)\n"
        "    yield d['x'][:50], d['labels'][:50]\n    sys.exit(0)\n"
        "def g():\n    with np.load('d.npz') as f: d = dict(f)\n    yield d['x'], d['labels']\n    raise MemoryError\n"
    )
    np.savez(folder / "nolabels.npz", x=X)
    np.savez(folder / "short.npz", x=X, labels=Y[:-1])
    np.savez(folder / "from1.npz", x=X, labels=Y + 1)
    np.savez(folder / "nan.npz", x=np.where(X > 2.5, np.nan, X), labels=Y)
    np.savez(folder / "none.npz", x=X[:0], labels=Y[:0])
    np.savez(folder / "wide.npz", x=np.zeros((200, 7), np.float32), labels=Y)
    np.savez(folder / "objects.npz", x=np.array([{}] * 200, dtype=object), labels=Y)
    np.savez(folder / "right.npz", x=X, labels=builders_argmax())
    packed = folder / "packed.npz"
    np.savez_compressed(packed, x=X, labels=Y)
    data = bytearray(packed.read_bytes())
    data[200:260] = b"\xff" * 60
    packed.write_bytes(data)
    header = (folder / "x.npy").read_bytes()
    (folder / "header.npy").write_bytes(header[:20] + b"(" * 40 + header[60:])
    (folder / "cal.json").write_text('{"schema": "onnxcal/1"}')
    builders.save(builders.classifier(opset=6, ir_version=3), folder / "old.onnx")


def builders_argmax() -> np.ndarray:
    """Labels that the model gets right, every one: no finite temperature."""
    import onnxcal

    labels: np.ndarray = onnxcal.collect_logits(MODEL, (X, Y)).values.argmax(axis=1)
    return labels


WRONG: dict[str, tuple[list[str], str]] = {
    "an unknown command": (["calibrat"], "No such command 'calibrat'"),
    "an unknown option": ([*CALIBRATE, "d.npz", "--temprature", "2"], "--temprature"),
    "no model": (["inspect"], "Missing argument 'MODEL'"),
    "no choice": (["export", "m.onnx"], "Missing option '--to'. Choose from: ort, openvino, mnn,"),
    "no data": (["calibrate", "m.onnx"], "Missing option '--data'"),
    "no such model": (["inspect", "nope.onnx"], "cannot read model 'nope.onnx'"),
    "a folder as model": (["inspect", "."], "is a folder"),
    "an empty model": (["inspect", "empty.onnx"], "'empty.onnx' is empty"),
    "a web page as model": (["inspect", "text.onnx"], "is text"),
    "a model cut off": (["inspect", "cut.onnx"], "'cut.onnx'"),
    "noise as model": (["patch", "noise.bin", "--temperature", "2"], "is not an ONNX model"),
    "data as model": (["inspect", "d.npz"], "is a zip archive"),
    "a model before opset 7": (["patch", "old.onnx", "--temperature", "2"], "uses opset 6"),
    "no such data": ([*CALIBRATE, "nope.npz"], "cannot read 'nope.npz'"),
    "data of no known kind": ([*CALIBRATE, "notes.h5"], "is no kind of data that is known"),
    "a table of something else": ([*CALIBRATE, "notes.csv"], "has 2 feature columns"),
    "a folder of who knows what": ([*CALIBRATE, "."], "how images in it become inputs is not said"),
    "a preset that is none": ([*CALIBRATE, ".", "--preprocess", "imagnet"], "there is no preset 'imagnet'"),
    "data without labels": ([*CALIBRATE, "nolabels.npz"], "has no labels"),
    "fewer labels than samples": ([*CALIBRATE, "short.npz"], "200 samples but 199 labels"),
    "labels from 1": ([*CALIBRATE, "from1.npz"], "label 4 of sample"),
    "NaN inputs": ([*CALIBRATE, "nan.npz"], "is NaN or infinite"),
    "no samples": ([*CALIBRATE, "none.npz"], "holds no samples"),
    "inputs of a wrong shape": ([*CALIBRATE, "wide.npz"], "has shape (64, 7), the model wants"),
    "pickled objects": ([*CALIBRATE, "objects.npz"], "pickled Python objects"),
    "a damaged archive": ([*CALIBRATE, "packed.npz"], "'packed.npz' is not a readable NumPy file"),
    "a damaged array": ([*CALIBRATE, "header.npy", "--labels", "y.npy"], "'header.npy' is not a readable NumPy file"),
    "a damaged label file": ([*CALIBRATE, "x.npy", "--labels", "header.npy"], "'header.npy' is not a readable"),
    "noise as data": ([*CALIBRATE, "noise.bin:f"], "noise"),
    "labels that are right throughout": ([*CALIBRATE, "right.npz"], "every label is the arg max of its row"),
    "a data module that is not there": ([*CALIBRATE, "nothing:f"], "cannot import 'nothing'"),
    "a data file that is not there": ([*CALIBRATE, "nothing.py:f"], "cannot read 'nothing.py'"),
    "a data file that raises": ([*CALIBRATE, "pickled.py:f"], "RuntimeError: no GPU"),
    "a data file that exits": ([*CALIBRATE, "quits.py:f"], "quits.py"),
    "a data function that exits": ([*CALIBRATE, "stops.py:f"], "stops.py:f"),
    "a data function that is not there": ([*CALIBRATE, "stops.py:h"], "has no callable 'h'"),
    "labels for a data function": ([*CALIBRATE, "stops.py:f", "--labels", "y.npy"], "--labels does not go with"),
    "an unknown head": ([*CALIBRATE, "d.npz", "--head", "scores"], "has no output 'scores'"),
    "an unknown provider": ([*CALIBRATE, "d.npz", "--provider", "abacus"], "'abacus' is not available"),
    "an unknown task": ([*CALIBRATE, "d.npz", "--task", "ranking"], "'ranking' is not one of"),
    "an unknown method": ([*CALIBRATE, "d.npz", "--method", "platt"], "'platt' is not "),
    "an axis that is not there": ([*CALIBRATE, "d.npz", "--axis", "5"], "none is axis 5"),
    "a batch of none": ([*CALIBRATE, "d.npz", "--batch-size", "0"], "--batch-size"),
    "a gate that is no number": ([*CALIBRATE, "d.npz", "--max-ece", "nan"], "max-ece"),
    "an output in no folder": ([*CALIBRATE, "d.npz", "-o", "no/where.onnx"], "does not exist"),
    "an output that is a folder": ([*CALIBRATE, "d.npz", "-o", "."], "it is a folder"),
    "an output that exists": ([*CALIBRATE, "d.npz", "-o", "p.onnx"], "'p.onnx' exists"),
    "the model as output": ([*CALIBRATE, "d.npz", "-o", "m.onnx", "--force"], "is the model itself"),
    "in place and an output": ([*CALIBRATE, "d.npz", "--in-place", "-o", "x.onnx"], "takes no -o"),
    "one file for two outputs": ([*CALIBRATE, "d.npz", "-o", "a", "--save-calibration", "a", "--force"], "'a'"),
    "the calibration onto the model": ([*CALIBRATE, "d.npz", "--save-calibration", "m.onnx", "--force"], "m.onnx"),
    "logits onto the model": (["logits", "m.onnx", "--data", "d.npz", "-o", "m.onnx", "--force"], "m.onnx"),
    "an output name that is taken": ([*PATCH, "--temperature", "2", "--output-name", "logits"], "'logits' is taken"),
    "an output name that is empty": ([*PATCH, "--temperature", "2", "--output-name", ""], "output-name"),
    "a file name that is too long": ([*CALIBRATE, "d.npz", "-o", "a" * 300], "cannot write"),
    "no temperature": (PATCH, "either a temperature or a calibration"),
    "two temperatures": ([*PATCH, "--temperature", "2", "--calibration", "cal.json"], "either a temperature or"),
    "a temperature of 0": ([*PATCH, "--temperature", "0"], "not a positive, finite number"),
    "a temperature of nan": ([*PATCH, "--temperature", "nan"], "not a positive, finite number"),
    "a temperature in words": ([*PATCH, "--temperature", "warm"], "'warm' is not a valid float"),
    "no such calibration": ([*PATCH, "--calibration", "nope.json"], "cannot read calibration 'nope.json'"),
    "a calibration without one": ([*PATCH, "--calibration", "cal.json"], "has no number calibration.temperature"),
    "a model as calibration": ([*PATCH, "--calibration", "m.onnx"], "is not JSON"),
    "labels without data": ([*PATCH, "--temperature", "2", "--labels", "y.npy"], "--labels"),
    "data as logits": (["fit", "d.npz"], "has no array named logits"),
    "a model as logits": (["fit", "m.onnx"], "'m.onnx'"),
    "an unpatched model to verify": (["verify", "m.onnx", "m.onnx", "--data", "d.npz"], "carries no calibration"),
    "an unpatched model to revert": (["revert", "m.onnx", "-o", "back.onnx"], "was not patched"),
    "revert onto the patched file": (["revert", "p.onnx", "-o", "p.onnx"], "'p.onnx' exists"),
    "a demo folder that is a file": (["demo", "m.onnx"], "m.onnx"),
    "no such shell": (["completion", "csh"], "'csh' is not one of"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_wrong_input_is_one_sentence_and_a_hint_and_no_file(what: str, cli: Any, work: Path) -> None:
    prepare(work)
    words, message = WRONG[what]
    before = contents(work)
    result = cli(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    first, *rest = result.stderr.rstrip("\n").split("\n")
    assert first.startswith("onnxcal: error: ")
    assert message in first
    assert "internal error" not in first
    assert "Traceback" not in result.stderr
    assert len(rest) == 1, result.stderr
    assert rest[0].startswith("  hint: ")
    assert {name: data for name, data in contents(work).items() if "__pycache__" not in name} == before


@pytest.mark.parametrize("what", ["no such model", "labels from 1", "an unknown option", "no temperature"])
@pytest.mark.parametrize("flag", ["--json", "-q", "-v"])
def test_an_error_is_the_same_in_json_quiet_and_verbose(what: str, flag: str, cli: Any, work: Path) -> None:
    prepare(work)
    words, message = WRONG[what]
    result = cli(*words, flag)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("onnxcal: error: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("flags", [[], ["--json"], ["-q"]])
def test_a_gate_that_is_exceeded_exits_1(flags: list[str], cli: Any, work: Path) -> None:
    (work / "m.calibrated.onnx").write_bytes(b"an older one")
    before = contents(work)
    result = cli(*CALIBRATE, "d.npz", "--max-ece", "1e-6", "--force", "--save-calibration", "cal.json", *flags)
    assert result.exit_code == 1
    if "--json" in flags:
        assert json.loads(result.stdout)["metrics"]["after"]["ece"] > 1e-6
    else:
        assert result.stdout == ""
    assert result.stderr.startswith("onnxcal: error: ECE after calibration is ")
    assert contents(work) == before


def test_an_internal_error_says_that_it_is_one(cli: Any, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxcal.pipeline

    def broken(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(onnxcal.pipeline, "collect", broken)
    result = cli(*CALIBRATE, "d.npz")
    assert result.exit_code == 2
    assert result.stderr.startswith("onnxcal: error: internal error: ZeroDivisionError: division by zero")
    assert "this is a bug in onnxcal" in result.stderr
    assert "Traceback" not in result.stderr
    with pytest.raises(ZeroDivisionError):
        cli(*CALIBRATE, "d.npz", "-v")
