"""The exception tree that the docstring of `errors.py` draws, and the exit code of each."""

from __future__ import annotations

import inspect
import re

import pytest

from onnxcal import errors

PARENTS = {
    "UsageError": "OnnxcalError",
    "ModelError": "OnnxcalError",
    "DataError": "OnnxcalError",
    "FitError": "DataError",
    "NoFiniteOptimum": "FitError",
    "UselessLogits": "FitError",
    "WorseThanChance": "FitError",
    "VerificationError": "OnnxcalError",
    "GateError": "OnnxcalError",
}
EXIT_CODES = {"VerificationError": 1, "GateError": 1}


def test_the_tree_is_complete():
    classes = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert classes == {"OnnxcalError", *PARENTS}


@pytest.mark.parametrize("name", PARENTS)
def test_each_error_has_its_parent_and_exit_code(name):
    error = getattr(errors, name)
    assert [base.__name__ for base in error.__bases__] == [PARENTS[name]]
    assert error.exit_code == EXIT_CODES.get(name, 2)


def test_the_docstring_draws_the_tree():
    drawn, path = {}, ["OnnxcalError"]
    for indent, name in re.findall(r"^    ([│├└── ]*?)(\w+Error|[A-Z]\w+)\b", errors.__doc__ or "", re.M):
        depth = len(indent) // 4
        path = [*path[:depth], name]
        if depth:
            drawn[name] = path[-2]
    assert drawn == PARENTS


def test_a_message_stands_alone_without_a_hint():
    assert str(errors.DataError("labels are missing")) == "labels are missing"
    assert errors.DataError("labels are missing").hint is None


def test_a_hint_follows_on_a_line_of_its_own():
    error = errors.DataError("labels are missing", hint="pass --labels y.npy")
    assert str(error) == "labels are missing\n  hint: pass --labels y.npy"
    assert (error.message, error.hint) == ("labels are missing", "pass --labels y.npy")
