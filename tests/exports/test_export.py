"""Exported models compute softmax(z/T) in their own runtime; what does not is not left behind."""

from __future__ import annotations

import ctypes
import errno
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy.special import softmax

import onnxcal
from onnxcal import ModelError, UsageError, VerificationError, atomic
from onnxcal.exports import formats
from onnxcal.inference.runtimes import registry
from onnxcal.inference.runtimes.parts import Distribution
from tests import builders
from tests.cli.conftest import contents
from tests.conftest import Cli
from tests.inference.runtimes import faulty
from tests.inference.runtimes.test_graphs import qdq

X, Y = builders.labelled_data(32)
MODEL = builders.classifier()
T = 2.5


def expected() -> np.ndarray:
    w, b = (numpy_helper.to_array(tensor).astype(np.float64) for tensor in MODEL.graph.initializer)
    return np.asarray(softmax((X.astype(np.float64) @ w + b) / T, axis=1))


@pytest.fixture
def patched(tmp_path: Path) -> Path:
    builders.save(MODEL, tmp_path / "m.onnx")
    onnxcal.patch(tmp_path / "m.onnx", temperature=T, output=tmp_path / "p.onnx")
    return tmp_path / "p.onnx"


def test_ort_is_right_and_keeps_the_metadata_and_says_which_operators_the_patch_needs(patched: Path, cli: Cli) -> None:
    done = cli("export", patched, "--to", "ort", "--json")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    session = onnxruntime.InferenceSession(patched.with_suffix(".ort"))
    np.testing.assert_allclose(session.run(None, {"x": X})[0], expected(), rtol=0, atol=1e-6)
    heads = json.loads(session.get_modelmeta().custom_metadata_map["onnxcal.calibration"])["heads"]
    assert heads[0]["calibration"]["temperature"] == T
    assert {name.partition(" ")[0] for name in result["operators_added"]} == {"Div", "Softmax"}
    config = patched.with_suffix(".required_operators.config").read_text()
    listed = {name for line in config.splitlines() for name in line.split(";")[2].split(",")}
    assert listed == {"Div", "Gemm", "Softmax"}
    assert str(patched.parent) not in config
    runtimes = result["verification"]["runtimes"]
    assert [(entry["name"], entry["setting"]) for entry in runtimes[1:4]] == [
        ("onnxruntime", "off"),
        ("onnxruntime", "basic"),
        ("onnxruntime", "all"),
    ]
    assert all(entry["passed"] for entry in runtimes)


def test_openvino_is_right_uncompressed_and_keeps_the_metadata(patched: Path) -> None:
    openvino = pytest.importorskip("openvino")
    onnxcal.export(patched, to="openvino", data=X)
    onnxcal.export(patched, patched.with_name("small.xml"), to="openvino", compress=True, data=X)
    errors = []
    for name in ("p.xml", "small.xml"):
        model = openvino.Core().read_model(patched.with_name(name))
        compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        errors.append(np.abs(compiled([X])[0] - expected()).max())
        kept = json.loads(model.get_rt_info(["onnxcal", "calibration"]).value)
        assert kept["heads"][0]["calibration"]["temperature"] == T
    assert errors[0] < 1e-6 < errors[1] < 1e-2


