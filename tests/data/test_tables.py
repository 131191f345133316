"""CSV and Parquet: which column is what, piece by piece, and what is refused."""

from __future__ import annotations

import gzip
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from onnxcal.data import open_source, tables
from onnxcal.errors import DataError, UsageError
from tests.reference.refusals import refused

FRAME = pd.DataFrame(
    {"age": [31, 40, 55, 62], "weight": [60.5, 81.25, 70.0, 90.75], "label": [0, 1, 1, 0]}
)  # fmt: skip
X = FRAME[["age", "weight"]].to_numpy(np.float64)


@dataclass(frozen=True)
class Input:
    """What a model declares."""

    shape: tuple[int | str | None, ...] | None
    dtype: str = "float32"


ONE = {"X": Input((None, 2))}
MIXED = {"weight": Input((None, 1)), "sex": Input((None, 1), "string"), "n": Input((None,), "int64")}
SUFFIXES = ("csv", "parquet", "tsv", "csv.gz")


def write(frame: pd.DataFrame, path):
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False, row_group_size=max(3, len(frame) // 8))
    else:
        frame.to_csv(path, index=False, sep="\t" if ".tsv" in path.name else ",")
    return path


@pytest.fixture
def table(tmp_path):
    """Write a frame, and give its path."""
    return lambda frame=FRAME, suffix="csv", name="data": write(frame, tmp_path / f"{name}.{suffix}")


def everything(source, size=1000):
    batches = list(source.batches(size))
    labels = None if batches[0].labels is None else np.concatenate([b.labels for b in batches])
    if isinstance(batches[0].inputs, tuple):
        return np.concatenate([b.inputs[0] for b in batches]), labels
    return {name: np.concatenate([b.inputs[name] for b in batches]) for name in batches[0].inputs}, labels


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_features_go_into_the_one_input_in_order(table, suffix, dtype):
    source = open_source(table(suffix=suffix), inputs={"X": Input((None, 2), dtype)})
    x, y = everything(source)
    assert x.dtype == dtype
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, FRAME["label"])
    assert source.n_samples == (4 if suffix == "parquet" else None)


def test_a_feature_that_is_called_as_the_input_of_all_features_is_one_of_them(table):
    x, _ = everything(open_source(table(), inputs={"age": Input((None, 2))}))
    np.testing.assert_array_equal(x, X)
    x, _ = everything(open_source(table(), inputs={"weight": Input((None, 1))}))
    np.testing.assert_array_equal(x["weight"], X[:, 1:])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_are_inputs_by_name(table, suffix):
    frame = FRAME.assign(sex=["f", "m", "f", ""], n=[1, 2, 3, 2**40], id=[9, 8, 7, 6])
    source = open_source(table(frame, suffix), inputs=MIXED)
    x, y = everything(source)
    assert {name: (array.shape, array.dtype) for name, array in x.items()} == {
        "weight": ((4, 1), np.float32), "sex": ((4, 1), object), "n": ((4,), np.int64),
    }  # fmt: skip
    assert x["sex"][:, 0].tolist() == ["f", "m", "f", ""]
    assert x["n"].tolist() == [1, 2, 3, 2**40]
    np.testing.assert_array_equal(y, FRAME["label"])
    assert any("left out: 'age', 'id'" in note for note in source.notes)


@pytest.mark.parametrize("name", ["labels", "label", "y", "target", "targets", "class"])
def test_labels_have_several_names_and_none_of_a_model_input(table, name):
    frame = FRAME.rename(columns={"label": name})
    np.testing.assert_array_equal(everything(open_source(table(frame), inputs=ONE))[1], FRAME["label"])
    inputs = {"age": ONE["X"], "weight": ONE["X"], name: ONE["X"]}
    assert everything(open_source(table(frame), inputs=inputs))[1] is None


def test_the_column_of_labels_may_be_named(table):
    frame = FRAME.rename(columns={"label": "Outcome"})
    x, y = everything(open_source(table(frame), inputs=ONE, label_column="Outcome"))
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, FRAME["label"])
    with refused(UsageError, "'outcome' for --label-column", hint="did you mean 'Outcome'?"):
        open_source(table(frame), inputs=ONE, label_column="outcome")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("values", [["no", "yes", "yes", "no"], ["0", "1", "1", "0"]], ids=["words", "digits"])
def test_labels_are_texts_where_the_model_names_its_classes(table, suffix, values):
    source = open_source(table(FRAME.assign(label=values), suffix), inputs=ONE, classes=["no", "yes"])
    assert everything(source)[1].tolist() == values


