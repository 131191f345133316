"""CSV and Parquet, one file or several with the same columns: read by pyarrow, piece by piece."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from onnxcal.data.arrow import column_array, require_pyarrow
from onnxcal.data.batch import AnyArray, Batch
from onnxcal.data.columns import Columns, choose_columns
from onnxcal.data.streamed import StreamedSource
from onnxcal.data.wanted import Declared
from onnxcal.errors import DataError

CSV_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
PARQUET_SUFFIXES = (".parquet", ".pq")
ROWS = 1 << 16
"""Rows that are read at a time, at most."""


def is_table(path: Path) -> bool:
    """Whether a file is a table by its name."""
    return path.name.lower().endswith((*CSV_SUFFIXES, *PARQUET_SUFFIXES))


class TableSource(StreamedSource):
    """Rows of tables: columns are model inputs, or features of the only one, and the labels."""

    def __init__(
        self,
        paths: Sequence[Path],
        inputs: Collection[str] | Mapping[str, Declared] = (),
        classes: Sequence[str | int] | None = None,
        label_column: str | None = None,
    ) -> None:
        """Look at the columns; nothing else is read yet.

        Parameters
        ----------
        paths : files with the same columns, in the order of their rows.
        inputs : what the model wants, by name, where that is known.
        classes : what the model calls its classes; labels in a CSV are read as text if these are texts.
        label_column : name of the column of labels, default the first of `LABEL_COLUMNS` that is no model input.

        Raises
        ------
        DataError
            A file cannot be read, or its columns do not fit the model or the first file's.
        UsageError
            There is no column `label_column`.
        """
        require_pyarrow()
        self._files = [_open(path) for path in paths]
        first = self._files[0]
        self.name = f"'{paths[0]}'" if len(paths) == 1 else f"'{paths[0]}' and {len(paths) - 1:,} more"
        for file in self._files[1:]:
            if file.names != first.names:
                raise DataError(
                    f"'{file.path}' has other columns than '{first.path}'", hint="shards have the same columns in order"
                )
        self._columns = choose_columns(first.names, inputs, label_column, self.name, first.vectors)
        self._texts = classes is not None and any(isinstance(name, str) for name in classes)
        counts = [file.n_rows for file in self._files]
        self.n_samples = None if None in counts else sum(n for n in counts if n is not None)
        self.notes = self._columns.notes(first.doubles)

    def chunks(self, size: int) -> Iterator[Batch]:
        """Rows as the files hold them, at most `ROWS` at a time.

        Raises
        ------
        DataError
            A value is missing, or none that the model's input can take.
        """
        position = 0
        for file in self._files:
            for table in file.pieces(self._columns, self._texts, min(max(size, 1 << 10), ROWS)):
                arrays = {
                    name: column_array(table.column(name), f"{self.name}: column '{name}'", position)
                    for name in self._columns.names
                }
                arrays = {name: file.typed(array, name, self._columns) for name, array in arrays.items()}
                yield self._columns.batch(arrays, position)
                position += table.num_rows


class _File(Protocol):
    path: Path
    names: list[str]
    n_rows: int | None
    doubles: frozenset[str]
    vectors: frozenset[str]

    def pieces(self, columns: Columns, texts: bool, size: int) -> Iterator[Any]:
        """Record batches with the columns that are read; labels are texts if `texts` says so and the file can."""

    def typed(self, array: AnyArray, name: str, columns: Columns) -> AnyArray:
        """A column, of a CSV whole numbers where all are."""


@dataclass
class _Parquet:
    path: Path
    names: list[str]
    n_rows: int | None
    doubles: frozenset[str]
    vectors: frozenset[str]

    def pieces(self, columns: Columns, texts: bool, size: int) -> Iterator[Any]:
        """Row group by row group."""
        from pyarrow import parquet

        try:
            with parquet.ParquetFile(self.path) as file:
                for piece in file.iter_batches(size, columns=list(columns.names), use_threads=False):
                    if piece.num_rows:
                        yield piece
        except (OSError, ValueError) as error:  # pyarrow's errors derive from these
            raise _unreadable(self.path, error) from None

    def typed(self, array: AnyArray, name: str, columns: Columns) -> AnyArray:
        """As it is: the file says its types."""
        return array


@dataclass
class _Csv:
    path: Path
    names: list[str]
    types: Mapping[str, Any]
    n_rows: int | None = None
    doubles: frozenset[str] = frozenset()
    vectors: frozenset[str] = frozenset()

    def pieces(self, columns: Columns, texts: bool, size: int) -> Iterator[Any]:
        """About a megabyte of text at a time; whole numbers are read as float64, for others may follow."""
        import pyarrow

        as_read: dict[str, Any] = {}
        for name in columns.features:
            wanted, kind = columns.wanted(name), self.types[name]
            if wanted is not None and wanted.dtype == "string":
                as_read[name] = pyarrow.string()
            elif pyarrow.types.is_null(kind) or (pyarrow.types.is_integer(kind) and not _wants_integers(wanted)):
                as_read[name] = pyarrow.float64()
        if columns.label is not None and texts:
            as_read[columns.label] = pyarrow.string()
        try:
            for piece in _csv_reader(self.path, as_read, columns.names):
                if piece.num_rows:
                    yield piece
        except (OSError, ValueError) as error:
            raise _unreadable(self.path, error) from None

    def typed(self, array: AnyArray, name: str, columns: Columns) -> AnyArray:
        """Whole numbers again where all are, so that ids are known as such."""
        import pyarrow

        if name == columns.label or array.dtype != np.float64 or not pyarrow.types.is_integer(self.types[name]):
            return array
        return array.astype(np.int64) if (np.abs(array) < 2**53).all() and (array % 1 == 0).all() else array


def _open(path: Path) -> _File:
    try:
        if path.name.lower().endswith(PARQUET_SUFFIXES):
            from pyarrow import parquet

            with parquet.ParquetFile(path) as file:
                doubles = frozenset(field.name for field in file.schema_arrow if str(field.type) == "double")
                vectors = frozenset(field.name for field in file.schema_arrow if field.type.num_fields == 1)
                return _Parquet(path, list(file.schema_arrow.names), file.metadata.num_rows, doubles, vectors)
        with _csv_reader(path, {}, None) as reader:
            schema = reader.schema
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    _check_header(path, schema.names)
    return _Csv(path, list(schema.names), dict(zip(schema.names, schema.types, strict=True)))


def _csv_reader(path: Path, types: Mapping[str, Any], columns: Sequence[str] | None) -> Any:
    from pyarrow import csv

    separator = "\t" if ".tsv" in path.name.lower() else ","
    return csv.open_csv(
        path,
        read_options=csv.ReadOptions(use_threads=False),
        parse_options=csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=csv.ConvertOptions(column_types=dict(types), include_columns=list(columns or ())),
    )


def _check_header(path: Path, names: Sequence[str]) -> None:
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise DataError(
            f"'{path}' is not separated by {'tabs' if '.tsv' in path.name.lower() else 'commas'}: its first line is "
            f"{names[0][:60]!r}",
            hint="write it with commas, or with tabs as .tsv",
        )
    if all(_is_number(name) for name in names):
        raise DataError(
            f"the first line of '{path}' holds numbers, not the names of its columns", hint="put a line of names first"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _wants_integers(wanted: Declared | None) -> bool:
    return wanted is None or wanted.dtype.startswith(("int", "uint", "bool"))


def _unreadable(path: Path, error: Exception) -> DataError:
    kind = "Parquet" if path.name.lower().endswith(PARQUET_SUFFIXES) else "CSV"
    if isinstance(error, OSError) and error.errno is not None:
        import os

        return DataError(f"cannot read '{path}': {os.strerror(error.errno)}", hint="check the path")
    reason = str(error).splitlines()[0].strip().rstrip(".") if str(error) else type(error).__name__
    return DataError(f"'{path}' is not readable {kind}: {reason[:200]}", hint=f"write it again as {kind}")