def test_c_is_right_and_has_its_calibration_beside_it(patched: Path) -> None:
    pytest.importorskip("emx_onnx_cgen")
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    result = onnxcal.export(patched, to="c", data=X, runtime_samples=4)
    library = patched.with_suffix(".so")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, patched.with_suffix(".c"), "-lm"], check=True)
    function = ctypes.CDLL(str(library)).classify
    for x, p in zip(X, expected(), strict=True):
        found = np.empty(4, np.float32)
        function(np.ascontiguousarray(x).ctypes.data_as(ctypes.c_void_p), found.ctypes.data_as(ctypes.c_void_p))
        np.testing.assert_allclose(found, p, rtol=0, atol=1e-6)
    sidecar = json.loads(patched.with_name("p.c.calibration.json").read_text())
    assert sidecar["heads"][0]["calibration"]["temperature"] == T
    assert sidecar["model"]["sha256"] == result.model.sha256
    assert str(patched.parent) not in patched.with_suffix(".c").read_text()


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a runtime and format `faulty` known, with a fault."""
    real = registry.find_runtime
    runtimes = {"faulty": faulty.RUNTIME}
    monkeypatch.setattr(registry, "NAMES", (*registry.NAMES, "faulty"))
    monkeypatch.setattr(registry, "find_runtime", lambda name: runtimes.get(name) or real(name))
    form = formats.Format("faulty", "faulty", ".faulty", (formats.SIDECAR,))
    monkeypatch.setitem(formats.FORMATS, "faulty", form)

    def plant(name: str, **changes: Any) -> None:
        monkeypatch.setenv(faulty.FAULT, name)
        runtimes["faulty"] = replace(faulty.RUNTIME, **changes)

    return plant


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("garbage", VerificationError, "mis-runs the model"),
        ("ignores T", VerificationError, "wrong only after: the patch"),
        ("drops a class", VerificationError, "has shape"),
        ("converter changes T", VerificationError, "wrong only after: the patch"),
        ("converter drops the Div", VerificationError, "wrong only after: the patch"),
        ("converter refuses", ModelError, r"refuses '.*p\.onnx': Div is not known"),
        ("converter crashes", ModelError, "SIGSEGV"),
        ("converter makes nothing", ModelError, r"made no after\.faulty"),
    ],
)
def test_what_is_wrong_is_not_left_behind(
    name: str, error: type[Exception], said: str, fault: Any, patched: Path
) -> None:
    fault(name)
    patched.with_suffix(".faulty").write_text("older")
    before = contents(patched.parent)
    with pytest.raises(error, match=said):
        onnxcal.export(patched, to="faulty", data=X, force=True)
    assert contents(patched.parent) == before


def test_a_file_that_cannot_be_placed_takes_the_others_back(
    fault: Any, patched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault("right")
    patched.with_suffix(".faulty").write_text("older")
    before = contents(patched.parent)
    real = atomic.place

    def full_disk(temporary: Path, target: Path) -> None:
        if target.suffix == ".json":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(temporary, target)

    monkeypatch.setattr(atomic, "place", full_disk)
    with pytest.raises(UsageError, match=r"cannot write .*p\.faulty\.calibration\.json"):
        onnxcal.export(patched, to="faulty", data=X, force=True)
    assert contents(patched.parent) == before


def test_a_missing_converter_is_named_with_its_command_before_any_work(fault: Any, patched: Path) -> None:
    fault("right", parts=(Distribution(("no-such-converter",)),), install="pip install no-such-converter")
    with pytest.raises(UsageError, match="no-such-converter is missing") as caught:
        onnxcal.export(patched.with_name("not-looked-at.onnx"), to="faulty")
    assert caught.value.hint == "pip install no-such-converter"


def test_without_data_inputs_are_drawn_and_that_is_said(patched: Path, fault: Any) -> None:
    fault("right")
    result = onnxcal.export(patched, to="faulty")
    assert result.verification is not None
    assert result.verification.passed
    assert any("drawn inputs: --data verifies it on yours" in line for line in result.warnings)
    fault("garbage")
    with pytest.raises(VerificationError) as caught:
        onnxcal.export(patched, to="faulty", force=True)
    assert "pass --data" in (caught.value.hint or "")


def test_scores_there_leave_out_what_is_to_be_ignored(patched: Path, fault: Any) -> None:
    fault("right")
    kept = Y != 0
    result = onnxcal.export(patched, to="faulty", data=(X, np.where(kept, Y, 255)), ignore_index=255)
    assert result.verification is not None
    nll = -np.log(expected()[kept, Y[kept]]).mean()
    assert result.verification.runtimes[1].nll == pytest.approx(nll, rel=1e-5)


def test_what_needs_files_that_will_not_be_there_is_wrong(tmp_path: Path, fault: Any) -> None:
    """A converter that leaves weights in the .onnx file's external data must not pass because those lie beside it."""
    fault("right")
    onnx.save(  # noqa: TID251  external data are what is wanted
        builders.classifier(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    onnxcal.patch(tmp_path / "m.onnx", temperature=T, output=tmp_path / "p.onnx")
    with pytest.raises(VerificationError, match="runs the unpatched model, but not the patched one"):
        onnxcal.export(tmp_path / "p.onnx", to="faulty", data=X)


def test_a_folded_model_takes_its_original(tmp_path: Path, fault: Any) -> None:
    fault("right")
    builders.save(MODEL, tmp_path / "m.onnx")
    onnxcal.patch(tmp_path / "m.onnx", temperature=T, fold=True, output=tmp_path / "p.onnx")
    with pytest.raises(ModelError):
        onnxcal.export(tmp_path / "p.onnx", to="faulty", data=X)
    result = onnxcal.export(tmp_path / "p.onnx", to="faulty", data=X, original=tmp_path / "m.onnx")
    assert result.temperatures == {"logits": T}


def test_a_quantised_model_gets_no_recipe_for_tflite_and_a_float_model_does(tmp_path: Path, patched: Path) -> None:
    builders.save(qdq(), tmp_path / "q.onnx")
    onnxcal.patch(tmp_path / "q.onnx", temperature=T, output=tmp_path / "qp.onnx")
    with pytest.raises(ModelError, match="onnx2tf makes a wrong model"):
        onnxcal.export(tmp_path / "qp.onnx", to="tflite-recipe")
    assert not (tmp_path / "qp.md").exists()
    result = onnxcal.export(patched, to="tflite-recipe")
    assert result.verification is None
    assert f"'logits' with T = {T}" in patched.with_suffix(".md").read_text()


def test_a_recipe_tells_only_a_temperature_that_the_file_has(patched: Path) -> None:
    model = onnx.ModelProto.FromString(patched.read_bytes())
    entry = next(entry for entry in model.metadata_props if entry.key == "onnxcal.calibration")
    told = entry.value
    for field, said in ((f'"temperature":{T}', '"temperature":3.5'), ('"output":"logits"', '"output":"others"')):
        assert field in told
        entry.value = told.replace(field, said)
        builders.save(model, patched.with_name("changed.onnx"))
        with pytest.raises(VerificationError, match="untouched bytes"):
            onnxcal.export(patched.with_name("changed.onnx"), to="tflite-recipe")
    assert not patched.with_name("changed.md").exists()


def test_a_recipe_for_a_folded_model_takes_its_original(tmp_path: Path, patched: Path) -> None:
    folded = tmp_path / "f.onnx"
    onnxcal.patch(tmp_path / "m.onnx", temperature=T, fold=True, output=folded)
    with pytest.raises(ModelError, match="folded into the weights"):
        onnxcal.export(folded, to="tflite-recipe")
    assert onnxcal.export(folded, to="tflite-recipe", original=patched).temperatures == {"logits": T}


def test_a_recipe_spares_the_file_and_goes_by_the_names_of_all_inputs_and_calibrated_outputs(tmp_path: Path) -> None:
    """onnx2tf 1.29 writes over the file that it is given, and turned the outputs of a two-headed model round."""
    builders.save(with_matmul(), tmp_path / "m.onnx")
    onnxcal.patch(tmp_path / "m.onnx", temperature=T, output=tmp_path / "p.onnx", head="second")
    onnxcal.export(tmp_path / "p.onnx", to="tflite-recipe")
    shell, python = re.findall(r"```\w+\n(.*?)```", (tmp_path / "p.md").read_text(), re.DOTALL)
    (converted,) = re.findall(r"onnx2tf -i (\S+) -o litert", shell)
    assert Path(converted) not in (tmp_path / "p.onnx", tmp_path / "m.onnx")
    assert f"cp {tmp_path / 'p.onnx'} {converted}\n" in shell
    assert f"litert/{Path(converted).stem}_float32.tflite" in python
    assert "names = ['second']" in python
    assert "inputs = {'x': ..., 'y': ...}" in python


@pytest.mark.parametrize("to", ["faulty", "tflite-recipe"])
def test_a_temperature_that_is_no_input_any_more_is_said(to: str, tmp_path: Path, fault: Any) -> None:
    fault("right")
    builders.save(MODEL, tmp_path / "m.onnx")
    onnxcal.patch(tmp_path / "m.onnx", temperature=T, runtime_temperature=True, output=tmp_path / "p.onnx")
    (said,) = (line for line in onnxcal.export(tmp_path / "p.onnx", to=to).warnings if "set-temperature" in line)
    assert said.startswith(f"'onnxcal_temperature' is an input in onnxruntime only: --to {to} fixes T = {T}")


def test_ort_keeps_the_temperature_an_input_and_explains_operators_that_the_patch_does_not_have(tmp_path: Path) -> None:
    """onnxruntime's converter makes one FusedMatMul of a MatMul and a division by a constant."""
    builders.save(with_matmul(), tmp_path / "m.onnx")
    onnxcal.patch(tmp_path / "m.onnx", temperature=T, output=tmp_path / "p.onnx", head="first")
    result = onnxcal.export(tmp_path / "p.onnx", to="ort")
    assert "FusedMatMul (com.microsoft 1)" in result.operators_added
    assert any(line.startswith("the patch itself has no FusedMatMul: ") for line in result.warnings)

    builders.save(MODEL, tmp_path / "m.onnx")
    onnxcal.patch(tmp_path / "m.onnx", temperature=T, output=tmp_path / "p.onnx", runtime_temperature=True, force=True)
    result = onnxcal.export(tmp_path / "p.onnx", to="ort", force=True)
    assert not any("set-temperature" in line or "the patch itself" in line for line in result.warnings)
    session = onnxruntime.InferenceSession(tmp_path / "p.ort")
    fed = {"x": X, "onnxcal_temperature": np.array([1.0], np.float32)}
    np.testing.assert_allclose(session.run(None, fed)[0], softmax(T * np.log(expected()), axis=1), rtol=0, atol=1e-5)


def with_matmul() -> onnx.ModelProto:
    """x, y → MatMul of their difference → Softmax: `first`; → Sigmoid of its double: `second`."""
    nodes = [
        helper.make_node("Sub", ["x", "y"], ["h"], name="sub"),
        helper.make_node("MatMul", ["h", "w"], ["logits"], name="fc"),
        helper.make_node("Softmax", ["logits"], ["first"], axis=1, name="softmax"),
        helper.make_node("MatMul", ["y", "w"], ["scores"], name="fc2"),
        helper.make_node("Sigmoid", ["scores"], ["second"], name="sigmoid"),
    ]
    sizes = {"x": 6, "y": 6, "first": 4, "second": 4}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size]) for name, size in sizes.items()]
    w = numpy_helper.from_array(np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32), "w")
    return builders.model(helper.make_graph(nodes, "two heads", values[:2], values[2:], [w]))