def test_categories_are_texts_and_truth_values_are_labels(table):
    frame = FRAME.assign(sex=pd.Categorical(["f", "m", "f", "m"]), n=1, label=[False, True, True, False])
    x, y = everything(open_source(table(frame, "parquet"), inputs=MIXED))
    assert x["sex"][:, 0].tolist() == ["f", "m", "f", "m"]
    np.testing.assert_array_equal(y, FRAME["label"])


def test_one_column_of_equally_long_lists_is_the_input(table):
    frame = pd.DataFrame({"pixels": [[[i, 1.0], [2.0, 3.0], [4.0, 5.0]] for i in range(4)], "y": FRAME["label"]})
    source = open_source(table(frame, "parquet"), inputs={"x": Input((None, 3, 2), "float64")})
    x, _ = everything(source)
    np.testing.assert_array_equal(x, [[[i, 1.0], [2.0, 3.0], [4.0, 5.0]] for i in range(4)])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_several_files_are_one_table(table, tmp_path, suffix, size):
    for number in range(3):
        table(FRAME.assign(age=FRAME["age"] + 100 * number), suffix, f"part-{number}")
    source = open_source(tmp_path / f"part-*.{suffix}", inputs=ONE)
    assert [b.size for b in source.batches(size)] == [min(size, 12 - start) for start in range(0, 12, size)]
    x, y = everything(source, size)
    np.testing.assert_array_equal(x[:, 0], [age + 100 * n for n in range(3) for age in FRAME["age"]])
    np.testing.assert_array_equal(y, [*FRAME["label"]] * 3)
    table(FRAME.rename(columns={"age": "years"}), suffix, "part-9")
    with refused(DataError, "part-9", "other columns"):
        open_source(tmp_path / f"part-*.{suffix}", inputs=ONE)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_long_table_is_read_piece_by_piece(table, suffix, monkeypatch):
    n = 30_000
    frame = pd.DataFrame({f"f{i}": np.arange(n) / 7 + i for i in range(4)}).assign(y=np.arange(n) % 3)
    path = table(frame, suffix)
    longest = 0
    original = tables.column_array

    def watched(column, *rest):
        nonlocal longest
        longest = max(longest, len(column))
        return original(column, *rest)

    monkeypatch.setattr(tables, "column_array", watched)
    source = open_source(path, inputs={"X": Input((None, 4), "float64")})
    x, y = everything(source, 64)
    np.testing.assert_array_equal(x, frame.iloc[:, :4].to_numpy())
    np.testing.assert_array_equal(y, frame["y"])
    assert longest < n


def test_whole_numbers_may_become_fractions_far_down_a_csv(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a,y\n" + "1,0\n" * 400_000 + "1.5,0\n")
    x, _ = everything(open_source(path, inputs={"X": Input((None, 1))}), 10_000)
    assert x[-1] == 1.5


# What is refused


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("column", "value"), [("age", None), ("weight", float("nan")), ("label", None)])
def test_a_missing_value_is_found(table, suffix, column, value):
    frame = FRAME.astype({"age": "Int64", "label": "Int64"})
    frame.loc[2, column] = value
    with refused(DataError, f"column '{column}' has no value in sample 2", hint="fill it in"):
        everything(open_source(table(frame, suffix), inputs=ONE))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("value", [None, 16_777_217])
def test_samples_are_counted_over_all_files(table, tmp_path, suffix, value):
    table(FRAME, suffix, "part-0")
    table(FRAME.astype({"age": "Int64"}).assign(age=[1, value, 3, 4]), suffix, "part-1")
    with refused(DataError, "column 'age'", "in sample 5"):
        everything(open_source(tmp_path / f"part-*.{suffix}", inputs=ONE))


def test_a_column_with_no_value_at_all_is_found(table):
    with refused(DataError, "column 'age' has no value in sample 0"):
        everything(open_source(table(FRAME.assign(age=None)), inputs=ONE))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_ids_that_the_input_cannot_hold_are_refused(table, suffix):
    frame = FRAME.assign(age=[1, 2, 16_777_217, 4])
    with refused(DataError, "column 'age'", "float32 cannot hold: 16777217 in sample 2", hint="an id"):
        everything(open_source(table(frame, suffix), inputs=ONE))
    x, _ = everything(open_source(table(frame, suffix), inputs={"X": Input((None, 2), "float64")}))
    assert x[2, 0] == 16_777_217


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_text_where_numbers_are_wanted_is_refused(table, suffix):
    with refused(DataError, "column 'age' holds text, the model wants float32", hint="encode"):
        everything(open_source(table(FRAME.assign(age=list("abcd")), suffix), inputs=ONE))


def test_numbers_where_text_is_wanted_are_refused(table):
    with refused(DataError, "column 'sex' holds int64, the model wants text"):
        everything(open_source(table(FRAME.assign(sex=1, n=1), "parquet"), inputs=MIXED))


