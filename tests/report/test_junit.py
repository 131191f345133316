"""The JUnit file that CI reads, held against the rules of Jenkins' schema (junit-10.xsd), written down here apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest

import onnxcal
from onnxcal.errors import GateError, UsageError, VerificationError
from onnxcal.report.junit import junit_report
from onnxcal.verification import Check, RuntimeCheck, Verification, VerifyResult
from tests import builders
from tests.cli.conftest import work  # noqa: F401  a fixture

ATTRIBUTES = {
    "testsuites": {"name", "time", "tests", "failures", "disabled", "errors"},
    "testsuite": {"name", "tests", "failures", "errors", "time", "disabled", "skipped", "timestamp", "hostname", "id",
                  "package", "file", "log", "url", "version"},
    "testcase": {"name", "assertions", "time", "classname", "status", "class", "file", "line", "log", "group", "url"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
    "system-out": set(),
}  # fmt: skip
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"testcase"},
    "testcase": {"failure", "error", "system-out"},
}
HOSTILE = "a<b>&\"'\x00\x08\x1b]]>\ufffe\ud800\u202e\n"


def read(path: Path) -> ElementTree.Element:
    """The one suite of a file, after a look at everything in it."""
    root = ElementTree.fromstring(path.read_bytes())
    assert root.tag == "testsuites"
    for element in root.iter():
        assert set(element.attrib) <= ATTRIBUTES[element.tag]
        assert {child.tag for child in element} <= CHILDREN.get(element.tag, set())
    (suite,) = root
    for holder in (root, suite):
        assert int(holder.attrib["tests"]) == len(suite)
        assert int(holder.attrib["failures"]) == len(suite.findall("testcase/failure"))
        assert int(holder.attrib["errors"]) == len(suite.findall("testcase/error"))
        assert float(holder.attrib["time"]) >= 0
    assert all(case.attrib["name"] and case.attrib["classname"] and len(case) == 1 for case in suite)
    return suite


def names(suite: ElementTree.Element, kind: str) -> list[str]:
    return [case.attrib["name"] for case in suite if case.find(kind) is not None]


@pytest.mark.usefixtures("work")
class TestCommands:
    """What `calibrate` and `verify` leave; run in the folder of the command line's tests."""

    def test_every_check_of_a_verification_is_a_test(self, cli: Any) -> None:
        assert cli("verify", "m.onnx", "p.onnx", "--data", "d.npz", "--junit", "j.xml").exit_code == 0
        suite = read(Path("j.xml"))
        x = np.load("d.npz")["x"]
        assert names(suite, "system-out") == [c.name for c in onnxcal.verify("m.onnx", "p.onnx", x).verification.checks]

    def test_a_check_that_said_no_is_a_failure_with_its_finding(self, cli: Any) -> None:
        proto = onnx.ModelProto.FromString(Path("p.onnx").read_bytes())
        proto.graph.name = "another"
        builders.save(proto, Path("bad.onnx"))
        assert cli("verify", "m.onnx", "bad.onnx", "--data", "d.npz", "--junit", "j.xml").exit_code == 1
        suite = read(Path("j.xml"))
        assert names(suite, "failure") == ["untouched bytes"]
        (failure,) = suite.iter("failure")
        assert "byte for byte" in failure.attrib["message"]
        assert failure.text is not None

    def test_a_gate_that_said_no_is_a_failure_and_an_older_report_goes(self, cli: Any) -> None:
        assert cli("calibrate", "m.onnx", "--data", "d.npz", "-o", "o.onnx", "--junit", "j.xml").exit_code == 0
        assert names(read(Path("j.xml")), "failure") == []
        words = ["calibrate", "m.onnx", "--data", "d.npz", "-o", "q.onnx", "--max-ece", "1e-9", "--junit", "j.xml"]
        assert cli(*words).exit_code == 1
        suite = read(Path("j.xml"))
        assert len(names(suite, "failure")) == 1
        assert "--max-ece" in next(suite.iter("failure")).attrib["message"]
        assert not Path("q.onnx").exists()

    def test_what_cannot_be_used_is_an_error(self, cli: Any) -> None:
        assert cli("verify", "m.onnx", "p.onnx", "--data", "none.npz", "--junit", "j.xml").exit_code == 2
        suite = read(Path("j.xml"))
        assert (names(suite, "error"), names(suite, "failure")) == (["verify"], [])
        assert "none.npz" in next(suite.iter("error")).attrib["message"]

    @pytest.mark.parametrize("path", ["m.onnx", "d.npz", "p.onnx", "no/such/folder.xml"])
    def test_another_file_is_never_replaced(self, cli: Any, path: str) -> None:
        before = Path(path).read_bytes() if Path(path).exists() else None
        result = cli("verify", "m.onnx", "p.onnx", "--data", "d.npz", "--junit", path)
        assert result.exit_code == 2
        assert result.stderr.startswith("onnxcal: error:")
        assert (Path(path).read_bytes() if Path(path).exists() else None) == before

    def test_out_is_not_replaced_by_its_own_report(self, cli: Any) -> None:
        result = cli("calibrate", "m.onnx", "--data", "d.npz", "-o", "o.onnx", "--junit", "o.onnx")
        assert result.exit_code == 2
        assert not Path("o.onnx").exists()


def verification(name: str, *, passed: bool) -> Verification:
    check = Check(name, passed, 1.0, 0.5, f"{name}: too large")
    return Verification(passed, (RuntimeCheck("onnxruntime", "1", passed, 0.0, 0, 1),), (check,))


@pytest.mark.parametrize("passed", [True, False])
def test_no_name_makes_the_file_ill_formed(tmp_path: Path, passed: bool) -> None:
    path = tmp_path / "j.xml"
    with junit_report(path, "verify") as add:
        add(VerifyResult(verification(HOSTILE, passed=passed)))
    (case,) = read(path)
    assert case.attrib["name"].startswith("a<b>&\"'\\x00\\x08\\x1b]]>\\ufffe\\ud800\\u202e\\n")
    with pytest.raises(UsageError), junit_report(path, "verify"):
        raise UsageError(HOSTILE, hint=HOSTILE)
    read(path)


def test_the_checks_of_a_failed_verification_and_of_gates_are_all_there(tmp_path: Path) -> None:
    gates = [Check("max-ece", True, 0.01, 0.02, "fine"), Check("max-nll", False, 0.5, 0.4, "NLL is 0.5")]
    for error, expected in (
        (VerificationError("no", known={"verification": verification("x", passed=False)}), (["x"], ["x"])),
        (GateError("no", known={"gates": gates}), (["max-ece", "max-nll"], ["max-nll"])),
        (GateError("no"), (["calibrate"], ["calibrate"])),
    ):
        with pytest.raises(type(error)), junit_report(tmp_path / "j.xml", "calibrate"):
            raise error
        suite = read(tmp_path / "j.xml")
        assert ([case.attrib["name"] for case in suite], names(suite, "failure")) == expected


def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with junit_report(None, "verify") as add:
        add(VerifyResult(verification("x", passed=True)))
    assert list(tmp_path.iterdir()) == []