@pytest.mark.parametrize("to", ["mnn", "ncnn"])
def test_external_data_and_integers_come_along_or_are_refused(to: str, tmp_path: Path) -> None:
    runtime = registry.find_runtime(to)
    if runtime.missing:
        pytest.skip(f"{to} is not installed: {runtime.install}")
    onnx.save(  # noqa: TID251  external data are what is wanted
        builders.classifier(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    onnxcal.patch(tmp_path / "m.onnx", temperature=T, output=tmp_path / "p.onnx")
    verification = onnxcal.export(tmp_path / "p.onnx", to=to, data=X).verification
    assert verification is not None
    assert verification.passed

    builders.save(of_integers(), tmp_path / "i.onnx")
    onnxcal.patch(tmp_path / "i.onnx", temperature=T, output=tmp_path / "ip.onnx")
    if to == "ncnn":
        with pytest.raises(ModelError, match="its inputs are float32 here, and input 'ids' is int64"):
            onnxcal.export(tmp_path / "ip.onnx", to=to)
    else:
        verification = onnxcal.export(tmp_path / "ip.onnx", to=to).verification
        assert verification is not None
        assert verification.passed


def of_integers() -> onnx.ModelProto:
    """ids → Gather of logits by the first → Softmax."""
    table = numpy_helper.from_array(np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32), "table")
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["found"], name="gather"),
            helper.make_node("ReduceMean", ["found"], ["logits"], axes=[1], keepdims=0, name="mean"),
            helper.make_node("Softmax", ["logits"], ["probs"], axis=1, name="softmax"),
        ],
        "embedding",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", 3])],
        [helper.make_tensor_value_info("probs", TensorProto.FLOAT, ["N", 4])],
        [table],
    )
    return builders.model(graph)