def test_fractions_where_whole_numbers_are_wanted_are_refused(table):
    frame = FRAME.assign(sex="f", n=[1, 2, 3, 2.5])
    source = open_source(table(frame), inputs=MIXED)
    assert everything(source)[0]["n"].dtype == np.float64  # and no integer is made of it where inputs are checked


@pytest.mark.parametrize("kind", ["datetime64[ns]", "timedelta64[ns]"])
def test_dates_are_refused(table, kind):
    frame = FRAME.assign(age=np.arange(4).astype(kind))
    with refused(DataError, "column 'age' holds", "neither numbers nor text"):
        everything(open_source(table(frame, "parquet"), inputs=ONE))


def test_a_column_of_lists_named_as_the_only_input_is_that_and_others_are_left_out(table):
    frame = pd.DataFrame({"id": [7, 8], "x": [[1.0, 2.0], [3.0, 4.0]], "y": [0, 1]})
    source = open_source(table(frame, "parquet"), inputs={"x": Input((None, 2))})
    inputs, labels = everything(source)
    np.testing.assert_array_equal(inputs["x"], [[1, 2], [3, 4]])
    assert list(labels) == [0, 1]
    assert any("left out: 'id'" in note for note in source.notes)


def test_lists_of_different_lengths_are_refused(table):
    frame = pd.DataFrame({"x": [[1.0], [1.0, 2.0]], "y": [0, 1]})
    with refused(DataError, "column 'x' holds lists of different lengths", hint="pad"):
        everything(open_source(table(frame, "parquet"), inputs={"x": Input((None, 2))}))


COLUMNS = {
    "an id": (FRAME.assign(id=1), "3 feature columns ('age', 'weight', 'id')", "such as ids"),
    "an index": (FRAME.reset_index(names=""), "3 feature columns", "index=False"),
    "an index in place of a feature": (
        FRAME.drop(columns="age").reset_index(names="Unnamed: 0"), "column 'Unnamed: 0' looks like", "index=False",
    ),
    "labels of another name": (
        FRAME.rename(columns={"label": "outcome"}), "3 feature columns ('age', 'weight', 'outcome')", "--label-column",
    ),
    "labels only": (FRAME[["label"]], "no model inputs", "columns of features"),
}  # fmt: skip


@pytest.mark.parametrize("case", COLUMNS)
def test_columns_that_do_not_fit_are_listed(table, case):
    frame, said, hint = COLUMNS[case]
    with refused(DataError, said, hint=hint):
        open_source(table(frame), inputs=ONE)


def test_a_missing_input_is_answered_with_the_nearest_column(table):
    with refused(DataError, "lacks the model input 'sex'", hint="is 'sexe' it?"):
        open_source(table(FRAME.assign(sexe="f", n=1)), inputs=MIXED)


FILES = {
    "no header": ("data.csv", "1,2,0\n3,4,1\n", "holds numbers, not the names", "line of names"),
    "semicolons": ("data.csv", "a;b;y\n1;2;0\n", "not separated by commas", "with commas"),
    "commas in a tsv": ("data.tsv", "a|b|y\n1|2|0\n", "not separated by tabs", "tabs"),
    "nothing": ("data.csv", "", "not readable CSV", "write it again"),
    "a name twice": ("data.csv", "a,a,y\n1,2,0\n", "two columns 'a'", "name of its own"),
    "ragged": ("data.csv", "a,b,y\n1,2,0\n1,2\n", "not readable CSV", "write it again"),
    "no Parquet": ("data.parquet", "a,b,y\n1,2,0\n", "not readable Parquet", "write it again"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_not_what_it_is_called_is_refused(tmp_path, case):
    name, content, said, hint = FILES[case]
    (tmp_path / name).write_text(content)
    with refused(DataError, name, said, hint=hint):
        everything(open_source(tmp_path / name, inputs=ONE))


def test_a_broken_archive_is_refused(tmp_path):
    (tmp_path / "data.csv.gz").write_bytes(gzip.compress(b"a,b,y\n" + b"1,2,0\n" * 9999)[:-20])
    with refused(DataError, "data.csv.gz", "not readable CSV"):
        everything(open_source(tmp_path / "data.csv.gz", inputs=ONE))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_missing_table_is_refused(tmp_path, suffix):
    with refused(DataError, f"nope.{suffix}", hint="check the path"):
        open_source(tmp_path / f"nope.{suffix}")


def test_labels_beside_a_table_are_refused(table):
    with refused(UsageError, "--labels", hint="--label-column"):
        open_source(table(), [0, 1, 1, 0])
