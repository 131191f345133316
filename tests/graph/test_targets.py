"""`--target`: the table is what onnxruntime does, and a model that does not fit is not written."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import onnxruntime
import opset_gates
import pytest
from onnx import TensorProto, helper

import onnxcal
from onnxcal import GateError, UsageError
from onnxcal.graph.modelfile import open_model
from onnxcal.graph.targets import RELEASES, TargetFit, fits
from tests import builders
from tests.conftest import Cli

X, Y = builders.labelled_data(100)


def classifier(opset: int = 17, ir_version: int = 8) -> onnx.ModelProto:
    return builders.classifier([builders.softmax()], output="probs", opset=opset, ir_version=ir_version)


def fit(model: onnx.ModelProto, target: str = "onnxruntime==1.17") -> TargetFit:
    (found,) = fits(open_model(model), target)
    return found


def test_the_installed_onnxruntime_takes_what_the_table_says_and_nothing_newer(tmp_path: Path) -> None:
    version = ".".join(onnxruntime.__version__.split(".")[:2])
    if version not in RELEASES:
        pytest.skip(f"onnxruntime {version} is not in the table")
    onnxruntime.set_default_logger_severity(4)
    wrong = []
    for name in opset_gates.write_models(tmp_path):
        try:
            onnxruntime.InferenceSession(tmp_path / name)
            loads = True
        except Exception:
            loads = False
        (found,) = fits(open_model(tmp_path / name), f"onnxruntime=={version}")
        if found.passed != loads:
            wrong.append((name, loads, found.detail))
    assert wrong == []


@pytest.mark.parametrize(("version", "ir"), [("1.15", 9), ("1.17", 9), ("1.19", 10), ("1.22", 10), ("1.31", 13)])
def test_the_highest_ir_is_the_one_that_was_found_by_others(version: str, ir: int) -> None:
    assert RELEASES[version].ir == ir


@pytest.mark.parametrize(
    ("opset", "ir", "said"),
    [
        (20, 9, None),
        (21, 9, "opset ai.onnx 21 is newer than 20"),
        (20, 10, "IR version 10 is newer than 9"),
        (7, 3, None),
    ],
)
def test_what_is_newer_than_the_target_does_not_fit(opset: int, ir: int, said: str | None) -> None:
    found = fit(classifier(opset, ir))
    assert found.passed == (said is None)
    assert (said or "operators fit") in found.detail
    if said is not None:
        assert "serve it with onnxruntime 1.18 or later" in found.remedy
        assert f"opset {min(opset, 20)} and IR 9" in found.remedy


def test_operators_of_other_domains_do_not_fit_unless_the_model_defines_them() -> None:
    model = classifier()
    model.graph.node[0].op_type, model.graph.node[0].domain = "MyGemm", "my.domain"
    model.opset_import.append(helper.make_opsetid("my.domain", 1))
    assert "my.domain::MyGemm is no operator of onnxruntime" in fit(model).detail
    gemm = helper.make_node("Gemm", ["x", "w", "b"], ["z"])
    opset = [helper.make_opsetid("", 21)]
    function = helper.make_function("my.domain", "MyGemm", ["x", "w", "b"], ["z"], [gemm], opset)
    model.functions.append(function)
    assert fit(model).detail.startswith("opset ai.onnx 21 is newer")
    model.functions[0].opset_import[0].version = 17
    assert fit(model).passed


def test_operators_for_training_are_in_no_onnxruntime_for_inference() -> None:
    model = classifier()
    model.graph.node.append(helper.make_node("Adam", ["r", "t", "x", "g", "v", "h"], ["new"]))
    model.graph.node[-1].domain = "ai.onnx.preview.training"
    assert "ai.onnx.preview.training::Adam is no operator of onnxruntime" in fit(model).detail


@pytest.mark.parametrize(("op_type", "opset"), [("Gemm", 6), ("Upsample", 17)])
def test_what_onnxruntime_has_no_more_does_not_fit(op_type: str, opset: int) -> None:
    """Opsets below 7, and operators that theirs has struck out: onnxruntime itself refuses both."""
    version = ".".join(onnxruntime.__version__.split(".")[:2])
    if version not in RELEASES:
        pytest.skip(f"onnxruntime {version} is not in the table")
    model = classifier(opset)
    node = helper.make_node("Upsample", ["logits", "scales"], ["probs"]) if op_type == "Upsample" else None
    if node is not None:
        model.graph.node[1].CopyFrom(node)
        model.graph.initializer.append(helper.make_tensor("scales", TensorProto.FLOAT, [2], [1.0, 1.0]))
    with pytest.raises(Exception, match=r"NOT_IMPLEMENTED|INVALID_GRAPH|deprecated"):
        onnxruntime.InferenceSession(model.SerializeToString())
    assert not fit(model, f"onnxruntime=={version}").passed


def test_the_remedy_names_what_is_to_be_lower() -> None:
    model = classifier()
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 4))
    remedy = "serve it with onnxruntime 1.17 or later, or export the model again with opset 17, ai.onnx.ml 3 and IR 9"
    assert fit(model, "onnxruntime==1.16").remedy == remedy
    assert fit(classifier(99)).remedy == "no version takes it: export the model again with opset 20 and IR 9"
    assert fit(classifier(6)).remedy == "export the model again with opset 7 and IR 9"


def test_operators_that_the_opset_does_not_define_do_not_fit() -> None:
    gelu = helper.make_node("Gelu", ["logits"], ["probs"])
    assert fit(builders.classifier([gelu], output="probs", opset=20)).passed
    found = fit(builders.classifier([gelu], output="probs", opset=17))
    assert found.detail == "ai.onnx::Gelu is no operator of the opset that it is imported with"
    assert found.remedy == "export the model again with an opset that has its operators"


def test_a_model_that_does_not_fit_is_not_written(tmp_path: Path) -> None:
    model = builders.save(classifier(21, 10), tmp_path / "m.onnx")
    out = tmp_path / "o.onnx"
    for target in ("onnxruntime==1.17", ["onnxruntime==1.19", "onnxruntime==1.17.3"]):
        with pytest.raises(GateError, match=r"does not fit onnxruntime==1\.17"):
            onnxcal.calibrate(model, (X, Y), output=out, target=target)
        with pytest.raises(GateError, match="nothing was written"):
            onnxcal.patch(model, temperature=2.0, output=out, target=target)
    assert not out.exists()
    assert onnxcal.patch(model, temperature=2.0, output=out, target="onnxruntime==1.19").targets[0].passed
    (check,) = onnxcal.calibrate(model, (X, Y), output=out, force=True, target="onnxruntime==1.19").gates
    assert (check.name, check.passed) == ("target onnxruntime==1.19", True)


@pytest.mark.parametrize(
    "target", ["onnxruntime", "onnxruntime==", "onnxruntime>=1.17", "tract==0.2", "onnxruntime==9.9"]
)
def test_a_target_that_is_not_known_is_refused(target: str) -> None:
    with pytest.raises(UsageError, match="target"):
        onnxcal.inspect(classifier(), target=target)


def test_on_the_command_line(tmp_path: Path, cli: Cli) -> None:
    builders.save(classifier(21, 10), tmp_path / "m.onnx")
    words = ["inspect", tmp_path / "m.onnx", "--target", "onnxruntime==1.17"]
    done = cli(*words)
    assert done.exit_code == 1
    assert "FAILED onnxruntime==1.17: IR version 10 is newer than 9" in " ".join(done.stdout.split())
    assert json.loads(cli(*words, "--json").stdout)["targets"][0]["passed"] is False
    quiet = cli(*words, "-q")
    assert (quiet.exit_code, quiet.stdout) == (1, "")
    assert "opset 20 and IR 9" in quiet.stderr
    assert cli("inspect", tmp_path / "m.onnx", "--target", "onnxruntime==1.18").exit_code == 0