def test_free_sizes_need_data_where_sizes_are_fixed(tmp_path: Path, fault: Any) -> None:
    fault("right", single=True)
    from tests.inference.runtimes.test_graphs import dense

    model = dense(17)
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "side"
    builders.save(model, tmp_path / "m.onnx")
    onnxcal.patch(tmp_path / "m.onnx", temperature=T, output=tmp_path / "p.onnx")
    with pytest.raises(UsageError, match="has free sizes"):
        onnxcal.export(tmp_path / "p.onnx", to="faulty")


def test_on_the_command_line(patched: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(patched.parent)
    done = cli("export", "p.onnx", "--to", "tflite-recipe", "--json")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["files"], document["verification"]) == (["p.md"], None)
    again = cli("export", "p.onnx", "--to", "tflite-recipe")
    assert (again.exit_code, again.stdout) == (2, "")
    assert "'p.md' exists" in again.stderr
    for words, said in (
        (["m.onnx", "--to", "ort", "-o", "x.ort"], "carries no calibration"),
        (["p.onnx", "--to", "ort", "-o", "x.xml"], "does not end in .ort"),
        (["p.onnx", "--to", "ort", "--compress"], "--compress does nothing with --to ort"),
        (["p.onnx", "--to", "ort", "--labels", "y.npy", "-o", "x.ort"], "--labels does nothing without --data"),
        (["p.onnx", "--to", "tflite-recipe", "--data", "d.npz", "-o", "x.md"], "--data does nothing"),
    ):
        refused = cli("export", *words)
        assert (refused.exit_code, refused.stdout) == (2, ""), words
        assert said in refused.stderr


