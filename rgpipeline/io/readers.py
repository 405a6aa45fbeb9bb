"""Readers: one for each input format, with rows read by range."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import pyarrow as pa

from rgpipeline.io.files import FoundFile
from rgpipeline.records import InputFile


@dataclass(frozen=True, slots=True)
class Scan:
    """What planning learns of one file."""

    rows: int
    schema: pa.Schema
    marks: tuple[int, ...] = ()  # byte offsets to begin reading from, see InputFile


@dataclass(frozen=True, slots=True)
class Rows:
    """A range of rows, and what is wrong with some of them (by place in the table).

    A row with a fault has nulls where it could not be read.
    """

    table: pa.Table
    faults: Mapping[int, str] = field(default_factory=dict)


class Reader(Protocol):
    """Reads the files of one format."""

    def scan(self, file: FoundFile, limit: int | None = None) -> Scan:
        """Counts a file's rows (up to `limit`) and finds its columns.

        Raises InputError naming the file when it is empty, corrupt, truncated or of another
        format; what the store's client raises when that may pass.
        """

    def read(self, file: InputFile, start: int, stop: int, schema: pa.Schema) -> Rows:
        """Rows [start, stop) with exactly the columns and types of `schema`.

        Columns that the file lacks are null. Corrupt stretches come back as faults; raises
        InputError when nothing of the file can be read any more. Ranges read in their order,
        from one thread, are read fastest.
        """


def fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` with exactly the columns of `schema`: missing ones null, types widened.

    Raises ArrowInvalid when a value does not fit its column's type.
    """
    columns = []
    for wanted in schema:
        index = table.schema.get_field_index(wanted.name)
        if index < 0:
            columns.append(pa.nulls(table.num_rows, wanted.type))
        else:
            columns.append(_cast(table.column(index), wanted.type))
    return pa.table(columns, schema=schema)


def sound(rows: Rows) -> Rows:
    """`rows`, with a fault for each that holds what its column's type can't, such as text that
    isn't UTF-8; nothing in such a row is to be relied on.
    """
    table = rows.table
    bad = {row: _fault(table.slice(row, 1)) for row in _unsound(table, 0, table.num_rows)}
    if not bad:
        return rows
    edges = [-1, *sorted(bad), table.num_rows]
    pieces: list[pa.Table] = []
    for before, after in pairwise(edges):
        pieces.append(table.slice(before + 1, after - before - 1))
        if after < table.num_rows:
            pieces.append(nulls(1, table.schema))
    return Rows(pa.concat_tables(pieces), {**bad, **rows.faults})


def nulls(rows: int, schema: pa.Schema) -> pa.Table:
    """A table of `rows` rows with nothing in them."""
    return pa.table([pa.nulls(rows, column.type) for column in schema], schema=schema)


def joined(pieces: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """The pieces one after another."""
    return pa.concat_tables(pieces) if pieces else schema.empty_table()


def _cast(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    if column.type == wanted:
        return column
    if pa.types.is_dictionary(wanted) and pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(wanted)


def _unsound(table: pa.Table, start: int, stop: int) -> Iterator[int]:
    """Rows of [start, stop) with invalid values, found by halving."""
    if start == stop or _is_valid(table.slice(start, stop - start)):
        return
    if stop - start == 1:
        yield start
        return
    middle = (start + stop) // 2
    yield from _unsound(table, start, middle)
    yield from _unsound(table, middle, stop)


def _is_valid(table: pa.Table) -> bool:
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _fault(row: pa.Table) -> str:
    names = [name for name in row.column_names if not _is_valid(row.select([name]))]
    return f"{', '.join(map(repr, names))}: not valid; text must be UTF-8"
