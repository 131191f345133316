"""`module:callable` and `file.py:callable`."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from onnxcal.data import open_source
from onnxcal.errors import DataError, UsageError
from tests.reference.refusals import refused

LOADER = """
import numpy as np

calls = 0
number = 3


def batches():
    global calls
    calls += 1
    for start in (0, 2):
        yield np.full((2, 3), start + calls, np.float32), np.array([0, 1])


def as_list():
    return [(np.ones((4, 3), np.float32), [0, 1, 0, 1])]


class Reader:
    def __iter__(self):
        return batches()


def failing():
    yield np.ones((2, 3), np.float32), np.array([0, 1])
    raise ValueError("the second file is missing")


def broken():
    return np.load("nowhere.npy")


def needy(path):
    yield from batches()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with a module and a package in it; forgotten again afterwards."""
    (tmp_path / "loader_of_test.py").write_text(LOADER)
    (tmp_path / "package_of_test").mkdir()
    (tmp_path / "package_of_test" / "__init__.py").write_text("")
    (tmp_path / "package_of_test" / "inner.py").write_text(LOADER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if "_of_test" in name or name.startswith("onnxcal_data_"):
            del sys.modules[name]


@pytest.fixture(params=["loader_of_test", "package_of_test.inner", "loader_of_test.py", "package_of_test/inner.py"])
def where(request, folder):
    """What stands before the colon."""
    return request.param


def test_the_callable_makes_the_batches(where):
    batches = list(open_source(f"{where}:batches").batches(1000))
    assert [batch.size for batch in batches] == [2, 2]
    np.testing.assert_array_equal(batches[1].inputs[0], np.full((2, 3), 3))
    np.testing.assert_array_equal(batches[0].labels, [0, 1])


def test_each_reading_calls_it_anew(where):
    source = open_source(f"{where}:batches")
    firsts = [next(iter(source.batches(1000))).inputs[0][0, 0] for _ in range(3)]
    assert firsts == [1, 2, 3]


@pytest.mark.parametrize("attribute", ["as_list", "Reader"])
def test_anything_that_gives_batches_when_called_will_do(folder, attribute):
    assert sum(batch.size for batch in open_source(f"loader_of_test:{attribute}").batches(1000)) == 4


def test_batches_are_cut_to_size(where):
    assert [batch.size for batch in open_source(f"{where}:as_list").batches(3)] == [3, 1]


def test_an_absolute_path_will_do(folder):
    assert next(iter(open_source(f"{folder}/loader_of_test.py:batches").batches(1000))).size == 2


def test_opening_calls_nothing(folder):
    open_source("loader_of_test:batches")
    assert sys.modules["loader_of_test"].calls == 0


@pytest.mark.parametrize(
    ("spec", "name"), [("loader_of_test:batches", None), ("package_of_test/inner.py:batches", "inner.py:batches")]
)
def test_messages_call_it_by_its_name(folder, spec, name):
    assert open_source(spec).name == (name or spec)


def test_a_file_may_define_dataclasses(folder):
    (folder / "records_of_test.py").write_text(
        "from __future__ import annotations\n"
        "import dataclasses\nimport numpy as np\n\n\n"
        "@dataclasses.dataclass\nclass Record:\n    size: int = 2\n\n\n"
        "def batches():\n    yield np.ones((Record().size, 3)), np.zeros(2, int)\n"
    )
    assert next(iter(open_source("records_of_test.py:batches").batches(1000))).size == 2


# What is refused


@pytest.mark.parametrize("attribute", ["nope", "number", ""])
def test_a_missing_callable_is_refused_with_those_there_are(where, attribute):
    with refused(DataError, f"'{where}' has no callable '{attribute}'", hint="batches"):
        open_source(f"{where}:{attribute}")


def test_a_module_without_callables_says_so(folder):
    (folder / "bare_of_test.py").write_text("number = 3\n")
    with refused(DataError, "no callable 'batches'", hint="no callables at all"):
        open_source("bare_of_test:batches")


@pytest.mark.parametrize("where", ["nope_of_test", "package_of_test.nope", "nope_of_test.inner"])
def test_a_missing_module_is_refused(folder, where):
    with refused(DataError, f"cannot import '{where}'", "No module named"):
        open_source(f"{where}:batches")


@pytest.mark.parametrize("where", ["nope_of_test.py", "nowhere/loader_of_test.py"])
def test_a_missing_file_is_refused(folder, where):
    with refused(DataError, f"cannot read '{where}'", "no such file", hint="before the colon"):
        open_source(f"{where}:batches")


def test_a_folder_with_a_file_name_is_refused(folder):
    (folder / "folder_of_test.py").mkdir()
    with refused(DataError, "cannot read 'folder_of_test.py'"):
        open_source("folder_of_test.py:batches")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nowhere_of_test\n", "ModuleNotFoundError: No module named 'nowhere_of_test'"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("def batches(:\n", "SyntaxError"),
        ("from dataclasses import nothing\n", "ImportError"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".py"])
def test_what_goes_wrong_at_import_is_named(folder, source, said, suffix):
    (folder / "wrong_of_test.py").write_text(source)
    with pytest.raises(DataError) as caught:
        open_source(f"wrong_of_test{suffix}:batches")
    assert f"cannot import 'wrong_of_test{suffix}'" in caught.value.message
    assert said in caught.value.message
    assert caught.value.__cause__ is not None


def test_what_goes_wrong_inside_is_named(where):
    with refused(DataError, ":failing raised ValueError: the second file is missing"):
        list(open_source(f"{where}:failing").batches(1000))


def test_what_goes_wrong_in_the_call_is_named(where):
    with refused(DataError, ":broken raised FileNotFoundError", "nowhere.npy"):
        list(open_source(f"{where}:broken").batches(1000))


def test_a_callable_that_wants_arguments_is_refused(where):
    with refused(DataError, ":needy raised TypeError", "'path'"):
        list(open_source(f"{where}:needy").batches(1000))


def test_labels_beside_a_callable_are_refused(folder):
    with refused(UsageError, "--labels", "loader_of_test:batches"):
        list(open_source("loader_of_test:batches", np.zeros(4, int)).batches(1000))