def test_the_formats_of_the_command_line_are_those_that_there_are() -> None:
    from onnxcal.cli.export import FORMATS

    assert tuple(formats.FORMATS) == FORMATS


def test_a_folded_model_without_its_original_is_told_the_option(tmp_path: Path, fault: Any) -> None:
    fault("right")
    builders.save(MODEL, tmp_path / "m.onnx")
    onnxcal.patch(tmp_path / "m.onnx", temperature=T, fold=True, output=tmp_path / "p.onnx")
    with pytest.raises(ModelError) as refused:
        onnxcal.export(tmp_path / "p.onnx", to="faulty", data=X)
    assert "--original" in (refused.value.hint or "")
    assert "revert" not in (refused.value.hint or "")


def test_an_original_of_something_else_is_refused(patched: Path, fault: Any) -> None:
    fault("right")
    other = builders.save(builders.classifier(seed=5), patched.with_name("other.onnx"))
    with pytest.raises(ModelError, match=r"other\.onnx' is not the model that .*p\.onnx' was made from"):
        onnxcal.export(patched, to="faulty", data=X, original=other)


def test_a_patched_form_of_the_original_counts_without_its_patch(tmp_path: Path, patched: Path) -> None:
    folded = tmp_path / "f.onnx"
    onnxcal.patch(tmp_path / "m.onnx", temperature=T, fold=True, output=folded)
    by = {name: onnxcal.export(folded, tmp_path / f"{name}.ort", to="ort", data=X, original=tmp_path / f"{name}.onnx")
          for name in ("m", "p")}  # fmt: skip
    assert any(line.startswith("Softmax") for line in by["m"].operators_added)
    assert by["p"].operators_added == by["m"].operators_added
